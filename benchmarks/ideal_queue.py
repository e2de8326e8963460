"""The least possible time: servers that take whatever comes, in its order, the moment that one of them is free."""

from collections.abc import Iterable
from heapq import heapify, heapreplace


def ends_of(sends: Iterable[tuple[float, float]], servers: int) -> list[float]:
    """Return the time at which each function ends. `sends`: the arrival and the duration of each, in order."""
    free_at = [float("-inf")] * servers
    heapify(free_at)
    ends = []
    for arrives_at, duration_s in sends:
        ends.append(max(arrives_at, free_at[0]) + duration_s)
        heapreplace(free_at, ends[-1])
    return ends
