"""A node's messages about attempts that failed."""

from handoff_actors.core.node.events import (
    MessageFromPeer,
    NodeEffect,
    Reply,
    ReportProtocolError,
    WorkerExited,
)
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import Index, RunId
from handoff_actors.text import exact
from handoff_actors.wire.messages.jobs import NO_TRACES, Done, Job, Template, Ticket, Traces
from handoff_actors.wire.messages.nested import Probe
from handoff_actors.wire.messages.runs import (
    Assign,
    CancelJobs,
    Close,
    Copy,
    Drop,
    Failed,
    FailureKind,
    Recall,
    Rejected,
    Stop,
)

MEGABYTE = 1e6
#: The reason given for an attempt that its run has cancelled.
CANCELLED = "cancelled by the app"


def failure(
    run: RunId,
    job: Job | Ticket,
    kind: FailureKind,
    reason: str,
    *,
    error: bytes = b"",
    lost: Index | None = None,
    ran_s: float = 0.0,
    traces: Traces = NO_TRACES,
) -> Failed:
    """The message about a failed attempt whose worker survives, or that never had one."""
    return Failed(run, job.index, job.attempt, kind, error, reason, lost, None, None, ran_s, traces)


def death(run: RunId, job: Job, kind: FailureKind, reason: str, end: WorkerExited, ran_s: float) -> Failed:
    """The message about an attempt whose worker has ended."""
    return Failed(
        run, job.index, job.attempt, kind, b"", reason, None, end.signal, end.exit_code, ran_s, end.traces
    )


def no_room(run: RunId, entry: Done, nbytes: int, spill_policy: SpillPolicy) -> Failed:
    """The message about an attempt whose result can't be stored."""
    held, limit = spill_policy.nbytes / MEGABYTE, (spill_policy.limit_nbytes or 0) / MEGABYTE
    reason = (
        f"its result of {nbytes / MEGABYTE:.1f} MB can't be stored: {held:.1f} MB are in memory, "
        f"{limit:.1f} MB may be, and the disk takes no more: {spill_policy.refusal}"
    )
    return Failed(run, entry.index, entry.attempt, "store", b"", reason, None, None, None, entry.ran_s)


def too_long(template: Template) -> str:
    """The reason given for an attempt that exceeded its time limit."""
    assert template.timeout is not None, "it has a time limit"
    return f"it did not end within its timeout of {exact(template.timeout)} s, and was stopped"


def how_it_ended(event: WorkerExited) -> str:
    """The reason given for an attempt whose worker died."""
    how = f"signal {event.signal}" if event.signal is not None else f"exit code {event.exit_code}"
    return f"the worker that ran it died by {how}"


def rejection(event: MessageFromPeer, reason: str) -> list[NodeEffect]:
    """Report a message that is not in the protocol, to its run too."""
    effects: list[NodeEffect] = [ReportProtocolError(event.peer, reason)]
    match event.message:
        case (
            Assign(run)
            | Copy(run)
            | Recall(run)
            | CancelJobs(run)
            | Stop(run)
            | Drop(run)
            | Close(run)
            | Probe(run)
        ):
            effects.append(Reply(event.peer, Rejected(run, reason)))
        case _:
            # No run waits for it.
            pass
    return effects
