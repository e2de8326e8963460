"""The end of a stream."""

from handoff_actors.core.stream.events import (
    FINISH_OWNER,
    AbortStream,
    DrainStream,
    ItemFailure,
    LaneClosed,
    LaneLost,
    NodeGone,
    OwnerGone,
    ResultLost,
    StartLane,
    StopLane,
    StreamDrained,
    StreamEffect,
    StreamFailed,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import CloseStage, FinishStage, GenerateMore, RunBatch
from tests.core.stream.builders import (
    CLOSE,
    ERROR,
    code,
    dropped,
    ended,
    failure,
    finish,
    generated,
    generator,
    key,
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


def drain(stream: StreamMachine, now: float = 1.0) -> list[StreamEffect]:
    return stream.handle(DrainStream(), now)


def summing(name: str = "y", of: str = "x", **options: object) -> Function:
    return Function(name, [of], code, init=code, finish=finish, **options)  # type: ignore[arg-type]


def calls_finish(number: int, credit: int = 64) -> FinishStage:
    return FinishStage(number, credit)


# --- Closing ----------------------------------------------------------------------------------------------------


def test_workers_are_closed_once_all_results_are_taken_and_then_the_stream_is_drained() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)

    assert drain(stream) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [ready(result(0, b"a"))]
    assert taken(stream) == [send(1, CLOSE), send(1, CLOSE, lane=1), out(0)]
    assert stream.handle(LaneClosed(1, 0), 3.0) == []
    assert stream.handle(LaneClosed(1, 1), 4.0) == [StreamDrained()]


def test_result_that_is_lost_at_the_end_is_made_again_before_the_workers_are_closed() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    drain(stream)
    stream.handle(ended(1, (1, stored(5))), 2.0)

    assert stream.handle(ResultLost(stored(5), "nobody has it"), 3.0) == [send(1, run(1))]
    assert stream.handle(ended(1, (1, stored(6))), 4.0) == []
    assert taken(stream) == [send(1, CLOSE), out(0), dropped(stored(6))]


def test_results_that_nobody_takes_hold_up_no_end() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(OwnerGone(FINISH_OWNER), 0.5)
    drain(stream)

    assert stream.handle(ended(1, (1, b"a")), 2.0) == [send(1, CLOSE), out(0)]


def test_stream_without_stages_is_drained_at_once() -> None:
    stream = stream_of()

    assert drain(stream) == [StreamDrained()]
    assert drain(stream) == []


def test_incomplete_batch_goes_out_at_the_end() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=9))
    push(stream)

    assert drain(stream, 0.01) == [send(1, RunBatch([(1, [b"v"])]))]


def test_worker_that_starts_is_closed_when_it_is_up() -> None:
    stream = stream_of(Function("y", ["x"], code))
    stream.handle(NodeGone("a"), 0.5)

    assert drain(stream) == []
    assert stream.handle(up(attempt=2), 2.0) == [send(1, CLOSE, at=place(attempt=2))]
    assert stream.handle(up(attempt=3), 3.0) == [send(1, CLOSE, at=place(attempt=3))]
    assert stream.handle(LaneClosed(1, 0), 4.0) == [StreamDrained()]


def test_loss_of_a_closing_worker_is_its_end() -> None:
    stream = stream_of(Function("y", ["x"], code))
    drain(stream)

    assert stream.handle(LaneLost(1, 0, ERROR, is_loss=True), 2.0) == [StreamDrained()]
    assert stream.handle(LaneLost(1, 0, ERROR, is_loss=True), 3.0) == []
    assert stream.handle(LaneClosed(1, 0), 3.0) == []
    assert stream.handle(up(), 3.0) == []


def test_error_in_close_fails_the_stream() -> None:
    stream = stream_of(Function("y", ["x"], code))
    drain(stream)

    assert stream.handle(LaneLost(1, 0, ERROR, is_loss=False), 2.0) == [StreamFailed(ERROR)]


def test_additional_worker_that_is_not_up_at_the_end_is_stopped() -> None:
    stream = _with_starting_worker(Function("y", ["x"], code, parallelism=(1, 2)))

    drain(stream)
    assert stream.handle(ended(1, (2, b"b")), 3.0) == [StopLane(1, 1), ready(result(1, b"b"))]
    assert taken(stream, 2) == [send(1, CLOSE), out(0), out(1)]
    assert stream.handle(LaneClosed(1, 0), 4.0) == []
    assert stream.handle(LaneClosed(1, 1), 4.0) == [StreamDrained()]


def test_additional_worker_that_is_not_up_at_the_end_has_nothing_to_finish() -> None:
    stream = _with_starting_worker(summing(parallelism=(1, 2)))

    drain(stream)
    assert stream.handle(ended(1, (2, b"b")), 3.0)[:2] == [StopLane(1, 1), send(1, calls_finish(3))]
    assert stream.handle(LaneClosed(1, 1), 4.0) == []
    assert stream.handle(generated(1, 3, end=True), 5.0) == []
    assert taken(stream, 2)[0] == send(1, CLOSE)


def test_additional_worker_that_is_up_before_it_could_be_stopped_gets_nothing() -> None:
    stream = _with_starting_worker(Function("y", ["x"], code, parallelism=(1, 2)))
    drain(stream)
    stream.handle(ended(1, (2, b"b")), 3.0)
    taken(stream, 2)

    assert stream.handle(up(1, 1), 4.0) == []
    assert stream.handle(LaneLost(1, 1, ERROR, is_loss=False), 5.0) == []
    assert stream.handle(LaneClosed(1, 0), 5.0) == [StreamDrained()]


def _with_starting_worker(function: Function) -> StreamMachine:
    """A stream that has asked for a second worker, while the first one has the last item."""
    stream = stream_of(function)
    push(stream)
    push(stream)
    assert stream.wake(1.0) == [StartLane(1, 1)]
    stream.handle(ended(1, (1, b"a")), 2.0)
    return stream


# --- The end of a stage -----------------------------------------------------------------------------------------


def test_finish_is_called_by_one_worker_after_the_other_once_all_items_are_done() -> None:
    stream = stream_of(summing(parallelism=2))
    push(stream)

    assert drain(stream) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [send(1, calls_finish(2)), ready(result(0, b"a"))]
    assert stream.handle(generated(1, 2, end=True), 3.0) == [send(1, calls_finish(3), lane=1)]
    assert stream.handle(generated(1, 3, end=True, lane=1), 4.0) == []
    assert taken(stream) == [send(1, CLOSE), send(1, CLOSE, lane=1), out(0)]


def test_results_of_finish_are_items_of_their_own_that_go_on_through_later_stages() -> None:
    stream = stream_of(summing(), Function("z", ["y"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a")), 0.5)
    stream.handle(ended(2, (2, b"A"), seconds=9.0), 0.6)
    drain(stream)

    assert stream.handle(generated(1, 3, b"b", b"c", end=True), 2.0) == [send(2, run(4, b"b"))]
    assert stream.handle(ended(2, (4, b"B"), seconds=9.0), 3.0) == [
        send(2, run(5, b"c")),
        ready(result(1, b"B", sink=2)),
    ]
    assert stream.handle(ended(2, (5, b"C"), seconds=9.0), 4.0) == [ready(result(2, b"C", sink=2))]
    assert taken(stream, 3) == [send(1, CLOSE), send(2, CLOSE), out(0), out(1), out(2)]


def test_stages_finish_in_their_order() -> None:
    stream = stream_of(summing(), summing("z", "y"))

    assert drain(stream) == [send(1, calls_finish(1))]
    assert stream.handle(generated(1, 1, b"a", end=True), 2.0) == [send(2, run(2, b"a"))]
    assert stream.handle(ended(2, (2, b"A")), 3.0) == [
        send(2, calls_finish(3)),
        ready(result(0, b"A", sink=2)),
    ]


def test_stages_beside_the_one_that_finishes_do_not_wait_for_its_results() -> None:
    stream = stream_of(
        Function("w", ["x"], code),
        Function("g", ["w"], code),
        summing("y", "g"),
    )
    drain(stream)

    assert stream.handle(generated(3, 1, b"a", end=True), 2.0)[-1] == ready(result(0, b"a", sink=3))


def test_results_of_finish_go_through_branches_to_a_join() -> None:
    stream = stream_of(
        summing(), Function("a", ["y"], code), Function("b", ["y"], code), Function("j", ["a", "b"], code)
    )
    drain(stream)

    assert stream.handle(generated(1, 1, b"s", end=True), 2.0) == [
        send(2, run(2, b"s")),
        send(3, run(3, b"s")),
    ]
    stream.handle(ended(2, (2, b"A")), 3.0)
    assert stream.handle(ended(3, (3, b"B")), 4.0) == [send(4, run(4, b"A", b"B"))]


def test_stages_before_one_that_finishes_take_no_notice_of_its_results() -> None:
    stream = stream_of(Function("w", ["x"], code, parallelism=2), summing("y", "w", parallelism=2))
    drain(stream)

    assert stream.handle(generated(2, 1, b"a", end=True), 2.0) == [
        send(2, calls_finish(2), lane=1),
        ready(result(0, b"a", sink=2)),
    ]


def test_results_of_finish_are_dropped_where_their_owner_is_gone() -> None:
    stream = stream_of(summing(), in_flight=1)
    stream.handle(OwnerGone(FINISH_OWNER), 0.5)
    drain(stream)

    assert stream.handle(generated(1, 1, stored(5)), 2.0) == [
        send(1, GenerateMore(1, 1)),
        out(0),
        dropped(stored(5)),
    ]


def test_finish_may_go_on_when_half_of_its_results_are_taken() -> None:
    stream = stream_of(summing(), in_flight=2)
    drain(stream)

    stream.handle(generated(1, 1, b"a", b"b"), 2.0)
    assert taken(stream)[0] == send(1, GenerateMore(1, 1))


def test_failure_of_finish_is_a_result_behind_those_that_it_has_given() -> None:
    stream = stream_of(summing())
    drain(stream)

    effects = stream.handle(generated(1, 1, b"a", end=True, failure=failure()), 2.0)

    failed = failure("its finish failed: it raised", stage=1)
    assert effects == [ready(result(0, b"a"), result(1, failed))]
    assert taken(stream, 2) == [send(1, CLOSE), out(0), out(1)]


def test_finish_is_called_again_if_its_worker_is_lost_before_it_has_given_anything() -> None:
    stream = stream_of(summing())
    drain(stream)

    assert stream.handle(LaneLost(1, 0, ERROR, is_loss=True), 2.0) == [StartLane(1, 0)]
    assert stream.handle(up(attempt=2), 3.0) == [send(1, calls_finish(1), at=place(attempt=2))]


def test_finish_that_kills_its_workers_is_a_failure_in_the_end() -> None:
    stream = stream_of(summing())
    drain(stream)
    stream.handle(up(attempt=2), 2.0)
    stream.handle(up(attempt=3), 3.0)

    effects = stream.handle(up(attempt=4), 4.0)

    reason = "its finish failed: its worker has died 3 times"
    died = ItemFailure("worker", b"", reason, stage=1, attempts=3)
    assert effects == [ready(result(0, died))]
    assert taken(stream) == [send(1, CLOSE, at=place(attempt=4)), out(0)]


def test_result_that_is_made_again_while_finish_goes_on_outlives_its_worker() -> None:
    stream = stream_of(summing())
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 0.5)
    assert drain(stream) == [send(1, calls_finish(2))]
    stream.handle(ResultLost(stored(5), "gone"), 2.0)

    assert stream.handle(up(attempt=2), 3.0) == [send(1, run(1), at=place(attempt=2))]
    ends = stream.handle(ended(1, (1, stored(6)), at=place(attempt=2)), 4.0)
    assert ends == [send(1, calls_finish(2), at=place(attempt=2))]


def test_result_is_made_again_while_finish_waits_until_it_is_taken() -> None:
    stream = stream_of(summing(timeout=9.0), in_flight=1)
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 0.5)
    drain(stream)

    assert stream.handle(ResultLost(stored(5), "gone"), 2.0) == [send(1, run(1))]


def test_loss_of_nodes_is_not_held_against_finish() -> None:
    stream = stream_of(summing())
    drain(stream)

    for attempt in (2, 3, 4, 5):
        stream.handle(NodeGone("a"), 2.0)
        effects = stream.handle(up(attempt=attempt), 3.0)

    assert effects == [send(1, calls_finish(1), at=place(attempt=5))]


def test_stream_fails_if_finish_is_lost_after_it_has_given_something() -> None:
    stream = stream_of(summing())
    drain(stream)
    stream.handle(generated(1, 1, b"a"), 2.0)

    (failed,) = stream.handle(LaneLost(1, 0, ERROR, is_loss=True), 3.0)

    assert isinstance(failed, StreamFailed)
    assert str(failed.error) == "stage 'y' has lost its worker while finish gave the last results"


def test_finish_over_its_time_limit_fails_and_its_worker_is_stopped() -> None:
    stream = stream_of(summing(timeout=5.0, max_retries=3, on_state_loss="fail"))
    drain(stream)

    assert stream.wake_at == 6.0
    reason = "its finish failed: it took longer than its time limit of 5.0 s"
    late = ItemFailure("timeout", b"", reason, stage=1, node="a")
    assert stream.wake(6.0) == [StopLane(1, 0), ready(result(0, late))]
    assert taken(stream) == [out(0)]
    assert stream.handle(LaneClosed(1, 0), 7.0) == [StreamDrained()]


def test_finish_has_no_time_limit_while_it_waits_until_its_results_are_taken() -> None:
    stream = stream_of(summing(timeout=5.0), in_flight=1)
    drain(stream)

    stream.handle(generated(1, 1, b"a"), 2.0)

    assert stream.wake_at is None


def test_finish_behind_a_generator_gives_results_as_that_does() -> None:
    stream = stream_of(
        Function("g", ["x"], generator), summing("y", "g"), Function("z", ["y"], code, key=key, parallelism=2)
    )

    assert drain(stream) == [send(2, calls_finish(1))]
    effects = stream.handle(generated(2, 1, b"a", end=True), 2.0)
    assert effects == [send(3, run(2, b"a"))]
    assert stream.handle(ended(3, (2, b"A")), 3.0)[-1] == ready(result(0, b"A", sink=3))
    assert out(0) in taken(stream)


def test_additional_worker_that_is_up_finishes_like_the_others() -> None:
    stream = _with_starting_worker(summing(parallelism=(1, 2)))
    stream.handle(up(1, 1), 2.5)
    drain(stream)

    assert stream.handle(ended(1, (2, b"b")), 3.0)[0] == send(1, calls_finish(3))
    assert stream.handle(generated(1, 3, end=True), 4.0) == [send(1, calls_finish(4), lane=1)]


def test_additional_worker_that_was_stopped_before_it_could_finish_has_nothing_to_finish() -> None:
    stream = _with_starting_worker(summing(parallelism=(1, 2), timeout=5.0, on_state_loss="restart"))
    stream.handle(up(1, 1), 2.5)
    assert push(stream, now=2.5) == [send(1, run(3), lane=1)]
    drain(stream, now=2.5)
    stream.handle(ended(1, (2, b"b")), 3.0)
    assert stream.wake(20.0)[:2] == [StopLane(1, 1), send(1, calls_finish(4))]
    stream.handle(generated(1, 4, end=True), 21.0)
    taken(stream, 3)

    effects = stream.handle(LaneClosed(1, 1), 22.0)

    assert effects == [StartLane(1, 1), StopLane(1, 1), send(1, CloseStage())]
    assert stream.handle(LaneClosed(1, 1), 23.0) == []
    assert stream.handle(LaneClosed(1, 0), 24.0)[-1] == StreamDrained()


# --- Abort ------------------------------------------------------------------------------------------------------


def test_stream_that_is_given_up_decides_nothing_more() -> None:
    stream = stream_of(Function("y", ["x"], code, timeout=5.0))
    push(stream)

    assert stream.handle(AbortStream(), 1.0) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == []
    assert stream.wake(9.0) == []
    assert stream.wake_at is None
    assert not stream.has_room
    stream.check()
