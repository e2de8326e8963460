from handoff_actors.core.stream.events import DrainStream, NodeGone, StageEnd, StageGenerated
from handoff_actors.core.stream.explain import ItemExplanation, ItemPlace
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from tests.core.stream.builders import (
    code,
    ended,
    failure,
    finish,
    generated,
    generator,
    new_stream,
    place,
    push,
    stored,
    stream_of,
    taken,
    up,
)


def places(stream: StreamMachine, number: int) -> list[str]:
    return list(map(str, stream.view.explain(number).places))


def test_item_that_was_not_pushed_is_nowhere() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert stream.view.explain(0) == ItemExplanation(0, "not pushed")
    assert stream.view.explain(-1) == ItemExplanation(-1, "not pushed")
    assert str(stream.view.explain(0)) == "item 0 is not pushed"


def test_items_of_a_worker_and_of_its_queue_wait_for_those_before() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.0025), 0.0)
    for _ in range(6):
        push(stream)

    on_worker = ItemPlace("queued", "y", "1 other(s) of the worker go first", 0, "a")
    assert stream.view.explain(1) == ItemExplanation(1, "in flight", (ItemPlace("working", "y", "", 0, "a"),))
    assert stream.view.explain(2) == ItemExplanation(2, "in flight", (on_worker,))
    assert places(stream, 3) == ["queued at function 'y': the workers have as much to do as they should"]
    assert places(stream, 4) == ["queued at function 'y': 1 other(s) go first"]
    assert str(stream.view.explain(2)) == (
        "item 2 is in flight\n  queued at function 'y', on worker 0 on node 'a': 1 other(s) of the worker go first"
    )


def test_item_waits_for_a_worker_that_takes_items() -> None:
    stream = new_stream(Function("y", ["x"], code))
    stream.start(0.0)
    push(stream)

    assert places(stream, 0) == ["queued at function 'y': no worker of the function takes items now"]


def test_item_waits_for_a_value_that_is_made_again() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["y"], code))
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, stored(5))), 0.0)
    stream.handle(ended(1, (2, stored(6, node="b"))), 0.0)
    stream.handle(NodeGone("b"), 0.0)

    assert places(stream, 1) == [
        "working at function 'y', on worker 0 on node 'a'",
        "queued at function 'z': a value that it takes was lost, and is being made again",
    ]


def test_item_that_has_failed_pauses_before_it_is_tried_again() -> None:
    stream = stream_of(Function("y", ["x"], code, max_retries=1, retry_backoff=(1.0, 1.0, 1.0)))
    push(stream)
    stream.handle(ended(1, (1, failure())), 0.0)

    assert places(stream, 0) == ["queued at function 'y': it has failed, and its pause is not over"]


def test_suspect_waits_to_be_on_a_worker_alone() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.001), 0.0)
    push(stream)
    push(stream)
    stream.handle(up(attempt=2), 1.0)

    assert places(stream, 2) == [
        "queued at function 'y': a worker that had it has died: it waits until it can be on one alone"
    ]


def test_item_waits_for_bytes() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), in_flight_nbytes=10)
    push(stream, b"123456")
    push(stream, b"123456")

    assert places(stream, 1) == [
        "queued at function 'y': there are as many bytes in flight as in_flight_mb allows: older items go first"
    ]


def test_item_waits_for_its_batch() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=3, batch_timeout=9.0))
    push(stream)
    push(stream)

    assert places(stream, 1) == ["queued at function 'y': its batch is not complete"]
    push(stream)
    assert places(stream, 1) == ["working at function 'y', on worker 0 on node 'a'"]


def test_join_waits_for_producers() -> None:
    stream = stream_of(
        Function("y", ["x"], code), Function("z", ["x"], code), Function("j", ["y", "z"], code)
    )
    push(stream)
    stream.handle(ended(1, (1, b"a")), 0.0)

    working, joining = stream.view.explain(0).places
    assert str(working) == "working at function 'z', on worker 0 on node 'a'"
    assert joining == ItemPlace("joining", "j", "waits for 'z'", waits_for=("z",))


def test_join_of_the_results_is_at_the_output() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["x"], code), join_timeout_s=1.0)
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, b"a")), 0.0)

    assert places(stream, 0)[-1] == "joining at the output: waits for 'z'"
    stream.wake(1.0)
    explained = stream.view.explain(0)
    assert explained.reason == "it has failed: not all of its inputs came in time"
    assert str(explained.places[-1]) == "result at the output: it has not been taken"


def test_item_waits_for_its_turn_at_a_stage_and_at_the_output() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), Function("z", ["y"], code))
    push(stream)
    push(stream)
    stream.handle(ended(1, (2, b"b"), lane=1), 0.0)
    assert places(stream, 1) == ["ordering at function 'z': item 0 comes first"]

    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (2, b"b"), lane=1), 0.0)
    assert places(stream, 1) == ["ordering at the output: item 0 comes first"]


def test_result_waits_to_be_taken_and_then_the_item_is_done() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a")), 0.0)
    assert places(stream, 0) == ["result at the output: it has not been taken"]

    taken(stream)

    assert stream.view.explain(0) == ItemExplanation(0, "done")


def test_result_waits_until_its_value_is_made_again() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (2, stored(6, node="b")), lane=1), 0.0)
    stream.handle(NodeGone("b"), 0.0)
    stream.handle(ended(1, (1, b"a")), 0.0)

    assert "result at the output: a value of it was lost, and is being made again" in places(stream, 1)


def test_item_that_has_failed_says_where_and_why() -> None:
    stream = stream_of(Function("y", ["x"], code, timeout=1.0))
    push(stream)
    push(stream)
    stream.handle(ended(1, (1, failure("no"))), 0.0)
    stream.wake(1.0)
    taken(stream, 2)

    assert stream.view.explain(0) == ItemExplanation(0, "failed", reason="it has failed at function 'y': no")
    assert str(stream.view.explain(1)) == (
        "item 1: it has failed at function 'y' on node 'a': it took longer than its time limit of 1.0 s"
    )


def test_generator_waits_until_its_results_are_taken() -> None:
    stream = stream_of(Function("y", ["x"], generator), in_flight=2)
    push(stream)
    stream.handle(generated(1, 1, b"a"), 0.0)
    stream.handle(generated(1, 1, b"b"), 0.0)

    assert places(stream, 0) == [
        "working at function 'y', on worker 0 on node 'a': its generator waits until results that it has given are taken",
        "result at the output: it has not been taken",
    ]


def test_results_of_a_generator_wait_for_earlier_ones_of_their_own() -> None:
    stream = stream_of(Function("y", ["x"], generator), Function("z", ["y"], code, parallelism=2))
    push(stream)
    results = [StageEnd(1, b"a"), StageEnd(1, b"b")]
    stream.handle(StageGenerated(place(), 1, results, False, None, 1.0), 0.0)
    stream.handle(ended(2, (3, b"b"), lane=1), 0.0)

    assert places(stream, 0)[-1] == "ordering at the output: an earlier result of its own comes first"


def test_call_of_finish_is_part_of_no_item() -> None:
    stream = stream_of(Function("y", ["x"], code, init=code, finish=finish))
    push(stream)
    stream.handle(ended(1, (1, b"a")), 0.0)
    stream.handle(DrainStream(), 0.0)

    assert places(stream, 0) == ["result at the output: it has not been taken"]
