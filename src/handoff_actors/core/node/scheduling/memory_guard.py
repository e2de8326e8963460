"""The choice of workers to kill for the memory that they use.

A function that claims memory may use some more than that. One that claims none may use what there is; only when the
machine runs short the largest worker is killed, so that the kernel does not kill something else. A worker's memory is
its own and that of the processes it has started; stored values that it has mapped do not count.
"""

from collections.abc import Collection

from handoff_actors.core.node.events import WorkersSampled
from handoff_actors.core.node.failures import MEGABYTE
from handoff_actors.core.node.scheduling.worker_state import WorkerState

#: Memory of an interpreter and its imports, which claims of memory seldom include.
SLACK_NBYTES = 64_000_000
#: The machine, or the container that the node is in, is short of memory when less than this share of it is left.
SHORT_SHARE = 0.05


def overgrown(
    workers: Collection[WorkerState], sample: WorkersSampled, factor: float
) -> list[tuple[WorkerState, str]]:
    """The workers to kill, each with the reason."""
    if factor == 0:
        return []
    for state in workers:
        state.used_nbytes = sample.used.get(state.worker, 0)
        if state.lent_at > sample.began_at:
            state.used_before_nbytes = state.used_nbytes
    # Of what has been lent since, the sample may show what an earlier function used.
    busy = [
        state
        for state in workers
        if state.held and state.verdict is None and state.lent_at <= sample.began_at
    ]
    found = [
        (state, reason) for state in busy if (reason := _beyond_claim(state, state.claimed_memory_mb, factor))
    ]
    # The worker that has just been ended may have been the whole excess.
    if found or not is_short(sample) or any(state.verdict == "memory" for state in workers):
        return found
    largest = max(busy, key=lambda state: state.used_nbytes, default=None)
    if largest is None or largest.used_nbytes < SLACK_NBYTES:
        return []
    return [(largest, _too_large(largest, sample))]


def is_short(sample: WorkersSampled) -> bool:
    """True if the machine is short of memory."""
    return sample.available_nbytes < SHORT_SHARE * sample.total_nbytes


def _beyond_claim(state: WorkerState, claimed_mb: float | None, factor: float) -> str:
    """The reason to kill a worker for its claim; "" if there is none."""
    if claimed_mb is None:
        return ""
    claimed = claimed_mb * MEGABYTE
    # Memory that an earlier function has left behind in the worker is not this one's fault.
    allowed = max(claimed * factor, claimed + max(SLACK_NBYTES, state.used_before_nbytes))
    if state.used_nbytes <= allowed:
        return ""
    return (
        f"it claims {claimed_mb:g} MB of memory and its worker had {state.used_nbytes / MEGABYTE:.0f} MB, "
        f"which is more than {factor:g} times as much, and was ended"
    )


def _too_large(state: WorkerState, sample: WorkersSampled) -> str:
    return (
        f"the machine or container ran short of memory, {sample.available_nbytes / MEGABYTE:.0f} MB of "
        f"{sample.total_nbytes / MEGABYTE:.0f} MB were left, and its worker had the most, "
        f"{state.used_nbytes / MEGABYTE:.0f} MB, and was ended"
    )
