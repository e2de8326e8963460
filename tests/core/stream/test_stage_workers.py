"""Workers that move from a node that drains."""

from handoff_actors.core.stream.events import (
    DrainStream,
    LaneClosed,
    ModulesAdded,
    NodeGone,
    NodeLeaving,
    ResultLost,
    StartLane,
    StreamDrained,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import CloseStage, Generate
from tests.core.stream.builders import (
    code,
    ended,
    finish,
    generated,
    generator,
    out,
    place,
    push,
    ready,
    result,
    run,
    send,
    stored,
    stream_of,
    taken,
    up,
)

ELSEWHERE = place(1, attempt=2, node="b")


def leave(stream: StreamMachine, name: str = "a") -> object:
    return stream.handle(NodeLeaving(name), 1.0)


def test_idle_worker_of_a_node_that_drains_ends_and_starts_again_elsewhere() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert leave(stream) == [send(1, CloseStage())]
    assert push(stream) == []
    assert stream.handle(LaneClosed(1, 0), 2.0) == [StartLane(1, 0)]
    assert stream.handle(up(1, attempt=2, node="b"), 3.0) == [send(1, run(1), at=ELSEWHERE)]


def test_worker_ends_its_items_before_it_moves_and_gets_no_others() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)

    assert leave(stream) == []
    assert push(stream) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [
        send(1, CloseStage()),
        ready(result(0, b"a")),
    ]
    assert leave(stream) == []


def test_workers_of_other_nodes_stay() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert leave(stream, "b") == []
    assert push(stream) == [send(1, run(1))]


def test_worker_stays_whose_state_would_be_lost() -> None:
    stream = stream_of(Function("y", ["x"], code, init=code))
    push(stream)
    leave(stream)

    assert stream.handle(ended(1, (1, b"a"), replaced=True), 2.0) == [ready(result(0, b"a"))]
    assert push(stream) == [send(1, run(2))]


def test_worker_that_finishes_stays() -> None:
    stream = stream_of(Function("y", ["x"], code, init=code, finish=finish))

    assert leave(stream) == []
    assert push(stream) == [send(1, run(1))]


def test_worker_that_is_lost_while_it_is_to_move_starts_elsewhere_by_itself() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    leave(stream)

    assert stream.handle(NodeGone("a"), 2.0) == []
    assert stream.handle(up(1, attempt=2, node="b"), 3.0) == [send(1, run(1), at=ELSEWHERE)]


def test_worker_that_is_lost_on_its_way_stays_where_it_starts() -> None:
    stream = stream_of(Function("y", ["x"], code))
    leave(stream)
    stream.handle(NodeGone("a"), 2.0)

    assert stream.handle(up(1, attempt=2, node="b"), 3.0) == []
    assert push(stream) == [send(1, run(1), at=ELSEWHERE)]


def test_worker_that_moves_when_the_stream_ends_does_not_start_again() -> None:
    stream = stream_of(Function("y", ["x"], code))
    leave(stream)

    assert stream.handle(DrainStream(), 2.0) == []
    assert stream.handle(LaneClosed(1, 0), 3.0) == [StreamDrained()]


def test_workers_start_again_for_modules_once_they_have_ended_their_items() -> None:
    stream = stream_of(
        Function("y", ["x"], code),
        Function("z", ["y"], code, init=code, finish=finish),
    )
    push(stream)

    assert stream.handle(ModulesAdded(), 1.0) == []
    assert push(stream) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [send(1, CloseStage()), send(2, run(3, b"a"))]
    assert stream.handle(LaneClosed(1, 0), 3.0) == [StartLane(1, 0)]
    assert stream.handle(up(1, attempt=2), 4.0) == [send(1, run(2), at=place(1, attempt=2))]


def test_worker_that_is_to_move_makes_again_what_its_generator_waits_for() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=1)
    push(stream)
    stream.handle(generated(1, 1, stored(5)), 1.0)
    leave(stream)

    assert stream.handle(ResultLost(stored(5), "gone"), 2.0) == [send(1, Generate(2, [b"v"], 0, 1))]


def test_stream_ends_where_its_workers_have_moved() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["y"], code))
    push(stream)
    leave(stream)
    stream.handle(DrainStream(), 2.0)

    assert stream.handle(LaneClosed(2, 0), 3.0) == [StartLane(2, 0)]
    assert stream.handle(ended(1, (1, b"a")), 4.0) == [send(1, CloseStage())]
    assert stream.handle(LaneClosed(1, 0), 5.0) == [StartLane(1, 0)]
    second = place(2, attempt=2, node="b")
    assert stream.handle(up(2, attempt=2, node="b"), 6.0) == [send(2, run(2, b"a"), at=second)]
    assert stream.handle(ended(2, (2, b"b"), at=second), 7.0) == [ready(result(0, b"b", sink=2))]
    assert taken(stream) == [send(2, CloseStage(), at=second), out(0)]
    assert stream.handle(up(1, attempt=2, node="b"), 8.0) == [send(1, CloseStage(), at=ELSEWHERE)]
    assert stream.handle(LaneClosed(1, 0), 9.0) == []
    assert stream.handle(LaneClosed(2, 0), 10.0) == [StreamDrained()]
