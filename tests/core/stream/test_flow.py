"""Where outcomes go: along edges, into joins and orders, and out."""

from handoff_actors.core.stream.events import (
    FINISH_OWNER,
    SKIPPED,
    ItemFailure,
    NewItem,
    OwnerGone,
    Pushed,
    StreamResult,
)
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.graph import DAG, Function
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.wire.messages.stage_rows import Generate
from tests.core.stream.builders import (
    INPUT,
    code,
    dropped,
    ended,
    failure,
    generated,
    generator,
    key,
    out,
    push,
    ready,
    result,
    run,
    send,
    stored,
    stream_of,
    taken,
)

CHAIN = Function("y", ["x"], code), Function("z", ["y"], code)
FORK = Function("y", ["x"], code), Function("z", ["x"], code)
JOIN = *FORK, Function("j", ["y", "z"], code)
LATE = ItemFailure("join_timeout", b"", "not all of its inputs came in time", stage=3)


def test_item_goes_from_stage_to_stage_and_out() -> None:
    stream = stream_of(*CHAIN)

    assert push(stream) == [send(1, run(1))]
    assert stream.handle(ended(1, (1, b"a")), 1.0) == [send(2, run(2, b"a"))]
    assert stream.handle(ended(2, (2, b"b")), 2.0) == [ready(result(0, b"b", sink=2))]
    assert taken(stream) == [out(0)]
    assert stream.in_flight == 0


def test_stream_of_an_input_alone_passes_items_through() -> None:
    stream = stream_of()

    assert push(stream, b"a") == [ready(result(0, b"a", sink=0))]
    assert taken(stream) == [out(0)]


def test_results_come_in_the_order_of_pushes() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)

    assert stream.handle(ended(1, (2, b"b"), lane=1), 1.0) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [ready(result(0, b"a"), result(1, b"b"))]


def test_owners_do_not_wait_for_one_another() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream, owner=7)
    push(stream, owner=8)

    assert stream.handle(ended(1, (2, b"b"), lane=1), 1.0) == [ready(result(1, b"b"), owner=8)]


def test_results_come_as_they_are_where_no_order_is_wanted() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), ordered=False)
    push(stream)
    push(stream)

    assert stream.handle(ended(1, (2, b"b"), lane=1), 1.0) == [ready(result(1, b"b"))]
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [ready(result(0, b"a"))]


def test_stage_of_one_worker_gets_items_in_the_order_of_pushes() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), Function("z", ["y"], code))
    push(stream)
    push(stream)

    assert stream.handle(ended(1, (2, b"b"), lane=1), 1.0) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [send(2, run(3, b"a"))]
    assert stream.handle(ended(2, (3, b"c")), 3.0) == [
        send(2, run(4, b"b")),
        ready(result(0, b"c", sink=2)),
    ]


def test_stage_gets_items_as_they_come_where_no_order_is_wanted() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), Function("z", ["y"], code), ordered=False)
    push(stream)
    push(stream)

    assert stream.handle(ended(1, (2, b"b"), lane=1), 1.0) == [send(2, run(3, b"b"))]


def test_failure_comes_in_the_place_of_the_result_and_later_stages_do_not_get_the_item() -> None:
    stream = stream_of(*CHAIN)
    push(stream)

    effects = stream.handle(ended(1, (1, failure())), 1.0)

    assert effects == [ready(result(0, failure(stage=1)))]
    assert taken(stream) == [out(0)]


def test_item_fails_once_with_several_sinks_and_the_values_of_the_others_are_dropped() -> None:
    stream = stream_of(*FORK)

    assert push(stream) == [send(1, run(1)), send(2, run(2))]
    assert stream.handle(ended(1, (1, stored(5))), 1.0) == []
    assert stream.handle(ended(2, (2, failure())), 2.0) == [
        ready(result(0, failure(stage=2))),
        dropped(stored(5)),
    ]


def test_result_of_several_sinks_has_the_value_of_each() -> None:
    stream = stream_of(*FORK)
    push(stream)
    stream.handle(ended(1, (1, b"a")), 1.0)

    (handed_out,) = stream.handle(ended(2, (2, SKIPPED)), 2.0)

    assert handed_out == ready(StreamResult(0, {1: b"a", 2: SKIPPED}))


def test_skipped_item_has_no_result_and_does_not_hold_up_others() -> None:
    stream = stream_of(*CHAIN)
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, SKIPPED)), 1.0)

    assert stream.handle(ended(1, (2, b"b")), 2.0) == [send(2, run(3, b"b"))]
    assert stream.handle(ended(2, (3, b"c")), 3.0) == [ready(result(1, b"c", sink=2))]


def test_skipped_item_is_out_at_once() -> None:
    stream = stream_of(*CHAIN)
    push(stream)

    assert stream.handle(ended(1, (1, SKIPPED)), 1.0) == [out(0)]
    assert stream.in_flight == 0


def test_join_gets_the_values_of_its_producers_in_their_order() -> None:
    stream = stream_of(*JOIN)
    push(stream)

    assert stream.handle(ended(2, (2, b"b")), 1.0) == []
    assert stream.handle(ended(1, (1, b"a")), 2.0) == [send(3, run(3, b"a", b"b"))]


def test_join_fails_for_an_item_of_which_a_part_has_failed() -> None:
    stream = stream_of(*JOIN)
    push(stream)
    stream.handle(ended(2, (2, stored(5))), 1.0)

    effects = stream.handle(ended(1, (1, failure())), 2.0)

    assert effects == [ready(result(0, failure(stage=1))), dropped(stored(5))]


def test_join_skips_an_item_of_which_a_part_is_skipped() -> None:
    stream = stream_of(*JOIN)
    push(stream)
    stream.handle(ended(2, (2, b"b")), 1.0)

    assert stream.handle(ended(1, (1, SKIPPED)), 2.0) == [out(0)]


def test_join_gives_up_an_item_that_is_not_whole_in_time_and_drops_what_has_come() -> None:
    stream = stream_of(*JOIN, join_timeout_s=5.0)
    push(stream)
    stream.handle(ended(2, (2, stored(5))), 1.0)

    assert stream.wake_at == 6.0
    assert stream.wake(6.0) == [ready(result(0, LATE)), dropped(stored(5))]
    assert stream.wake_at is None


def test_part_that_comes_late_to_a_join_is_dropped_and_nothing_is_left_of_the_item() -> None:
    stream = stream_of(*JOIN, join_timeout_s=5.0)
    push(stream)
    stream.handle(ended(2, (2, b"b")), 1.0)
    stream.wake(6.0)

    assert taken(stream) == []
    assert stream.handle(ended(1, (1, stored(6))), 7.0) == [out(0), dropped(stored(6))]
    assert stream.in_flight == 0
    assert stream.nbytes == 0


def test_output_of_several_sinks_gives_up_an_item_that_is_not_whole_in_time() -> None:
    stream = stream_of(*FORK, join_timeout_s=5.0)
    push(stream)
    stream.handle(ended(2, (2, b"b")), 1.0)

    late = ItemFailure("join_timeout", b"", "not all of its inputs came in time")

    assert stream.wake(6.0) == [ready(result(0, late))]


def test_several_inputs_are_pushed_at_once() -> None:
    dag = DAG("dag").add_functions(
        [INPUT, Function("w", [], None, type="input"), Function("y", ["w", "x"], code)]
    )
    stream = StreamMachine(StreamPlan.compile(dag), StreamOptions())
    stream.start(0.0)

    effects = push(stream, b"x", b"w")

    assert effects == []
    assert [work.values for work in _waiting(stream, 2)] == [[b"w", b"x"]]


def test_keys_go_with_the_value_to_the_stage_that_takes_it_by_key() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["x"], code, key=key, parallelism=2))

    assert push(stream, b"a", keys=[3]) == [send(1, run(1, b"a")), send(2, run(2, b"a"), lane=1)]
    assert push(stream, b"b", keys=[4]) == [send(2, run(4, b"b"))]


def test_results_of_a_generator_are_items_of_their_own_at_later_stages() -> None:
    stream = stream_of(Function("g", ["x"], generator), Function("z", ["g"], code))
    push(stream)

    assert send(2, run(2, b"a")) in stream.handle(generated(1, 1, b"a"), 1.0)
    assert ready(result(0, b"A", sink=2)) in stream.handle(ended(2, (2, b"A")), 2.0)
    assert stream.handle(generated(1, 1, b"b", end=True), 3.0) == [send(2, run(3, b"b"))]
    assert stream.handle(ended(2, (3, b"B")), 4.0) == [ready(result(0, b"B", sink=2))]
    assert taken(stream, 2) == [out(0)]


def test_generators_behind_one_another_give_results_in_order() -> None:
    stream = stream_of(
        Function("g", ["x"], generator, parallelism=2), Function("h", ["g"], generator, parallelism=2)
    )
    push(stream)
    push(stream)
    stream.handle(generated(1, 2, b"later", end=True, lane=1), 1.0)
    stream.handle(generated(1, 1, b"a", b"b", end=True), 2.0)

    assert stream.handle(generated(2, 4, b"b", end=True, lane=1), 3.0) == [
        send(2, Generate(5, [b"later"], 0, 64), lane=1)
    ]
    first = stream.handle(generated(2, 3, b"a", end=True), 4.0)

    assert ready(result(0, b"a", sink=2), result(0, b"b", sink=2)) in first


def test_item_that_fails_before_a_generator_fails_once() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("g", ["y"], generator))
    push(stream)

    assert stream.handle(ended(1, (1, failure())), 1.0) == [ready(result(0, failure(stage=1)))]
    assert taken(stream) == [out(0)]


def test_item_that_is_skipped_before_a_generator_is_out() -> None:
    stream = stream_of(
        Function("y", ["x"], code), Function("g", ["y"], generator), Function("z", ["g"], code)
    )
    push(stream)

    assert stream.handle(ended(1, (1, SKIPPED)), 1.0) == [out(0)]


def test_results_of_an_owner_that_is_gone_are_dropped_also_those_to_come() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream, owner=7)
    push(stream, owner=7)
    push(stream, owner=FINISH_OWNER)
    stream.handle(ended(1, (1, stored(5))), 1.0)

    assert stream.handle(OwnerGone(7), 2.0) == [out(0, owner=7), dropped(stored(5))]
    assert stream.handle(ended(1, (2, stored(6)), lane=1), 3.0) == [out(1, owner=7), dropped(stored(6))]
    assert stream.handle(OwnerGone(7), 4.0) == []
    assert stream.in_flight == 1


def test_more_is_never_taken_than_was_handed_out() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)

    assert taken(stream, 5) == []
    assert taken(stream, 5, owner=9) == []
    assert stream.in_flight == 1


def test_value_that_several_stages_take_is_dropped_when_the_last_of_them_is_done() -> None:
    stream = stream_of(*FORK)
    stream.handle(Pushed([NewItem(0, 0, [(stored(5, node=""), [])])]), 0.0)

    assert stream.handle(ended(1, (1, b"a")), 1.0) == []
    assert stream.handle(ended(2, (2, b"b")), 2.0)[-1] == dropped(stored(5, node=""), stored(5))


def _waiting(stream: StreamMachine, stage: int) -> list[Work]:
    (queue,) = stream._flow.stages[stage].queues
    return list(queue._works)
