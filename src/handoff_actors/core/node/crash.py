"""A node's last words, before it ends because of a bug of its own."""

from handoff_actors.core.node.events import (
    InputFetched,
    InputMissing,
    MessageFromPeer,
    NodeEvent,
    OutputReceived,
    SpillFailed,
    ValueSpilled,
    WorkerDone,
    WorkerFailed,
)
from handoff_actors.ids import RunId
from handoff_actors.text import encodable, shortened, str_of
from handoff_actors.wire.messages.runs import Assign, CancelJobs, Close, Copy, Crashed, Recall, Stop

#: Characters of the reason that others are told.
MOST_REASON = 1000


def crash_report(error: Exception, event: NodeEvent | None) -> Crashed:
    """Tell all peers why the node ends. `event` is what it was handling; None where time alone had passed."""
    said = encodable(f"{type(error).__name__}: {str_of(error, MOST_REASON)}")
    return Crashed(_run_of(event), shortened(said, MOST_REASON))


def _run_of(event: NodeEvent | None) -> RunId | None:
    """The run that an event is about; None where that can't be told."""
    match event:
        case MessageFromPeer(
            _, Assign(run) | Copy(run) | Recall(run) | CancelJobs(run) | Stop(run) | Close(run)
        ):
            return run
        case (
            WorkerDone(run=run)
            | WorkerFailed(run=run)
            | OutputReceived(run=run)
            | InputFetched(run=run)
            | InputMissing(run=run)
            | ValueSpilled(run=run)
            | SpillFailed(run=run)
        ):
            return run
        case _:
            return None
