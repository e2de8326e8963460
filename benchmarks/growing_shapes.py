"""Calls as apps make them, one, many, nested, and what is measured of each, with any framework.

This is imported by the workers of all frameworks: it needs nothing but the standard library.
"""

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import NamedTuple, Protocol

#: The largest part that is sorted by one function, as a share of all numbers.
LEAF_SHARE = 8
WARM_SHARE = 10


class Sizes(NamedTuple):
    """How many there are of each."""

    calls: int = 300
    gathered: int = 5_000
    mapped: int = 100_000
    numbers: int = 1_000_000
    spawned: int = 100_000


FULL = Sizes()
#: For frameworks that take a millisecond or so for a function. Their figures are rates, too.
SMALL = FULL._replace(gathered=2_000, mapped=5_000, spawned=2_000)


class Calls(Protocol):
    """Two workers, and the calls of one framework."""

    async def call(self, number: int) -> int:
        """Call `nothing`, and wait for its result."""

    async def gather(self, count: int) -> list[int]:
        """Call `nothing` so many times at once; return the results."""

    async def map(self, count: int) -> int:
        """Map `nothing` over so many numbers; return the sum of the results."""

    async def quicksort(self, numbers: list[float]) -> list[float]:
        """Sort, in functions that divide, sort and join."""

    async def tree(self, count: int) -> int:
        """Run so many functions, of which each that isn't a leaf spawns two; return how many have run."""


def nothing(number: int) -> int:
    return number


def divide(numbers: list[float]) -> tuple[list[float], list[float]]:
    """Divide numbers that are not all equal at about their median."""
    some = sorted(numbers[:: max(1, len(numbers) // 100)])
    pivot = some[len(some) // 2]
    return [each for each in numbers if each < pivot], [each for each in numbers if each >= pivot]


def join(low: list[float], high: list[float]) -> list[float]:
    return low + high


def count_all(*below: int) -> int:
    return 1 + sum(below)


def below(place: int, count: int) -> list[int]:
    """The two functions below one in a tree of so many, which are numbered level by level; none below a leaf."""
    return [each for each in (2 * place + 1, 2 * place + 2) if each < count]


async def measure(figure: str, calls: Calls, sizes: Sizes) -> float:
    """Measure one figure with workers that are warm. Raises ValueError for a wrong result."""
    for number in range(max(2, sizes.calls // WARM_SHARE)):
        await calls.call(number)
    return await _MEASURES[figure](calls, sizes)


async def _one(calls: Calls, sizes: Sizes) -> float:
    return (
        statistics.median([await _timed(calls.call(number), number) for number in range(sizes.calls)]) * 1e3
    )


async def _gathered(calls: Calls, sizes: Sizes) -> float:
    expected = list(range(sizes.gathered))
    return sizes.gathered / await _timed(calls.gather(sizes.gathered), expected)


async def _mapped(calls: Calls, sizes: Sizes) -> float:
    return sizes.mapped / await _timed(calls.map(sizes.mapped), sum(range(sizes.mapped)))


async def _quicksort(calls: Calls, sizes: Sizes) -> float:
    random = Random(0)
    numbers = [random.random() for _ in range(sizes.numbers)]
    return await _timed(calls.quicksort(numbers), sorted(numbers)) * 1e3


async def _tree(calls: Calls, sizes: Sizes) -> float:
    return sizes.spawned / await _timed(calls.tree(sizes.spawned), sizes.spawned)


async def _timed(work: Awaitable[object], expected: object) -> float:
    """Return the seconds that some work takes."""
    began_at = time.perf_counter()
    result = await work
    took_s = time.perf_counter() - began_at
    if result != expected:
        raise ValueError("the result is wrong")
    return took_s


_MEASURES: Mapping[str, Callable[[Calls, Sizes], Awaitable[float]]] = {
    "call": _one,
    "gather": _gathered,
    "map": _mapped,
    "quicksort": _quicksort,
    "tree": _tree,
}
FIGURES = tuple(_MEASURES)
