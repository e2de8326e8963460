"""What `on_event` is told of a run: one object for each change, which nothing changes any more.

Told apart by their types:

    match event:
        case events.Finished():
            print(event.function_id, event.ran_s)
        case events.Retried() | events.Lost():
            print(event.function_id, event.reason)
"""

from typing import ClassVar, Protocol

from msgspec import Struct

from handoff_actors.ids import FunctionId, Resources


class RunEvent(Struct, frozen=True, kw_only=True):
    """A change in a run, and what all changes have: which of these say something depends on the kind."""

    #: The same in a word, for whoever compares strings.
    kind: ClassVar[str] = ""

    #: The id of the DAG that is run.
    dag_id: FunctionId
    #: When the app learned of it, in seconds since the epoch.
    time: float
    #: The user's id of the function concerned; None where it is about no single one.
    function_id: FunctionId = None
    #: The name of the node concerned; "" where it is about none, or about the app.
    node: str = ""
    #: How often the function has been sent out, this time included; 0 where it is about none.
    attempt: int = 0
    #: For people; "" where there is nothing to say.
    reason: str = ""


class RunStarted(RunEvent, frozen=True, kw_only=True):
    """The run begins. The first event of each."""

    kind: ClassVar[str] = "run_started"

    #: How many functions it has, serialize hooks included.
    functions: int


class RunFinished(RunEvent, frozen=True, kw_only=True):
    """The run is over. The last event of each."""

    kind: ClassVar[str] = "run_finished"

    #: "finished", "failed" or "cancelled".
    outcome: str
    #: What its caller is about to be raised; None unless it has failed.
    error: Exception | None = None
    #: Since it began.
    seconds: float


class Sent(RunEvent, frozen=True, kw_only=True):
    """A function leaves for a node, where it may have to wait."""

    kind: ClassVar[str] = "assigned"


class Started(RunEvent, frozen=True, kw_only=True):
    """A worker process of the node has it in hand: it runs, or does so after others that take a moment."""

    kind: ClassVar[str] = "started"


class Finished(RunEvent, frozen=True, kw_only=True):
    """A function has ended well."""

    kind: ClassVar[str] = "completed"

    #: Seconds that its code took.
    ran_s: float
    #: The process id of the worker.
    worker: int
    #: Size of its encoded value.
    nbytes: int


class Reused(RunEvent, frozen=True, kw_only=True):
    """A function does not run, as the journal of an earlier run has its value."""

    kind: ClassVar[str] = "reused"


class Retried(RunEvent, frozen=True, kw_only=True):
    """An attempt has failed, for this reason, and there will be another, perhaps after a pause."""

    kind: ClassVar[str] = "retried"


class Lost(RunEvent, frozen=True, kw_only=True):
    """An attempt is gone with its worker, its node or an input. There will be another, which costs no retry."""

    kind: ClassVar[str] = "lost"


class Recalled(RunEvent, frozen=True, kw_only=True):
    """A function comes back unstarted, to be sent elsewhere or by itself."""

    kind: ClassVar[str] = "recalled"


class Failed(RunEvent, frozen=True, kw_only=True):
    """A function has failed for good, which ends the run."""

    kind: ClassVar[str] = "failed"


class Moved(RunEvent, frozen=True, kw_only=True):
    """The value of a function, or a large constant (`function_id` is None), has been brought to a node or to the app."""

    kind: ClassVar[str] = "moved"

    nbytes: int
    #: Seconds from the wish to have it until it was there.
    took_s: float


class NodeJoined(RunEvent, frozen=True, kw_only=True):
    """A node takes part in the run from now on."""

    kind: ClassVar[str] = "node_joined"

    capabilities: Resources


class NodeLeft(RunEvent, frozen=True, kw_only=True):
    """A node takes part no more: it is gone."""

    kind: ClassVar[str] = "node_left"


class Output(RunEvent, frozen=True, kw_only=True):
    """A line that a function has printed, or a record that it has logged."""

    kind: ClassVar[str] = "output"

    #: "stdout", "stderr" or "log".
    stream: str
    #: Without the end of the line. Of a record, its message.
    line: str


class OutputLost(RunEvent, frozen=True, kw_only=True):
    """A function has printed more than there was room for."""

    kind: ClassVar[str] = "output_lost"

    #: How many lines, or records, have been dropped since this was last said of that function.
    lines: int


class EventsLost(RunEvent, frozen=True, kw_only=True):
    """An `on_event` that is awaited was too far behind."""

    kind: ClassVar[str] = "events_lost"

    #: How many events have been dropped at this place in their order.
    events: int


class OnEvent(Protocol):
    """A callback for the changes of a run: any function that takes one event.

    It may return an awaitable, as a coroutine function does; that is awaited before the next event's is. Its first exception
    is logged, and the run goes on.
    """

    def __call__(self, event: RunEvent, /) -> object:
        """Take note of one change.

        :param event: The change; see `handoff.events` for its classes.
        """
