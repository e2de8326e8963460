"""The report of one function."""

from dataclasses import dataclass

from handoff_actors.ids import FunctionId
from handoff_actors.report.breakdown import NOTHING, Breakdown


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """The report of one function's last attempt. Times are seconds since the run began, and 0.0 for what has not happened."""

    #: The function's id.
    function_id: FunctionId
    #: The name of the node that ran it.
    node: str
    #: Process id of the worker.
    worker: int
    #: The number of times it was sent to a node; 0 for one that was reused.
    attempts: int
    #: When its inputs were there.
    queued_at: float
    #: When it began: an estimate, see `report.timeline`.
    started_at: float
    #: When it ended: an estimate, too. Nothing that takes its result begins before.
    finished_at: float
    #: Seconds that it took on its worker, as measured there.
    ran_s: float
    #: Bytes of stored inputs that had to be brought to its node.
    moved_nbytes: int
    #: Encoded size of its result.
    result_nbytes: int
    #: When it left for its node.
    sent_at: float = 0.0
    #: The parts of the time until `finished_at`.
    time: Breakdown = NOTHING
    #: Its end: "done", "reused", "failed" (for good), "skipped" (see `events.Skipped`) or "unfinished".
    outcome: str = "done"
    #: Why a worker was retired after it: what it has left behind there; "" where none was.
    retired: str = ""
    #: The id of the function that has added it; None for those of the app.
    parent: FunctionId | None = None
