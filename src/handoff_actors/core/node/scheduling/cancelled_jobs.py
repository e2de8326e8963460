"""Jobs on workers that their run has cancelled: which ones a message means, and what becomes of them.

A coroutine is cancelled. A sync worker can only be killed, and may hold jobs that nobody has cancelled, so it is recalled
first: it gives back what it hasn't started, and what has ended is reported before that. A cancelled job that it still holds
then is the one that runs. A worker that is too busy to answer is killed all the same, after a while, if that job is first.
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

from handoff_actors.core.node.scheduling.worker_state import HeldJob, LossKind, WorkerState
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Ticket


def held_among(
    workers: Iterable[WorkerState], run: RunId, tickets: Iterable[Ticket]
) -> Iterator[tuple[WorkerState, HeldJob]]:
    """The jobs of these attempts that workers hold, but for those that are being cancelled already."""
    states = list(workers)
    for ticket in tickets:
        for state in states:
            held = state.held.get((run, ticket.index))
            if held is not None and held.job.attempt == ticket.attempt and held.verdict is None:
                yield state, held


def cancelled_groups(state: WorkerState) -> set[int]:
    """The `id` of each job on a sync worker that is cancelled, or the first of a fused group with a cancelled member."""
    return {id(held.head or held.job) for held in state.held.values() if held.verdict is not None}


def is_running_cancelled(state: WorkerState) -> bool:
    """True if a sync worker that has just given back what it hadn't started runs a cancelled job, and isn't being killed."""
    return state.verdict is None and any(held.verdict is not None for held in state.held.values())


def is_first(state: WorkerState, held: HeldJob) -> bool:
    """True if a sync worker has begun no later job than this one, as far as its node has heard."""
    return next(iter(state.held.values())) is held


def loss_of(held: HeldJob, state: WorkerState, *, is_alone: bool) -> LossKind | None:
    """Say why a job is lost with its worker; None where it runs again."""
    if held.verdict == "cancelled":
        return "cancelled"
    match held.verdict or state.verdict:
        case "timeout":
            return "timeout"
        case "memory":
            return "memory" if is_alone else None
        case None:
            return "worker" if is_alone else None
        case "closed" | "cancelled" | "idle" | "retired":
            return None
        case verdict:
            assert_never(verdict)
