"""Short ways to streams whose workers are up, and to what happens in them.

Workers are on node "a" from the start. Items at stages are numbered from 1, in the order in which they come to a queue.
"""

from collections.abc import Iterator, Sequence

from handoff_actors.core.stream.events import (
    DropValues,
    ItemFailure,
    ItemOut,
    ItemOutcome,
    LanePlace,
    LaneUp,
    NewItem,
    Pushed,
    ResultsReady,
    SendToStage,
    StageEnd,
    StageEnded,
    StageGenerated,
    StartLane,
    Stored,
    StreamEffect,
    StreamEvent,
    StreamResult,
    Taken,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.errors import HandoffError
from handoff_actors.graph import DAG, Function
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.wire.messages.stage_rows import CloseStage, RunItem, ToStage

ERROR = HandoffError("lost too often")
INPUT = Function("x", [], None, type="input")
CLOSE = CloseStage()


def code(*args: object) -> None: ...


def key(value: object) -> None: ...


def finish(state: object) -> None: ...


def generator(*args: object) -> Iterator[None]:
    yield None


async def async_code(*args: object) -> None: ...


class CheckedStream(StreamMachine):
    """A stream that checks its invariants after each event."""

    def handle(self, event: StreamEvent, now: float) -> list[StreamEffect]:
        effects = super().handle(event, now)
        self.check()
        return effects

    def wake(self, now: float) -> list[StreamEffect]:
        effects = super().wake(now)
        self.check()
        return effects


def plan_of(*functions: Function) -> StreamPlan:
    """The plan of an input "x", number 0, and of these."""
    return StreamPlan.compile(DAG("dag").add_functions([INPUT, *functions]))


def new_stream(*functions: Function, **options: object) -> StreamMachine:
    """A stream that has not started."""
    return CheckedStream(plan_of(*functions), StreamOptions(**options))  # type: ignore[arg-type]


def stream_of(*functions: Function, **options: object) -> StreamMachine:
    """A stream whose workers are all up."""
    stream = new_stream(*functions, **options)
    for effect in stream.start(0.0):
        assert isinstance(effect, StartLane)
        assert stream.handle(up(effect.stage, effect.lane), 0.0) == []
    return stream


def place(stage: int = 1, lane: int = 0, attempt: int = 1, node: str = "a") -> LanePlace:
    return LanePlace(node, stage * 10 + lane, attempt)


def up(stage: int = 1, lane: int = 0, attempt: int = 1, node: str = "a") -> LaneUp:
    return LaneUp(stage, lane, place(stage, lane, attempt, node))


def push(
    stream: StreamMachine,
    *values: bytes | Stored,
    owner: int = 0,
    keys: Sequence[int] = (),
    now: float = 0.0,
) -> list[StreamEffect]:
    given = [(value, keys) for value in values or (b"v",)]
    return stream.handle(Pushed([NewItem(stream.next_number, owner, given)]), now)


def ended(
    stage: int,
    *ends: tuple[int, ItemOutcome],
    lane: int = 0,
    keys: Sequence[int] = (),
    at: LanePlace | None = None,
    seconds: float = 1.0,
    replaced: bool = False,
) -> StageEnded:
    given = [StageEnd(number, outcome, keys) for number, outcome in ends]
    return StageEnded(at or place(stage, lane), given, seconds, replaced)


def generated(
    stage: int,
    number: int,
    *results: ItemOutcome,
    end: bool = False,
    failure: ItemFailure | None = None,
    lane: int = 0,
    at: LanePlace | None = None,
) -> StageGenerated:
    given = [StageEnd(number, result) for result in results]
    return StageGenerated(at or place(stage, lane), number, given, end, failure, 1.0)


def failure(reason: str = "it raised", *, stage: int | None = None, attempts: int = 1) -> ItemFailure:
    return ItemFailure("exception", b"error", reason, stage=stage, attempts=attempts)


def stored(index: int, nbytes: int = 100, node: str = "a") -> Stored:
    return Stored(index, nbytes, node)


def send(
    stage: int, *rows: ToStage, lane: int = 0, needs: Sequence[Stored] = (), at: LanePlace | None = None
) -> SendToStage:
    return SendToStage(at or place(stage, lane), list(rows), list(needs))


def run(number: int, *values: bytes | tuple[int, int]) -> RunItem:
    return RunItem(number, list(values) or [b"v"])


def result(number: int, outcome: bytes | Stored | ItemFailure, sink: int = 1) -> StreamResult:
    return StreamResult(number, outcome if isinstance(outcome, ItemFailure) else {sink: outcome})


def ready(*results: StreamResult, owner: int = 0) -> ResultsReady:
    return ResultsReady(owner, list(results))


def taken(stream: StreamMachine, count: int = 1, owner: int = 0, now: float = 0.0) -> list[StreamEffect]:
    return stream.handle(Taken(owner, count), now)


def out(number: int, owner: int = 0) -> ItemOut:
    return ItemOut(owner, number)


def dropped(*values: Stored) -> DropValues:
    return DropValues(list(values))
