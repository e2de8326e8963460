"""Which worker of a stage gets which items, and when."""

from handoff_actors.core.stream.events import ItemFailure, LaneClosed, LaneLost, StartLane, StopLane
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.stages.stage import IDLE_S, WAITED_S
from handoff_actors.core.stream.stages.work_queue import BATCH_PAUSE_S
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import Generate, GenerateMore, RunBatch
from tests.core.stream.builders import (
    CLOSE,
    ERROR,
    async_code,
    code,
    ended,
    failure,
    finish,
    generated,
    generator,
    key,
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


def batch(*numbers: int) -> RunBatch:
    return RunBatch([(number, [b"v"]) for number in numbers])


# --- Lanes ------------------------------------------------------------------------------------------------------


def test_worker_gets_one_item_at_once_until_it_is_known_how_long_items_take() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert push(stream) == [send(1, run(1))]
    assert push(stream) == []


def test_worker_gets_quick_items_ahead_and_slow_ones_one_by_one() -> None:
    stream = stream_of(Function("y", ["x"], code))
    for _ in range(10):
        push(stream)

    quick = stream.handle(ended(1, (1, b"a"), seconds=0.001), 1.0)
    slow = stream.handle(ended(1, (2, b"a"), seconds=9.0), 2.0)

    assert quick[0] == send(1, *(run(number) for number in range(2, 7)))
    assert slow == [ready(result(1, b"a"))]


def test_items_are_shared_among_workers_those_with_least_first() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=3))

    assert push(stream) == [send(1, run(1))]
    assert push(stream) == [send(1, run(2), lane=1)]
    stream.handle(ended(1, (1, b"a"), seconds=0.001), 1.0)
    assert push(stream) == [send(1, run(3))]
    assert push(stream) == [send(1, run(4), lane=2)]


def test_async_stage_has_one_worker_with_as_many_items_as_its_parallelism_says() -> None:
    stream = stream_of(Function("y", ["x"], async_code, parallelism=(1, 2)))

    assert [push(stream) for _ in range(3)] == [[send(1, run(1))], [send(1, run(2))], []]


def test_equal_keys_go_to_one_worker_in_order() -> None:
    stream = stream_of(Function("y", ["x"], code, key=key, parallelism=(1, 2)))

    assert push(stream, keys=[5]) == [send(1, run(1), lane=1)]
    assert push(stream, keys=[7]) == []
    assert push(stream, keys=[6]) == [send(1, run(3))]
    assert stream.handle(ended(1, (1, b"a"), lane=1), 1.0)[0] == send(1, run(2), lane=1)


def test_worker_is_added_when_items_have_waited_for_long_while_all_were_busy() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=(1, 3)))
    push(stream)
    push(stream, now=1.0)

    assert stream.wake_at == 1.0 + WAITED_S
    assert stream.wake(1.0 + WAITED_S) == [StartLane(1, 1)]
    assert stream.handle(up(1, 1), 2.0) == [send(1, run(2), lane=1)]
    assert stream.wake_at is None


def test_no_other_worker_is_added_while_one_starts_or_beyond_the_most() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=(1, 3)))
    for _ in range(5):
        push(stream)
    stream.wake(1.0)

    assert stream.wake(2.0) == []
    assert stream.wake_at is None
    assert stream.handle(up(1, 1), 2.1) == [StartLane(1, 2), send(1, run(2), lane=1)]
    stream.handle(up(1, 2), 4.0)
    assert stream.wake(9.0) == []
    assert stream.wake_at is None


def test_worker_beyond_the_least_ends_when_it_has_been_idle_for_long() -> None:
    stream = _stream_with_two_workers()

    assert stream.wake_at == 3.0 + IDLE_S
    assert stream.wake(3.0 + IDLE_S) == [send(1, CLOSE, lane=1)]
    assert stream.wake_at is None
    assert stream.handle(LaneClosed(1, 1), 20.0) == []
    assert [lane.number for lane in next(iter(stream.stages)).lanes] == [0]


def test_worker_that_was_idle_for_long_is_ended_although_an_event_came_first() -> None:
    stream = _stream_with_two_workers()
    taken(stream, now=3.0 + IDLE_S)

    assert stream.wake(stream.wake_at or 0.0) == [send(1, CLOSE, lane=1)]


def test_worker_whose_finish_is_to_be_called_is_not_ended_before() -> None:
    function = Function("y", ["x"], code, parallelism=(1, 2), init=code, finish=finish)
    stream = _stream_with_two_workers(function)

    assert stream.wake_at is None
    assert stream.wake(99.0) == []


def test_closing_worker_gets_nothing_and_its_loss_is_its_end() -> None:
    stream = _stream_with_two_workers()
    stream.wake(3.0 + IDLE_S)

    assert push(stream, now=14.0) == [send(1, run(3))]
    assert push(stream, now=14.0) == []
    assert stream.handle(LaneLost(1, 1, ERROR, is_loss=True), 14.1) == []
    assert len(next(iter(stream.stages)).lanes) == 1


def _stream_with_two_workers(function: Function | None = None) -> StreamMachine:
    """A stream of which both workers are idle, one of them only since 3.0."""
    stream = stream_of(function or Function("y", ["x"], code, parallelism=(1, 2)))
    push(stream)
    push(stream)
    stream.wake(1.0)
    stream.handle(up(1, 1), 2.0)
    stream.handle(ended(1, (1, b"a")), 2.5)
    stream.handle(ended(1, (2, b"b"), lane=1), 3.0)
    return stream


# --- Batches ----------------------------------------------------------------------------------------------------


def test_batch_goes_out_when_it_has_its_size() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2))

    assert push(stream) == []
    assert push(stream) == [send(1, batch(1, 2))]
    assert stream.handle(ended(1, (1, b"a"), (2, b"b")), 1.0) == [ready(result(0, b"a"), result(1, b"b"))]


def test_batches_of_quick_items_go_out_ahead_as_far_as_one_more() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2))

    assert [push(stream) for _ in range(6)][3:] == [[], [], []]
    assert stream.handle(ended(1, (1, b"a")), 1.0)[0] == send(1, batch(3, 4))


def test_batches_go_out_further_ahead_once_their_items_are_known_to_be_short() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, b"a"), (2, b"b"), seconds=1e-6), 1.0)

    assert [push(stream) for _ in range(6)][1::2] == [
        [send(1, batch(number, number + 1))] for number in (3, 5, 7)
    ]


def test_incomplete_batch_goes_out_when_its_first_item_has_waited_for_the_time_limit() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_timeout=5.0))
    push(stream, now=1.0)
    push(stream, now=4.0)

    assert stream.wake_at == 6.0
    assert stream.wake(6.0) == [send(1, batch(1, 2))]
    assert stream.wake_at is None


def test_time_limit_of_a_batch_counts_from_when_its_own_first_item_came() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2, batch_timeout=5.0, parallelism=2))
    push(stream, now=1.0)
    push(stream, now=2.0)
    push(stream, now=3.0)

    assert stream.wake_at == 8.0


def test_incomplete_batch_waits_for_a_worker_without_waking_for_nothing() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2, batch_timeout=5.0))
    push(stream)
    push(stream)
    push(stream, now=1.0)

    assert stream.wake(7.0) == []
    assert stream.wake_at is None
    assert stream.handle(ended(1, (1, b"a"), (2, b"b")), 8.0)[0] == send(1, batch(3))


def test_incomplete_batch_without_a_time_limit_goes_out_when_nothing_has_come_for_a_while() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=3))
    push(stream, now=1.0)
    push(stream, now=1.05)

    assert stream.wake_at == 1.05 + BATCH_PAUSE_S
    assert stream.wake(1.05 + BATCH_PAUSE_S) == [send(1, batch(1, 2))]


def test_incomplete_batch_goes_out_where_no_item_can_be_pushed_before_that() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["y"], code, batch_size=9), in_flight=2)
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, b"v")), 1.0)

    assert stream.handle(ended(1, (2, b"v")), 1.01) == [send(2, batch(3, 4))]


def test_incomplete_batch_goes_out_where_others_may_not_start_for_their_bytes() -> None:
    stream = stream_of(
        Function("y", ["x"], code),
        Function("z", ["y"], code, batch_size=9, batch_timeout=3600.0),
        in_flight_nbytes=6,
    )
    for _ in range(3):
        push(stream, b"vv")

    assert stream.handle(ended(1, (1, b"v" * 9)), 1.0) == [send(2, RunBatch([(4, [b"v" * 9])]))]


def test_batch_fails_item_by_item() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2), max_retries=1)
    push(stream)
    push(stream)

    effects = stream.handle(ended(1, (1, failure()), (2, b"b")), 1.0)

    assert effects == [send(1, batch(1))]


# --- Generators -------------------------------------------------------------------------------------------------


def generate(number: int, credit: int, skipped: int = 0, value: bytes = b"v") -> Generate:
    return Generate(number, [value], skipped, credit)


def more(number: int, credit: int) -> GenerateMore:
    return GenerateMore(number, credit)


def test_generator_may_give_one_result_until_it_is_known_how_large_they_are() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=4)

    assert push(stream) == [send(1, generate(1, 1))]
    assert stream.handle(generated(1, 1, b"a"), 1.0) == [send(1, more(1, 3)), ready(result(0, b"a"))]


def test_generator_keeps_its_worker_until_it_has_ended() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=4)
    push(stream)

    assert push(stream) == []
    stream.handle(generated(1, 1, b"a"), 1.0)
    assert stream.handle(generated(1, 1, end=True), 2.0) == [send(1, generate(2, 4))]


def test_generator_goes_on_when_half_of_its_results_are_taken() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=4)
    push(stream)
    stream.handle(generated(1, 1, b"a"), 1.0)
    stream.handle(generated(1, 1, b"b", b"c", b"d"), 2.0)

    assert taken(stream) == []
    assert taken(stream) == [send(1, more(1, 2))]


def test_generator_of_large_results_may_give_as_many_as_there_is_room_for() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=64, in_flight_nbytes=1000)
    push(stream)

    effects = stream.handle(generated(1, 1, stored(5, 300)), 1.0)

    assert effects[0] == send(1, more(1, 2))


def test_generator_gives_one_result_after_the_other_where_there_is_no_room() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=64, in_flight_nbytes=100)
    push(stream)

    assert stream.handle(generated(1, 1, stored(5, 300)), 1.0) == [ready(result(0, stored(5, 300)))]
    assert taken(stream)[0] == send(1, more(1, 1))


def test_time_limit_of_a_generator_is_for_each_result_and_not_while_it_waits() -> None:
    stream = stream_of(Function("g", ["x"], generator, timeout=5.0), in_flight=2)
    push(stream)

    assert stream.wake_at == 5.0
    stream.handle(generated(1, 1, b"a"), 1.0)
    assert stream.wake_at == 6.0
    stream.handle(generated(1, 1, b"b"), 2.0)
    assert stream.wake_at is None
    taken(stream, now=9.0)
    assert stream.wake_at == 14.0


# --- Time limits ------------------------------------------------------------------------------------------------


def test_worker_of_an_item_over_its_time_limit_is_stopped_and_the_item_fails() -> None:
    stream = stream_of(Function("y", ["x"], code, timeout=5.0))
    push(stream, now=1.0)

    assert stream.wake_at == 6.0
    assert stream.wake(6.0) == [StopLane(1, 0), ready(result(0, _timeout()))]
    assert stream.wake_at is None
    assert stream.handle(LaneClosed(1, 0), 7.0) == [StartLane(1, 0)]


def test_time_limit_is_kept_although_an_event_came_first() -> None:
    stream = stream_of(Function("y", ["x"], code, timeout=5.0))
    push(stream, now=1.0)
    push(stream, now=7.0)

    assert stream.wake_at == 6.0
    assert stream.wake(7.0)[0] == StopLane(1, 0)


def test_item_over_its_time_limit_is_tried_again_while_it_has_retries() -> None:
    stream = stream_of(Function("y", ["x"], code, timeout=5.0, max_retries=1))
    push(stream)

    assert stream.wake(5.0) == [StopLane(1, 0)]
    assert stream.handle(LaneClosed(1, 0), 6.0) == [StartLane(1, 0)]
    assert stream.handle(up(attempt=2), 7.0) == [send(1, run(1), at=up(attempt=2).place)]


def test_end_of_other_items_does_not_move_the_time_limit_of_one_that_hangs() -> None:
    stream = stream_of(Function("y", ["x"], async_code, parallelism=2, timeout=5.0), ordered=False)
    push(stream)
    push(stream, now=1.0)
    stream.handle(ended(1, (2, b"b")), 4.0)

    assert stream.wake_at == 5.0
    assert stream.wake(5.0) == [StopLane(1, 0), ready(result(0, _timeout()))]


def test_items_beside_one_over_its_time_limit_are_done_again() -> None:
    stream = stream_of(Function("y", ["x"], async_code, parallelism=2, timeout=5.0))
    push(stream)
    push(stream, now=1.0)
    stream.wake(5.0)
    stream.handle(LaneClosed(1, 0), 5.1)

    assert stream.handle(up(attempt=2), 6.0) == [send(1, run(2), at=up(attempt=2).place)]


def test_time_limit_of_a_batch_is_that_of_all_its_items() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2, timeout=5.0))
    push(stream)
    push(stream)
    push(stream, now=1.0)

    assert stream.wake(5.0) == [StopLane(1, 0), ready(result(0, _timeout()), result(1, _timeout()))]


def _timeout() -> ItemFailure:
    return ItemFailure("timeout", b"", "it took longer than its time limit of 5.0 s", stage=1, node="a")
