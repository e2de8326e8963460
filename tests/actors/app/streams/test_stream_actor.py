"""A stream's machine between the messages of its stages, the store, and whoever takes its results."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.app.streams.stream_actor import FIRST_PUSHED_INDEX, StreamActor
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.stream.events import (
    ItemObserved,
    Stored,
    StreamResult,
    Taken,
    Vertex,
    WorkerObserved,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.errors import FunctionFailed, HandoffError, NodeLost, RemoteProtocolError, WorkerDied
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import Ref, ValueKey
from handoff_actors.wire.messages.members import Advert
from handoff_actors.wire.messages.runs import Drop
from handoff_actors.wire.messages.stage_rows import FromStage, ItemsEnded, RunItem, StageReady
from handoff_actors.wire.messages.stages import StageInput, StageOutput
from handoff_actors.workers.stage_protocol import content_of, to_stage

RUN = RunId(1)
LIMIT = 100
LARGE = b"x" * 1000
STAGE = 1


class Stream:
    """A stream of one stage, with all that is around its actor. See StreamHost, StageLanes and StreamListener."""

    def __init__(self) -> None:
        dag = DAG()
        dag.call(str, dag.call(None, type="input", id="in"), id="stage")
        self.sent: list[tuple[str, ToNode]] = []
        self.values: dict[Index, Buffer] = {}
        self.fetches: list[tuple[Index, list[str], Callable[[Buffer | FetchFailure], None]]] = []
        self.started: list[tuple[Vertex, int, Callable[[HandoffError | None], None]]] = []
        self.stopped: list[tuple[Vertex, int]] = []
        self.results: list[StreamResult] = []
        self.up: list[tuple[Vertex, int, str]] = []
        self.error: HandoffError | None = None
        self.room_was_freed = False
        self.seen: list[ItemObserved | WorkerObserved] = []
        machine = StreamMachine(StreamPlan.compile(dag), StreamOptions(is_observed=True))
        self.actor = StreamActor(RUN, machine, self.values, LIMIT, self, self, self)
        self.actor.start()

    def adverts(self) -> list[Advert]:
        return []

    def send(self, name: str, message: ToNode) -> None:
        self.sent.append((name, message))

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | FetchFailure], None],
        version: int = 0,
    ) -> Callable[[], None]:
        assert (run, nbytes, version) == (RUN, 1000, 0)
        self.fetches.append((index, holders, done))
        return lambda: None

    def start(self, stage: Vertex, lane: int, ended: Callable[[HandoffError | None], None]) -> None:
        self.started.append((stage, lane, ended))

    def stop(self, stage: Vertex, lane: int) -> None:
        self.stopped.append((stage, lane))

    def lane_up(self, stage: Vertex, lane: int, node: str) -> None:
        self.up.append((stage, lane, node))

    def results_ready(self, owner: int, results: Sequence[StreamResult]) -> None:
        assert owner == 0
        self.results += results

    def items_out(self, owner: int, count: int) -> None:
        assert owner == 0

    def observed(self, seen: ItemObserved | WorkerObserved) -> None:
        self.seen.append(seen)

    def room_freed(self) -> None:
        self.room_was_freed = True

    def stream_failed(self, error: HandoffError) -> None:
        self.error = error

    def stream_drained(self) -> None:
        pass

    # --- What tests do ------------------------------------------------------------------------------------------

    def say(self, *rows: FromStage, attempt: int = 1) -> None:
        message = StageOutput(RUN, Index(0), Attempt(attempt), content_of(rows))
        self.actor.stage_said("n1", message)

    async def rows(self) -> list[tuple[int, object]]:
        """The rows that were sent in this turn, with the attempts that they are for."""
        await asyncio.sleep(0)
        messages = [message for _, message in self.sent if isinstance(message, StageInput)]
        self.sent.clear()
        return [(message.attempt, row) for message in messages for row in to_stage(message.content)]


@pytest.fixture
async def stream() -> Stream:
    made = Stream()
    made.say(StageReady(STAGE, 0))
    return made


async def test_item_goes_to_the_worker_and_its_result_to_the_listener(stream: Stream) -> None:
    assert [start[:2] for start in stream.started] == [(STAGE, 0)]
    assert stream.up == [(STAGE, 0, "n1")]
    assert stream.seen == [WorkerObserved(STAGE, 0, "n1", is_up=True)]

    assert stream.actor.push(0, [(b"in", ())]) == 0
    [(attempt, row)] = await stream.rows()
    assert isinstance(row, RunItem)
    assert (attempt, row.values) == (1, (b"in",))

    stream.say(ItemsEnded([(row.number, b"out", ())], 0.1, has_replaced_state=False))
    assert stream.results == [StreamResult(0, {STAGE: b"out"})]


async def test_items_that_one_turn_of_the_loop_pushes_are_counted_at_once_and_sent_together(
    stream: Stream,
) -> None:
    room = 0
    while stream.actor.has_room():
        assert stream.actor.push(0, [(b"in", ())]) == room
        room += 1
    await asyncio.sleep(0)

    assert room == StreamOptions().in_flight
    assert [name for name, _ in stream.sent] == ["n1"]


async def test_room_that_comes_before_what_was_pushed_is_handed_over_is_told_of(stream: Stream) -> None:
    for _ in range(StreamOptions().in_flight - 1):
        stream.actor.push(0, [(b"in", ())])
    [(_, row), *_] = await stream.rows()
    assert isinstance(row, RunItem)
    stream.actor.push(0, [(b"in", ())])
    assert not stream.actor.has_room()

    stream.say(ItemsEnded([(row.number, None, ())], 0.1, has_replaced_state=False))
    stream.room_was_freed = False
    await asyncio.sleep(0)

    assert stream.room_was_freed


async def test_large_value_waits_in_the_app_until_nothing_needs_it(stream: Stream) -> None:
    stream.actor.push(0, [(LARGE, ())])
    await asyncio.sleep(0)

    [(name, message)] = stream.sent
    assert isinstance(message, StageInput)
    assert (name, message.needs) == ("n1", [Ref(FIRST_PUSHED_INDEX, 1000, [""])])
    assert stream.values == {FIRST_PUSHED_INDEX: LARGE}

    [row] = to_stage(message.content)
    assert isinstance(row, RunItem)
    stream.say(ItemsEnded([(row.number, b"out", ())], 0.1, has_replaced_state=False))
    assert stream.values == {}


async def test_large_result_is_fetched_from_its_node_and_then_dropped_there(stream: Stream) -> None:
    stream.actor.push(0, [(b"in", ())])
    [(_, row)] = await stream.rows()
    assert isinstance(row, RunItem)
    stream.say(ItemsEnded([(row.number, (77, 1000), ())], 0.1, has_replaced_state=False))
    value = Stored(Index(77), 1000, "n1")
    assert stream.results == [StreamResult(0, {STAGE: value})]

    fetched: list[Buffer | FetchFailure] = []
    stream.actor.fetch(value, fetched.append)
    [(index, holders, done)] = stream.fetches
    assert (index, holders) == (77, ["n1"])
    done(LARGE)
    assert fetched == [LARGE]

    stream.actor.feed(Taken(0, 1))
    assert stream.sent == [("n1", Drop(RUN, [ValueKey(Index(77), 0)]))]


async def test_result_that_is_lost_with_its_node_is_made_again_and_fetched(stream: Stream) -> None:
    stream.actor.push(0, [(b"in", ())])
    [(_, row)] = await stream.rows()
    assert isinstance(row, RunItem)
    stream.say(ItemsEnded([(row.number, (77, 1000), ())], 0.1, has_replaced_state=False))
    fetched: list[Buffer | FetchFailure] = []
    stream.actor.fetch(Stored(Index(77), 1000, "n1"), fetched.append)

    stream.fetches.pop()[2](FetchFailure("input", "the node is gone"))
    stream.actor.node_lost("n1")
    assert fetched == []
    stream.say(StageReady(STAGE, 0), attempt=2)
    [(attempt, again)] = await stream.rows()
    assert isinstance(again, RunItem)
    assert attempt == 2
    stream.say(ItemsEnded([(again.number, (78, 1000), ())], 0.1, has_replaced_state=False), attempt=2)

    [(index, _, done)] = stream.fetches
    assert index == 78
    done(LARGE)
    assert fetched == [LARGE]
    assert len(stream.results) == 1


async def test_items_of_an_attempt_that_is_lost_go_to_the_next_one(stream: Stream) -> None:
    stream.actor.push(0, [(b"in", ())])
    [(_, row)] = await stream.rows()
    assert isinstance(row, RunItem)

    stream.say(StageReady(STAGE, 0), attempt=2)

    [(attempt, again)] = await stream.rows()
    assert isinstance(again, RunItem)
    assert (attempt, again.values) == (2, (b"in",))
    # The first one may have got so far.
    stream.say(ItemsEnded([(row.number, b"late", ())], 0.1, has_replaced_state=False))
    assert stream.results == []
    stream.say(ItemsEnded([(again.number, b"out", ())], 0.1, has_replaced_state=False), attempt=2)
    assert stream.results == [StreamResult(0, {STAGE: b"out"})]


@pytest.mark.parametrize(
    "error",
    [
        WorkerDied("stage", "n1", 3, "it was killed", 9),
        FunctionFailed("stage", "n1", 1, "it used too much", kind="memory"),
        NodeLost("n1", "it is gone"),
    ],
)
async def test_worker_that_was_lost_is_started_again(stream: Stream, error: HandoffError) -> None:
    stream.started.pop()[2](error)

    assert [start[:2] for start in stream.started] == [(STAGE, 0)]
    assert stream.error is None


async def test_worker_that_has_raised_ends_the_stream(stream: Stream) -> None:
    error = FunctionFailed("stage", "n1", 1, "close raised")

    stream.started.pop()[2](error)

    assert stream.error is error
    assert stream.started == []


async def test_breach_of_the_protocol_ends_the_stream(stream: Stream) -> None:
    stream.actor.stage_said("n1", StageOutput(RUN, Index(0), Attempt(1), b"\xc1"))

    assert isinstance(stream.error, RemoteProtocolError)


async def test_nothing_of_a_stream_that_is_closed_stays_in_the_app(stream: Stream) -> None:
    stream.actor.push(0, [(LARGE, ())])

    stream.actor.close()

    assert stream.values == {}
    stream.say(StageReady(STAGE, 0), attempt=2)
    assert stream.error is None
