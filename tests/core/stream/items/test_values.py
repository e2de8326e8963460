"""Values in the stores of nodes: who needs them, and what happens when they are lost."""

from handoff_actors.core.stream.events import (
    SKIPPED,
    DrainStream,
    InputLost,
    ItemFailure,
    NewItem,
    NodeGone,
    OwnerGone,
    Pushed,
    ResultLost,
    StreamEffect,
    StreamResult,
)
from handoff_actors.core.stream.items.values import MOST_LOSSES
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import Generate, GenerateMore, RunBatch
from tests.core.stream.builders import (
    code,
    dropped,
    ended,
    failure,
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

CHAIN = Function("y", ["x"], code), Function("z", ["y"], code), Function("w", ["z"], code)
#: On a node that gets lost in these tests, and no worker is on it.
LOST = stored(5, 100, "b")
LOST_WITH_NODE = ItemFailure("lost", b"", "a value of it was lost with node b")


def lose_node(stream: StreamMachine, name: str = "b") -> list[StreamEffect]:
    return stream.handle(NodeGone(name), 5.0)


# --- Uses -------------------------------------------------------------------------------------------------------


def test_value_is_dropped_once_nothing_needs_it() -> None:
    stream = stream_of(*CHAIN)
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 1.0)

    assert stream.handle(ended(2, (2, b"a")), 2.0) == [send(3, run(3, b"a")), dropped(stored(5))]


def test_copy_on_the_node_of_a_worker_that_takes_a_value_is_dropped_with_it() -> None:
    stream = stream_of(*CHAIN)
    push(stream)

    sent = stream.handle(ended(1, (1, LOST)), 1.0)

    assert sent == [send(2, run(2, (5, 100)), needs=[LOST])]
    assert stream.handle(ended(2, (2, b"a")), 2.0)[-1] == dropped(LOST, stored(5))


def test_copies_of_what_was_lost_and_made_again_are_dropped_too() -> None:
    stream = _with_lost_value_given()
    lose_node(stream)
    stream.handle(up(2, attempt=2, node="c"), 5.0)
    sent = stream.handle(ended(1, (1, stored(7))), 6.0)

    assert sent == [send(2, run(2, (7, 100)), needs=[stored(7)], at=place(2, attempt=2, node="c"))]
    ends = stream.handle(ended(2, (2, b"a"), at=place(2, attempt=2, node="c")), 7.0)
    assert ends[-1] == dropped(stored(7), stored(5), stored(7, node="c"))


def test_copies_of_lost_nodes_are_not_dropped_there() -> None:
    stream = stream_of(*CHAIN[:2])
    push(stream, stored(4, node=""))
    stream.handle(NodeGone("a"), 1.0)
    stream.handle(up(1, attempt=2, node="b"), 2.0)

    ends = stream.handle(ended(1, (1, b"a"), at=place(1, attempt=2, node="b")), 3.0)

    assert ends == [dropped(stored(4, node=""), stored(4, node="b"))]


def test_value_that_another_is_made_of_stays_until_that_is_out() -> None:
    stream = stream_of(*CHAIN)
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 1.0)

    assert stream.handle(ended(2, (2, stored(6))), 2.0) == [send(3, run(3, (6, 100)), needs=[stored(6)])]
    assert stream.handle(ended(3, (3, b"a")), 3.0)[-1] == dropped(stored(6), stored(5))


def test_result_is_kept_with_what_it_is_made_of_until_it_is_taken() -> None:
    stream = stream_of(*CHAIN[:2])
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 1.0)

    assert stream.handle(ended(2, (2, stored(6))), 2.0) == [ready(result(0, stored(6), sink=2))]
    assert taken(stream) == [out(0), dropped(stored(6), stored(5))]
    assert stream.nbytes == 0


def test_values_in_flight_count_in_bytes() -> None:
    stream = stream_of(*CHAIN)
    push(stream, b"four")
    assert stream.nbytes == 4

    stream.handle(ended(1, (1, stored(5, 100))), 1.0)

    assert stream.nbytes == 104


# --- Nodes that are lost ----------------------------------------------------------------------------------------


def test_value_of_a_lost_node_is_made_again_before_the_item_goes_on() -> None:
    stream = _with_lost_value_waiting()

    assert lose_node(stream) == [send(1, run(1))]
    assert stream.handle(up(2), 6.0) == []
    assert stream.handle(ended(1, (1, stored(7))), 7.0) == [send(2, run(2, (7, 100)), needs=[stored(7)])]
    assert stream.handle(ended(2, (2, b"a")), 8.0)[-1] == dropped(stored(7))
    assert stream.nbytes == 1


def test_values_are_made_again_from_those_that_are_lost_with_them() -> None:
    stream = stream_of(*CHAIN)
    push(stream)
    stream.handle(ended(1, (1, LOST)), 1.0)
    stream.handle(NodeGone("a"), 1.5)
    stream.handle(up(2, attempt=2, node="c"), 1.6)
    stream.handle(ended(2, (2, stored(6, node="b")), at=place(2, attempt=2, node="c")), 2.0)

    assert lose_node(stream) == []
    assert stream.handle(up(1, attempt=2, node="c"), 6.0) == [
        send(1, run(1), at=place(1, attempt=2, node="c"))
    ]
    assert stream.handle(ended(1, (1, b"y"), at=place(1, attempt=2, node="c")), 7.0) == [
        send(2, run(2, b"y"), at=place(2, attempt=2, node="c"))
    ]
    assert stream.handle(ended(2, (2, b"z"), at=place(2, attempt=2, node="c")), 8.0) == []
    assert stream.handle(up(3, attempt=2, node="c"), 9.0) == [
        send(3, run(3, b"z"), at=place(3, attempt=2, node="c"))
    ]


def test_item_fails_where_a_lost_value_has_no_maker() -> None:
    stream = stream_of(*CHAIN)
    stream.handle(NodeGone("a"), 0.0)
    stream.handle(Pushed([NewItem(0, 0, [(LOST, [])])]), 0.0)
    lose_node(stream)

    assert stream.handle(up(attempt=2), 6.0) == [ready(result(0, LOST_WITH_NODE))]
    assert taken(stream) == [out(0)]


def test_batch_goes_without_an_item_whose_value_is_lost() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2, batch_timeout=60.0))
    stream.handle(Pushed([NewItem(0, 0, [(LOST, [])])]), 0.0)
    lose_node(stream)

    assert push(stream, now=6.0) == [send(1, RunBatch([(2, [b"v"])])), ready(result(0, LOST_WITH_NODE))]


def test_batch_goes_without_an_item_whose_value_is_made_again() -> None:
    stream = stream_of(
        Function("y", ["x"], code, parallelism=2), Function("z", ["y"], code, batch_size=2, batch_timeout=9.0)
    )
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, b"a")), 1.0)
    stream.handle(up(2, attempt=9, node="gone"), 2.0)
    stream.handle(NodeGone("gone"), 3.0)
    stream.handle(ended(1, (2, LOST), lane=1), 4.0)
    lose_node(stream)

    assert stream.handle(up(2), 6.0) == [send(2, RunBatch([(3, [b"a"])]))]
    assert stream.handle(ended(2, (3, b"A")), 7.0) == [ready(result(0, b"A", sink=2))]
    assert stream.wake(15.0) == []
    assert stream.handle(ended(1, (2, b"b")), 20.0) == [send(2, RunBatch([(4, [b"b"])]))]


def test_generator_is_not_called_for_an_item_whose_value_is_lost() -> None:
    stream = stream_of(Function("g", ["x"], generator))
    push(stream)
    stream.handle(Pushed([NewItem(1, 0, [(LOST, [])])]), 0.0)
    lose_node(stream)

    effects = stream.handle(generated(1, 1, end=True), 6.0)

    assert effects == [out(0), ready(result(1, LOST_WITH_NODE))]


def test_item_fails_where_its_value_cannot_be_made_again() -> None:
    stream = _with_lost_value_waiting()
    lose_node(stream)
    stream.handle(ended(1, (1, failure())), 6.0)

    assert stream.handle(up(2), 7.0) == [ready(result(0, failure(stage=1)))]
    assert taken(stream) == [out(0)]
    assert stream.nbytes == 0


def test_item_fails_where_its_value_is_skipped_when_it_is_made_again() -> None:
    stream = _with_lost_value_waiting()
    lose_node(stream)
    stream.handle(ended(1, (1, SKIPPED)), 6.0)

    skipped = ItemFailure("lost", b"", "it was lost, and skipped when it was made again")
    assert stream.handle(up(2), 7.0) == [ready(result(0, skipped))]


def test_value_that_was_made_again_can_be_lost_again() -> None:
    stream = _with_lost_value_waiting()
    lose_node(stream)
    stream.handle(ended(1, (1, stored(7, node="c"))), 6.0)

    assert lose_node(stream, "c") == [send(1, run(1))]


def test_value_that_is_being_made_again_is_not_lost_twice() -> None:
    stream = _with_lost_value_waiting()
    lose_node(stream)

    assert lose_node(stream) == []


def test_value_that_nobody_needs_any_more_once_it_is_made_again_is_dropped() -> None:
    stream = stream_of(*CHAIN[:2])
    stream.handle(Pushed([NewItem(0, 0, [(stored(4, node=""), [])])]), 0.0)
    stream.handle(ended(1, (1, LOST)), 1.0)
    lose_node(stream)

    assert stream.handle(ended(2, (2, b"a")), 6.0) == [
        ready(result(0, b"a", sink=2)),
        dropped(stored(5)),
    ]
    assert stream.handle(ended(1, (1, stored(7))), 7.0) == [dropped(stored(7), stored(4, node=""), stored(4))]
    taken(stream)
    assert stream.nbytes == 0


def test_loss_of_a_node_blames_no_item() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)

    for attempt in (2, 3, 4, 5):
        stream.handle(NodeGone("a"), 1.0)
        effects = stream.handle(up(attempt=attempt), 2.0)

    assert effects == [send(1, run(1), at=place(attempt=5))]


def test_workers_of_a_lost_node_start_again_by_themselves() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)

    assert stream.handle(NodeGone("a"), 1.0) == []


def test_result_waits_until_its_lost_value_is_made_again_with_those_behind_it() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=3))
    for _ in range(3):
        push(stream)
    stream.handle(ended(1, (2, LOST), lane=1), 1.0)
    stream.handle(ended(1, (3, b"c"), lane=2), 1.0)
    lose_node(stream)

    assert stream.handle(ended(1, (1, b"a")), 6.0) == [ready(result(0, b"a"))]
    assert taken(stream) == [out(0)]
    assert stream.handle(ended(1, (2, b"b"), lane=1), 7.0) == [ready(result(1, b"b"), result(2, b"c"))]


def test_result_whose_value_cannot_be_made_again_is_a_failure() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (2, LOST), lane=1), 1.0)
    lose_node(stream)
    stream.handle(ended(1, (2, failure()), lane=1), 6.0)

    assert stream.handle(ended(1, (1, b"a")), 7.0) == [ready(result(0, b"a"), result(1, failure(stage=1)))]


def test_results_that_wait_for_a_lost_value_are_dropped_with_their_owner() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (2, LOST), lane=1), 1.0)
    lose_node(stream)
    stream.handle(ended(1, (1, b"a")), 6.0)

    assert stream.handle(OwnerGone(0), 7.0) == [out(0), out(1)]
    assert stream.handle(ended(1, (2, stored(7)), lane=1), 8.0) == [dropped(stored(7))]


def test_result_that_was_handed_out_and_not_taken_is_made_again() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, LOST)), 1.0)

    assert lose_node(stream) == [send(1, run(1))]
    assert stream.current(LOST) is None
    stream.handle(ended(1, (1, stored(7))), 2.0)
    assert stream.current(LOST) == stored(7)
    assert taken(stream) == [out(0), dropped(stored(7))]
    assert stream.nbytes == 0


def test_result_that_could_not_be_fetched_is_made_again_each_time_up_to_a_bound() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 1.0)

    for index in range(5, 4 + MOST_LOSSES):
        assert stream.handle(ResultLost(stored(index), "gone"), 2.0) == [send(1, run(1))]
        assert stream.handle(ResultLost(stored(index), "gone"), 2.0) == []
        assert stream.handle(ended(1, (1, stored(index + 1))), 3.0) == []

    last = stored(4 + MOST_LOSSES)
    assert stream.current(stored(5)) == last
    assert stream.handle(ResultLost(last, "gone"), 4.0) == []
    lost = stream.current(stored(5))
    assert isinstance(lost, ItemFailure)
    assert lost.reason == "a value of it could not be had, though it was made 20 times: gone"
    assert taken(stream) == [out(0)]
    assert stream.nbytes == 0


def test_result_that_is_handed_out_after_it_was_made_again_is_known_by_the_first_one() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, LOST)), 1.0)
    lose_node(stream)
    stream.handle(ended(1, (1, stored(7))), 2.0)

    (handed,) = stream.handle(ended(2, (2, b"z")), 3.0)

    assert handed == ready(StreamResult(0, {1: LOST, 2: b"z"}))
    assert stream.current(LOST) == stored(7)
    assert stream.handle(ResultLost(stored(7), "gone"), 4.0) == [send(1, run(1))]
    stream.handle(ended(1, (1, stored(8))), 5.0)
    assert stream.current(LOST) == stored(8)


def test_result_without_a_maker_that_could_not_be_fetched_is_lost() -> None:
    stream = stream_of(Function("y", ["x"], code, init=code, finish=finish))
    stream.handle(DrainStream(), 1.0)
    stream.handle(generated(1, 1, stored(5), end=True), 2.0)

    assert stream.handle(ResultLost(stored(5), "gone"), 3.0) == []
    assert stream.current(stored(5)) == ItemFailure("lost", b"", "gone")


# --- Inputs that are lost ---------------------------------------------------------------------------------------


def test_worker_that_did_not_get_an_input_gets_what_was_sent_behind_it_again() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.0), 1.0)
    taken(stream)
    push(stream, stored(5, node=""))
    push(stream, stored(6, node=""))
    push(stream)

    effects = stream.handle(InputLost(place(), 6, "nobody has it"), 2.0)

    assert effects == [send(1, run(4)), dropped(stored(6))]
    lost = ItemFailure("lost", b"", "nobody has it")
    assert stream.handle(ended(1, (2, b"b")), 3.0) == [
        ready(result(1, b"b"), result(2, lost)),
        dropped(stored(5, node=""), stored(5)),
    ]


def test_input_that_is_lost_is_made_again() -> None:
    stream = _with_lost_value_given()

    assert stream.handle(InputLost(place(2), 5, "nobody has it"), 2.0) == [send(1, run(1))]
    assert stream.handle(ended(1, (1, stored(7))), 3.0) == [send(2, run(2, (7, 100)), needs=[stored(7)])]


def test_item_fails_whose_input_is_lost_and_has_no_maker() -> None:
    stream = stream_of(*CHAIN)
    stream.handle(Pushed([NewItem(0, 0, [(LOST, [])])]), 0.0)

    effects = stream.handle(InputLost(place(1), 5, "nobody has it"), 2.0)

    lost = ItemFailure("lost", b"", "nobody has it")
    assert effects == [ready(result(0, lost)), dropped(stored(5))]


def test_loss_of_an_input_that_is_not_needed_any_more_changes_nothing() -> None:
    stream = _with_lost_value_given()

    assert stream.handle(InputLost(place(2), 99, "nobody has it"), 2.0) == []
    assert stream.handle(InputLost(place(2, attempt=9), 5, "nobody has it"), 2.0) == []


# --- Results of generators --------------------------------------------------------------------------------------


def test_lost_result_of_a_generator_is_made_again_and_the_rest_is_left_out() -> None:
    stream = _with_lost_result()

    assert lose_node(stream) == [send(1, Generate(3, [b"v"], 1, 1))]
    assert stream.handle(generated(1, 3, stored(7)), 6.0) == [send(1, GenerateMore(3, 0))]
    assert stream.handle(up(2), 7.0) == [send(2, run(2, b"a"))]
    assert stream.handle(ended(2, (2, b"A")), 8.0)[0] == send(2, run(4, (7, 100)), needs=[stored(7)])


def test_generator_keeps_going_and_gets_its_credit_again_when_a_later_message_has_lost_an_input() -> None:
    stream = stream_of(Function("g", ["x"], generator), Function("z", ["g"], code), in_flight=2)
    stream.handle(Pushed([NewItem(0, 0, [(stored(4, node=""), [])])]), 0.0)
    _without_worker(stream)
    stream.handle(generated(1, 1, b"a"), 1.0)
    stream.handle(generated(1, 1, LOST), 1.0)
    given = Generate(3, [(4, 100)], 1, 1)
    assert lose_node(stream) == [send(1, given, needs=[stored(4, node="")])]
    stream.handle(up(2), 6.0)
    stream.handle(ended(2, (2, b"A")), 7.0)
    assert taken(stream) == [send(1, GenerateMore(1, 1))]

    effects = stream.handle(InputLost(place(), 4, "nobody has it"), 8.0)

    assert effects == [
        send(1, GenerateMore(1, 1)),
        ready(result(0, ItemFailure("lost", b"", "nobody has it"))),
    ]


def test_last_result_of_a_generator_that_is_made_again_ends_it() -> None:
    stream = _with_lost_result()
    lose_node(stream)

    assert stream.handle(generated(1, 3), 6.0) == []
    assert stream.handle(generated(1, 3, b"b", end=True), 6.0) == []
    assert stream.handle(ended(2, (2, b"A")), 7.0) == []


def test_generator_that_gives_fewer_results_than_before_has_lost_them() -> None:
    stream = _with_lost_result()
    lose_node(stream)
    stream.handle(generated(1, 3, end=True), 6.0)
    stream.handle(up(2), 7.0)

    effects = stream.handle(ended(2, (2, b"A")), 8.0)

    fewer = ItemFailure("lost", b"", "the generator gives fewer results than before", stage=1)
    assert effects == [ready(result(0, b"A", sink=2)), ready(result(0, fewer))]


def test_generator_that_raises_when_a_result_is_made_again_is_tried_again() -> None:
    stream = _with_lost_result(max_retries=1)
    lose_node(stream)

    again = stream.handle(generated(1, 3, end=True, failure=failure()), 6.0)
    given_up = stream.handle(generated(1, 3, end=True, failure=failure()), 7.0)

    assert again == [send(1, Generate(3, [b"v"], 1, 1))]
    assert given_up == []
    stream.handle(up(2), 8.0)
    assert stream.handle(ended(2, (2, b"A")), 9.0) == [
        ready(result(0, b"A", sink=2)),
        ready(result(0, failure(stage=1, attempts=2))),
    ]


def test_lost_result_is_made_again_from_a_value_that_is_lost_too() -> None:
    stream = stream_of(
        Function("y", ["x"], code), Function("g", ["y"], generator), Function("z", ["g"], code)
    )
    push(stream)
    stream.handle(up(3, attempt=9, node="gone"), 0.5)
    stream.handle(NodeGone("gone"), 0.6)
    stream.handle(ended(1, (1, LOST)), 1.0)
    stream.handle(generated(2, 2, stored(6, node="b"), end=True), 2.0)

    assert lose_node(stream) == [send(1, run(1))]
    assert stream.handle(ended(1, (1, failure())), 6.0) == []
    assert stream.handle(up(3), 7.0) == [ready(result(0, failure(stage=1), sink=3)), dropped(stored(5))]
    assert taken(stream) == [out(0)]
    assert stream.nbytes == 0


def test_time_limit_of_a_result_that_was_made_again_is_over_with_it() -> None:
    stream = _with_lost_result(timeout=5.0)
    stream.handle(generated(1, 1, end=True), 2.0)
    lose_node(stream)
    assert stream.wake_at == 10.0

    stream.handle(generated(1, 3, stored(7)), 6.0)

    assert stream.wake_at is None


def test_result_is_made_again_while_a_suspect_waits_until_that_is_taken() -> None:
    stream = stream_of(Function("g", ["x"], generator), Function("z", ["g"], code), in_flight=1)
    push(stream)
    stream.handle(generated(1, 1, LOST), 1.0)
    stream.handle(up(1, attempt=2), 2.0)

    effects = lose_node(stream)

    assert effects == [send(1, Generate(2, [b"v"], 0, 1), at=place(1, attempt=2))]


def test_result_that_is_made_again_goes_first_and_alone_after_a_death() -> None:
    stream = _with_lost_result()
    lose_node(stream)

    assert stream.handle(up(1, attempt=2), 6.0) == [
        send(1, Generate(3, [b"v"], 1, 1), at=place(1, attempt=2))
    ]
    assert stream.handle(generated(1, 3, b"b", at=place(1, attempt=2)), 7.0) == [
        send(1, GenerateMore(3, 0), Generate(1, [b"v"], 2, 62), at=place(1, attempt=2))
    ]


def test_suspect_result_waits_while_a_generator_goes_on() -> None:
    stream = _with_lost_result()
    push(stream)
    stream.handle(generated(1, 1, end=True), 2.0)
    lose_node(stream)
    stream.handle(up(1, attempt=2), 6.0)

    assert stream.handle(generated(1, 3, b"b", end=True, at=place(1, attempt=2)), 7.0) == [
        send(1, Generate(5, [b"v"], 0, 64), at=place(1, attempt=2))
    ]


def _with_lost_value_waiting() -> StreamMachine:
    """A stream with an item that waits for a worker of the second stage, with a value on node "b"."""
    stream = stream_of(*CHAIN[:2])
    push(stream)
    _without_worker(stream)
    stream.handle(ended(1, (1, LOST)), 1.0)
    return stream


def _with_lost_value_given() -> StreamMachine:
    """A stream with an item that a worker of the second stage has, with a value on node "b"."""
    stream = stream_of(*CHAIN[:2])
    push(stream)
    stream.handle(ended(1, (1, LOST)), 1.0)
    return stream


def _with_lost_result(**options: object) -> StreamMachine:
    """A stream whose generator has given two results, of which the second is on node "b"; nothing takes them yet."""
    stream = stream_of(Function("g", ["x"], generator, **options), Function("z", ["g"], code))  # type: ignore[arg-type]
    push(stream)
    _without_worker(stream)
    stream.handle(generated(1, 1, b"a"), 1.0)
    stream.handle(generated(1, 1, LOST), 1.0)
    return stream


def _without_worker(stream: StreamMachine) -> None:
    """Lose the worker of the second stage."""
    stream.handle(up(2, attempt=9, node="gone"), 0.5)
    stream.handle(NodeGone("gone"), 0.6)
