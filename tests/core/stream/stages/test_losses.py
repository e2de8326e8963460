"""What becomes of items, and of state, when workers are lost."""

import pytest

from handoff_actors.core.stream.events import (
    ItemFailure,
    LaneClosed,
    LaneLost,
    NodeGone,
    StartLane,
    StreamFailed,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import Generate, RunBatch
from tests.core.stream.builders import (
    ERROR,
    async_code,
    code,
    dropped,
    ended,
    failure,
    generated,
    generator,
    new_stream,
    place,
    push,
    ready,
    result,
    run,
    send,
    stored,
    stream_of,
    up,
)

DIED = ItemFailure(
    "worker",
    b"",
    "its worker has died 3 times while it was the only item there",
    stage=1,
    attempts=3,
    node="a",
)


def lost(stage: int = 1, lane: int = 0) -> LaneLost:
    return LaneLost(stage, lane, ERROR, is_loss=True)


def error_of(effects: object) -> str:
    assert isinstance(effects, list)
    (failed,) = [effect for effect in effects if isinstance(effect, StreamFailed)]
    return str(failed.error)


# --- Workers ----------------------------------------------------------------------------------------------------


def test_item_of_a_lost_worker_runs_again_on_the_one_that_replaces_it() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)

    assert stream.handle(lost(), 1.0) == [StartLane(1, 0)]
    assert stream.handle(up(attempt=2), 2.0) == [send(1, run(1), at=place(attempt=2))]
    assert stream.handle(ended(1, (1, b"a"), at=place(attempt=2)), 3.0) == [ready(result(0, b"a"))]


def test_worker_that_is_up_again_replaces_the_one_before_without_being_asked_for() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)

    assert stream.handle(up(attempt=2), 1.0) == [send(1, run(1), at=place(attempt=2))]
    assert stream.handle(up(attempt=2), 2.0) == []


def test_answers_of_a_worker_that_was_given_up_are_ignored_and_its_values_dropped() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("g", ["y"], generator))
    push(stream)
    stream.handle(up(attempt=2), 1.0)
    stream.handle(up(2, attempt=2), 1.0)

    assert stream.handle(ended(1, (1, stored(5))), 2.0) == [dropped(stored(5))]
    assert stream.handle(generated(2, 1, stored(6)), 2.0) == [dropped(stored(6))]


def test_answers_about_items_that_a_worker_has_no_more_are_ignored_and_their_values_dropped() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("g", ["y"], generator))

    assert stream.handle(ended(1, (8, stored(5))), 2.0) == [dropped(stored(5))]
    assert stream.handle(generated(2, 8, stored(6), b"a"), 2.0) == [dropped(stored(6))]


def test_items_of_a_lost_worker_run_again_in_order_and_each_alone() -> None:
    stream = _with_items_ahead()

    assert stream.handle(up(attempt=2), 2.0) == [send(1, run(2), at=place(attempt=2))]
    effects = stream.handle(ended(1, (2, b"b"), seconds=0.0, at=place(attempt=2)), 3.0)
    assert effects == [send(1, run(3), at=place(attempt=2)), ready(result(1, b"b"))]


def test_item_fails_when_it_was_three_times_alone_on_a_worker_that_died() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(up(attempt=2), 1.0)
    stream.handle(up(attempt=3), 2.0)

    assert stream.handle(up(attempt=4), 3.0) == [ready(result(0, DIED))]


def test_item_is_not_blamed_for_a_death_while_it_was_not_alone() -> None:
    stream = _with_items_ahead()
    for attempt in (2, 3, 4):
        effects = stream.handle(up(attempt=attempt), 2.0)

    assert effects == [send(1, run(2), at=place(attempt=4))]


def test_item_that_killed_its_workers_does_not_keep_others_from_running() -> None:
    stream = _with_items_ahead()
    for attempt in (2, 3, 4, 5):
        effects = stream.handle(up(attempt=attempt), 2.0)

    assert effects == [send(1, run(3), at=place(attempt=5)), ready(result(1, DIED))]


def test_item_that_has_ended_after_a_death_is_above_suspicion() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["y"], code))
    push(stream)
    stream.handle(up(attempt=2), 1.0)
    stream.handle(ended(1, (1, failure()), at=place(attempt=2)), 2.0)

    assert next(iter(stream.stages)).lanes[0].suspects == 0


def test_suspects_are_alone_in_their_batches() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2))
    push(stream)
    push(stream)

    assert stream.handle(up(attempt=2), 1.0) == [send(1, RunBatch([(1, [b"v"])]), at=place(attempt=2))]
    effects = stream.handle(ended(1, (1, b"a"), at=place(attempt=2)), 2.0)
    assert effects == [send(1, RunBatch([(2, [b"v"])]), at=place(attempt=2)), ready(result(0, b"a"))]


def test_suspect_waits_until_a_worker_has_nothing_else() -> None:
    stream = stream_of(
        Function("y", ["x"], async_code, parallelism=2), Function("b", ["x"], code, batch_size=2)
    )
    push(stream)
    push(stream)
    stream.handle(up(attempt=2), 1.0)
    push(stream)

    assert stream.handle(ended(1, (1, b"a"), at=place(attempt=2)), 2.0) == [
        send(1, run(3), at=place(attempt=2))
    ]
    assert stream.handle(ended(1, (3, b"a"), at=place(attempt=2)), 3.0) == [
        send(1, run(5), at=place(attempt=2))
    ]


def test_suspect_is_not_given_to_a_worker_that_has_something_else() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.0), 1.0)
    push(stream)

    assert stream.handle(lost(), 2.0) == [StartLane(1, 0)]
    assert stream.handle(ended(1, (2, b"b"), lane=1), 3.0) == [
        send(1, run(3), lane=1),
        ready(result(1, b"b")),
    ]


def test_suspect_batch_is_not_given_to_a_worker_that_has_something_else() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2, batch_size=2))
    for _ in range(3):
        push(stream)
    stream.wake(1.0)

    assert stream.handle(lost(), 2.0) == [StartLane(1, 0)]
    assert stream.handle(ended(1, (3, b"c"), lane=1), 3.0) == [send(1, RunBatch([(1, [b"v"])]), lane=1)]


def test_batch_ends_before_a_suspect() -> None:
    stream = stream_of(Function("b", ["x"], code, batch_size=3, parallelism=2, max_retries=9))
    for _ in range(6):
        push(stream)
    stream.handle(up(attempt=2), 1.0)

    effects = stream.handle(ended(1, (4, failure()), (5, b"e"), (6, b"f"), lane=1), 2.0)

    assert effects == [send(1, RunBatch([(4, [b"v"])]), lane=1)]


def test_items_of_a_lost_generator_are_made_again_behind_those_that_it_has_given() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=4)
    push(stream)
    stream.handle(generated(1, 1, b"a"), 1.0)
    stream.handle(generated(1, 1, b"b"), 1.0)

    assert stream.handle(up(attempt=2), 2.0) == [
        send(1, Generate(1, [b"v"], 2, 2), at=place(attempt=2)),
    ]
    effects = stream.handle(generated(1, 1, b"c", end=True, at=place(attempt=2)), 3.0)
    assert effects == [ready(result(0, b"c"))]


def test_generator_that_is_lost_while_it_waits_for_credit_gets_none_before_its_time() -> None:
    stream = stream_of(Function("g", ["x"], generator), in_flight=2, in_flight_nbytes=100)
    push(stream)
    stream.handle(generated(1, 1, stored(5, 300)), 1.0)

    effects = stream.handle(up(attempt=2, node="b"), 2.0)

    assert effects == [send(1, Generate(1, [b"v"], 1, 0), at=place(attempt=2, node="b"))]


def test_generator_that_gets_on_between_deaths_is_not_given_up() -> None:
    stream = stream_of(Function("g", ["x"], generator))
    push(stream)
    stream.handle(up(attempt=2), 1.0)
    stream.handle(up(attempt=3), 1.0)
    stream.handle(generated(1, 1, b"a", at=place(attempt=3)), 2.0)

    for attempt in (4, 5):
        (again,) = stream.handle(up(attempt=attempt), 3.0)
        assert again == send(1, Generate(1, [b"v"], 1, 63), at=place(attempt=attempt))


def test_generator_that_fails_midway_is_tried_again_behind_what_it_has_given() -> None:
    stream = stream_of(Function("g", ["x"], generator, max_retries=1), in_flight=4)
    push(stream)
    stream.handle(generated(1, 1, b"a"), 1.0)

    again = stream.handle(generated(1, 1, end=True, failure=failure()), 2.0)
    given_up = stream.handle(generated(1, 1, b"b", end=True, failure=failure()), 3.0)

    assert again == [send(1, Generate(1, [b"v"], 1, 3))]
    assert given_up == [ready(result(0, b"b"), result(0, failure(stage=1, attempts=2)))]


def test_failure_that_retry_on_does_not_allow_is_not_tried_again() -> None:
    stream = stream_of(Function("y", ["x"], code, max_retries=3))
    push(stream)
    final = ItemFailure("exception", b"", "it raised", "a TypeError")

    effects = stream.handle(ended(1, (1, final)), 1.0)

    assert effects == [ready(result(0, ItemFailure("exception", b"", "it raised", "a TypeError", 1, 1)))]


def test_worker_that_ends_by_itself_is_started_again() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert stream.handle(LaneClosed(1, 0), 1.0) == [StartLane(1, 0)]


# --- Starts -----------------------------------------------------------------------------------------------------


def test_stream_fails_with_the_error_of_a_worker_that_cannot_make_its_state() -> None:
    stream = new_stream(Function("y", ["x"], code))
    stream.start(0.0)

    assert stream.handle(LaneLost(1, 0, ERROR, is_loss=False), 1.0) == [StreamFailed(ERROR)]
    assert stream.handle(up(), 2.0) == []
    assert not stream.has_room


def test_stream_fails_when_a_worker_was_lost_three_times_in_a_row_before_it_was_up() -> None:
    stream = new_stream(Function("y", ["x"], code))
    stream.start(0.0)

    assert [stream.handle(lost(), 1.0) for _ in range(3)] == [
        [StartLane(1, 0)],
        [StartLane(1, 0)],
        [StreamFailed(ERROR)],
    ]


def test_worker_that_was_up_between_may_be_lost_again() -> None:
    stream = new_stream(Function("y", ["x"], code))
    stream.start(0.0)
    for _ in range(2):
        stream.handle(lost(), 1.0)
    stream.handle(up(), 2.0)

    assert [stream.handle(lost(), 3.0) for _ in range(3)] == [[StartLane(1, 0)]] * 3


# --- State ------------------------------------------------------------------------------------------------------


def _with_state(**options: object) -> StreamMachine:
    return stream_of(Function("y", ["x"], code, init=code, **options))  # type: ignore[arg-type]


def test_state_that_was_never_replaced_is_made_anew() -> None:
    stream = _with_state()
    push(stream)
    stream.handle(ended(1, (1, b"a")), 1.0)

    assert stream.handle(lost(), 2.0) == [StartLane(1, 0)]


def test_stream_fails_when_state_is_lost_that_its_code_has_replaced() -> None:
    stream = _with_state()
    push(stream)
    stream.handle(ended(1, (1, b"a"), replaced=True), 1.0)

    assert error_of(stream.handle(lost(), 2.0)) == (
        "the state of stage 'y' was lost with its worker on node 'a', and its code has returned another state than it was given,"
        ' so the results of items to come depend on those before: let init restore it, and use on_state_loss="restart"'
    )


def test_state_may_be_made_anew_although_it_was_replaced() -> None:
    stream = _with_state(on_state_loss="restart")
    push(stream)
    stream.handle(ended(1, (1, b"a"), replaced=True), 1.0)

    assert stream.handle(lost(), 2.0) == [StartLane(1, 0)]


@pytest.mark.parametrize("event", [lost(), LaneClosed(1, 0), up(attempt=2), NodeGone("a")])
def test_stream_fails_when_state_is_lost_that_must_not_be(event: object) -> None:
    stream = _with_state(on_state_loss="fail")

    effects = stream.handle(event, 1.0)  # type: ignore[arg-type]

    assert 'and it has on_state_loss="fail"' in error_of(effects)


def test_stream_fails_when_a_worker_has_to_be_stopped_whose_state_must_not_be_lost() -> None:
    stream = _with_state(on_state_loss="fail", timeout=5.0)
    push(stream)

    assert 'it has on_state_loss="fail"' in error_of(stream.wake(5.0))
    assert stream.wake(9.0) == []
    assert stream.wake_at is None


def test_stream_fails_once_when_several_states_are_lost() -> None:
    stream = _with_state(on_state_loss="fail", parallelism=2)

    assert len(stream.handle(NodeGone("a"), 1.0)) == 1


def _with_items_ahead() -> StreamMachine:
    """A stream of which the worker has the items 2 to 4 at once."""
    stream = stream_of(Function("y", ["x"], code))
    for _ in range(4):
        push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.0), 1.0)
    return stream
