from handoff_actors.core.stream.events import DrainStream, NodeLeaving
from handoff_actors.core.stream.view import StageFacts, StageWorkerFacts
from handoff_actors.graph import Function
from handoff_actors.wire.messages.members import StageProgress
from tests.core.stream.builders import (
    code,
    ended,
    failure,
    generated,
    generator,
    new_stream,
    place,
    push,
    stream_of,
    up,
)


def test_view_has_the_stages_in_the_order_of_the_graph() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), Function("z", ["y"], code), in_flight=5)
    for _ in range(4):
        push(stream)
    stream.handle(ended(1, (1, b"a")), 1.0)
    stream.handle(ended(1, (3, failure()), seconds=2.0), 2.0)

    view = stream.view
    assert (view.pushed, view.failed, view.in_flight, view.in_flight_at_most) == (4, 1, 4, 5)
    first, second = view.stages()
    assert (first.function_id, first.ended, first.failed) == ("y", 2, 1)
    assert (first.queued, first.with_workers, first.workers_up) == (0, 2, 2)
    assert second == StageFacts(2, "z", 0, 0, 0, 0, [StageWorkerFacts(0, "working", "a", 1)])


def test_stage_is_busy_with_what_it_has_ended_of_late_and_with_what_it_works_on() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["x"], code, parallelism=2))
    push(stream, now=10.0)
    stream.handle(ended(1, (1, b"a"), seconds=2.0), 12.0)

    # Of the last five seconds, one is within the two of the first stage; one of two workers of the second one still works.
    assert stream.view.busy_shares(0.0, 16.0) == {1: 0.2, 2: 0.5}
    assert stream.view.busy_shares(8.0, 12.0) == {1: 0.5, 2: 0.25}
    assert stream.view.busy_shares(12.0, 12.0) == {1: 0.0, 2: 0.0}
    stream.handle(ended(2, (2, b"a"), seconds=6.0), 16.0)
    assert stream.view.busy_shares(0.0, 30.0) == {1: 0.0, 2: 0.0}


def test_generator_whose_results_wait_is_not_busy() -> None:
    stream = stream_of(Function("y", ["x"], generator), in_flight=2)
    push(stream)
    assert stream.view.busy_shares(0.0, 2.0) == {1: 1.0}
    stream.handle(generated(1, 1, b"a"), 2.0)
    stream.handle(generated(1, 1, b"b"), 2.0)

    assert stream.view.busy_shares(2.0, 4.0) == {1: 0.0}


def test_monitors_are_told_of_the_stages_and_their_nodes() -> None:
    stream = new_stream(Function("y", ["x"], code, parallelism=3))
    stream.start(0.0)
    assert stream.view.progress() == [StageProgress("'y'", [], 0, 0, 0, 0, 0)]
    for lane, node in enumerate(("b", "a", "b")):
        stream.handle(up(1, lane, node=node), 0.0)
    for _ in range(3):
        push(stream)
    stream.handle(ended(1, (1, failure()), at=place(1, node="b")), 1.0)

    assert stream.view.progress() == [StageProgress("'y'", ["a", "b"], 3, 1, 1, 0, 2)]


def test_worker_says_what_it_does() -> None:
    stream = new_stream(Function("y", ["x"], code, timeout=5.0))

    def state() -> str:
        return stream.view.stages()[0].workers[0].state

    stream.start(0.0)
    assert state() == "starting"
    stream.handle(up(), 0.0)
    assert state() == "waiting"
    push(stream)
    assert state() == "working"
    stream.handle(NodeLeaving("a"), 1.0)
    assert state() == "moving"
    stream.wake(5.0)
    assert state() == "stopping"


def test_worker_of_a_drained_stream_is_closing() -> None:
    stream = stream_of(Function("y", ["x"], code))

    stream.handle(DrainStream(), 1.0)

    assert stream.view.stages()[0].workers[0].state == "closing"
