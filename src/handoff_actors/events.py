"""The events of a run that `on_event` gets: one immutable object for each change.

Their types tell them apart:

    match event:
        case events.Finished():
            print(event.function_id, event.ran_s)
        case events.Retried() | events.Lost():
            print(event.function_id, event.reason)
"""

from typing import Any, ClassVar, Protocol

from msgspec import Struct

from handoff_actors.ids import FunctionId, Resources


class RunEvent(Struct, frozen=True, kw_only=True):
    """A change in a run, with the fields that all changes share; some kinds leave some of them at their defaults."""

    #: The kind of event in a word, for programs that compare strings.
    kind: ClassVar[str] = ""

    #: The id of the run's DAG.
    dag_id: FunctionId
    #: When the app learned of it, in seconds since the epoch.
    time: float
    #: The user's id of the function concerned; None where the event is not about a single one.
    function_id: FunctionId = None
    #: The name of the node concerned; "" where the event is about no node, or about the app.
    node: str = ""
    #: The number of times the function has been sent to a node, this one included; 0 if the event is about no function.
    attempt: int = 0
    #: The reason, for people; "" where there is none.
    reason: str = ""


class RunStarted(RunEvent, frozen=True, kw_only=True):
    """The run begins. The first event of each."""

    kind: ClassVar[str] = "run_started"

    #: The number of its functions, serialize hooks included.
    functions: int


class RunFinished(RunEvent, frozen=True, kw_only=True):
    """The run is over. The last event of each."""

    kind: ClassVar[str] = "run_finished"

    #: "finished", "failed" or "cancelled".
    outcome: str
    #: The error that its caller is about to get; None unless the run has failed.
    error: Exception | None = None
    #: Duration of the run, in seconds.
    seconds: float


class Sent(RunEvent, frozen=True, kw_only=True):
    """A function is sent to a node, where it may have to wait."""

    kind: ClassVar[str] = "assigned"


class Started(RunEvent, frozen=True, kw_only=True):
    """A function has got to a worker process of the node: it runs, or will after others that take a moment."""

    kind: ClassVar[str] = "started"


class Finished(RunEvent, frozen=True, kw_only=True):
    """A function has succeeded."""

    kind: ClassVar[str] = "completed"

    #: Seconds that its code ran.
    ran_s: float
    #: The process id of the worker.
    worker: int
    #: Size of its encoded value.
    nbytes: int


class Reused(RunEvent, frozen=True, kw_only=True):
    """A function does not run, as the journal of an earlier run has its value."""

    kind: ClassVar[str] = "reused"


class Retried(RunEvent, frozen=True, kw_only=True):
    """An attempt has failed, for this `reason`, and there will be another, perhaps after a pause."""

    kind: ClassVar[str] = "retried"


class Lost(RunEvent, frozen=True, kw_only=True):
    """An attempt is gone with its worker, its node or an input. There will be another, which costs no retry."""

    kind: ClassVar[str] = "lost"


class Recalled(RunEvent, frozen=True, kw_only=True):
    """A node has given a function back unstarted, to be sent elsewhere or by itself."""

    kind: ClassVar[str] = "recalled"


class WorkerRetired(RunEvent, frozen=True, kw_only=True):
    """A worker gets no more functions, for this `reason`: the function has left something behind in it."""

    kind: ClassVar[str] = "worker_retired"


class Failed(RunEvent, frozen=True, kw_only=True):
    """A function has failed for good, which ends the run unless that has `on_failure="continue"`."""

    kind: ClassVar[str] = "failed"


class Skipped(RunEvent, frozen=True, kw_only=True):
    """A function will not run, for this `reason`: one that it depends on has failed or was skipped, or a condition is false.

    `attempt` is above 0 where that showed in the worker; a function that has returned `SKIP` counts as skipped, too.
    """

    kind: ClassVar[str] = "skipped"


class Moved(RunEvent, frozen=True, kw_only=True):
    """A function's value, or a large constant (`function_id` is None), has been transferred to a node or to the app."""

    kind: ClassVar[str] = "moved"

    nbytes: int
    #: Seconds from the request until the value was there.
    took_s: float


class ValueRelayed(RunEvent, frozen=True, kw_only=True):
    """A function's value begins to go through the app, since `node`, which needs it, gets no connection to any that has it."""

    kind: ClassVar[str] = "value_relayed"

    #: The name of the node that it comes from.
    holder: str
    nbytes: int


class NodeJoined(RunEvent, frozen=True, kw_only=True):
    """A node takes part in the run from now on."""

    kind: ClassVar[str] = "node_joined"

    capabilities: Resources


class NodeLeft(RunEvent, frozen=True, kw_only=True):
    """A node no longer takes part in the run: it is gone."""

    kind: ClassVar[str] = "node_left"


class FunctionProgressed(RunEvent, frozen=True, kw_only=True):
    """A running function has told how far it is, with `handoff.current().set_progress()`.

    At most about ten a second come from each function; the last one comes before the function's end.
    """

    kind: ClassVar[str] = "progressed"

    #: In a unit of the function's own.
    done: float
    #: The amount that will have been done in the end; None: the function does not know.
    total: float | None = None


class ValueEmitted(RunEvent, frozen=True, kw_only=True):
    """A running function has emitted a value, with `handoff.current().emit()`.

    The values of an attempt come in order and before its end, also where that fails and another attempt follows.
    """

    kind: ClassVar[str] = "emitted"

    #: None, with a `reason`, where the value can't be decoded here.
    value: Any


class StageUp(RunEvent, frozen=True, kw_only=True):
    """A worker of a stage of a stream takes items from now on: at the beginning, or in the place of one that is gone."""

    kind: ClassVar[str] = "stage_up"

    #: Its number among the workers of the stage.
    worker: int


class StageDown(RunEvent, frozen=True, kw_only=True):
    """A worker of a stage takes no more items, for this `reason`: lost, stopped, moving or not needed. Its items go elsewhere."""

    kind: ClassVar[str] = "stage_down"

    #: Its number among the workers of the stage.
    worker: int


class StageProgressed(RunEvent, frozen=True, kw_only=True):
    """The progress of a stage of a stream: about once a second, where anything has changed, and at the end."""

    kind: ClassVar[str] = "stage_progressed"

    #: Items that have ended at the stage, well or not, and those of them that have failed; of a generator, its results.
    items: int
    failed: int
    #: Items per second since the event before.
    items_per_s: float
    #: Items that wait for a worker, and those that workers have been given.
    queued: int
    with_workers: int
    #: Workers that take items.
    workers: int


class ItemRetried(RunEvent, frozen=True, kw_only=True):
    """An attempt at an item of a stream has failed at a stage, for this `reason`, and there will be another."""

    kind: ClassVar[str] = "item_retried"

    #: The number of the item: that of its push.
    number: int
    #: The kind of failure, as of `ItemError`.
    failure_kind: str


class ItemFailed(RunEvent, frozen=True, kw_only=True):
    """An item of a stream has failed for good. `function_id` is None if that was at none of the stages, but at the output."""

    kind: ClassVar[str] = "item_failed"

    #: The number of the item: that of its push.
    number: int
    #: The kind of failure, as of `ItemError`.
    failure_kind: str


class Output(RunEvent, frozen=True, kw_only=True):
    """A line that a function has printed, or a record that it has logged."""

    kind: ClassVar[str] = "output"

    #: "stdout", "stderr" or "log".
    stream: str
    #: The line without its end; a record's message.
    line: str


class OutputLost(RunEvent, frozen=True, kw_only=True):
    """Output of a function was dropped, for want of room."""

    kind: ClassVar[str] = "output_lost"

    #: The number of lines, or records, dropped since the last such event of the function.
    lines: int


class EventsLost(RunEvent, frozen=True, kw_only=True):
    """An `on_event` that is awaited was too far behind."""

    kind: ClassVar[str] = "events_lost"

    #: The number of events that have been dropped at this place in their order.
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
