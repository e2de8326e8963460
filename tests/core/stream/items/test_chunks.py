import pytest

from handoff_actors.core.stream.events import (
    SKIPPED,
    ItemChunk,
    ItemFailure,
    ItemOut,
    ItemOutcome,
    LaneClosed,
    LaneLost,
    NewItem,
    Pushed,
    ResultsReady,
    StageChunkEnded,
    StopLane,
    StreamEffect,
    StreamResult,
)
from handoff_actors.core.stream.items.chunks import groups_of, is_chain, runs_of
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import RunBatch, RunChunk
from tests.core.stream.builders import (
    ERROR,
    async_code,
    code,
    dropped,
    ended,
    failure,
    generator,
    key,
    out,
    place,
    plan_of,
    ready,
    result,
    run,
    send,
    stored,
    stream_of,
    taken,
    up,
)

QUICK_S = 1e-6


def values(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def new_items(stream: StreamMachine, count: int, owner: int = 0) -> list[NewItem]:
    first = stream.next_number
    return [NewItem(first + place, owner, [(b"%d" % (first + place), ())]) for place in range(count)]


def push_together(stream: StreamMachine, count: int, owner: int = 0) -> list[StreamEffect]:
    return stream.handle(Pushed(new_items(stream, count, owner)), 0.0)


def chunk_ended(
    stage: int, number: int, *outcomes: ItemOutcome, lane: int = 0, seconds: float = QUICK_S
) -> StageChunkEnded:
    return StageChunkEnded(place(stage, lane), number, list(outcomes), seconds)


def failures(effects: list[StreamEffect]) -> list[ItemFailure]:
    """The failures among the results that are ready."""
    results = [each for effect in effects if isinstance(effect, ResultsReady) for each in effect.results]
    return [each.outcome for each in results if isinstance(each.outcome, ItemFailure)]


def quick(*functions: Function, **options: object) -> StreamMachine:
    """A stream whose first stage has shown that its items are short. The number of the next work is 2, that of the next item 1."""
    stream = stream_of(*functions, **options)
    push_together(stream, 1)
    stream.handle(ended(1, (1, SKIPPED), seconds=QUICK_S), 0.0)
    return stream


def chunk_result(number: int, *numbers: int, sink: int = 1) -> StreamResult:
    return StreamResult(number, {sink: ItemChunk(values(*numbers))})


@pytest.mark.parametrize(
    ("functions", "is_one"),
    [
        ([], True),
        ([Function("y", ["x"], code), Function("z", ["y"], code)], True),
        ([Function("y", ["x"], generator)], False),
        ([Function("y", ["x"], code), Function("z", ["x"], code)], False),
        ([Function("y", ["x"], code), Function("z", ["x"], code), Function("j", ["y", "z"], code)], False),
        ([Function("other", [], None, type="input"), Function("y", ["x"], code)], False),
    ],
)
def test_chain_has_one_way_for_each_item(functions: list[Function], *, is_one: bool) -> None:
    assert is_chain(plan_of(*functions)) == is_one


def test_small_items_of_one_owner_that_follow_one_another_go_together() -> None:
    owners_and_values: list[tuple[int, bytes]] = [
        (0, b"a"), (0, b"b"), (0, b"c"), (1, b"d"), (1, bytes(10_000)), (1, b"e"),
    ]  # fmt: skip
    items = [NewItem(number, owner, [(value, ())]) for number, (owner, value) in enumerate(owners_and_values)]

    groups = [(first.number, list(together)) for first, together in groups_of(items, 2)]

    assert groups == [(0, [b"a", b"b"]), (2, [b"c"]), (3, [b"d"]), (4, []), (5, [b"e"])]


def test_values_stay_together_and_all_else_goes_by_itself() -> None:
    lost = failure()

    assert list(runs_of([b"a", b"b", SKIPPED, SKIPPED, lost, b"c"])) == [
        (ItemChunk([b"a", b"b"]), 2), (SKIPPED, 1), (SKIPPED, 1), (lost, 1), (b"c", 1),
    ]  # fmt: skip


def test_result_knows_of_how_many_items_it_is() -> None:
    assert [each.size for each in (result(1, b"a"), result(1, failure()), chunk_result(1, 2, 3, 4))] == [
        1,
        1,
        3,
    ]


def test_worker_gets_one_item_until_it_is_known_how_long_that_takes() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert push_together(stream, 4) == [send(1, run(2, b"0"))]
    assert stream.handle(ended(1, (2, b"r"), seconds=QUICK_S), 0.0) == [
        send(1, RunChunk(1, values(1, 2, 3))), ready(result(0, b"r")),
    ]  # fmt: skip


def test_chunks_are_so_large_that_several_have_room() -> None:
    stream = quick(Function("y", ["x"], code), in_flight=16)

    assert push_together(stream, 5) == [
        send(1, RunChunk(2, values(1, 2)), RunChunk(3, values(3, 4)), run(4, b"5"))
    ]
    assert stream.in_flight == 5


def test_chunk_goes_from_stage_to_stage_and_out() -> None:
    stream = quick(Function("y", ["x"], code), Function("z", ["y"], code))
    push_together(stream, 1)
    stream.handle(ended(1, (2, b"1"), seconds=QUICK_S), 0.0)
    stream.handle(ended(2, (3, SKIPPED), seconds=QUICK_S), 0.0)
    push_together(stream, 3)

    assert stream.handle(chunk_ended(1, 4, *values(7, 8, 9)), 0.0) == [send(2, RunChunk(5, values(7, 8, 9)))]
    assert stream.handle(chunk_ended(2, 5, *values(4, 5, 6)), 0.0) == [
        ready(chunk_result(2, 4, 5, 6, sink=2))
    ]
    assert taken(stream, 3) == [ItemOut(0, 2, 3)]
    assert (stream.in_flight, stream.nbytes) == (0, 0)


def test_worker_may_answer_a_chunk_in_parts() -> None:
    stream = quick(Function("y", ["x"], code))
    push_together(stream, 4)

    assert stream.handle(chunk_ended(1, 2, *values(1, 2)), 0.0) == [ready(chunk_result(1, 1, 2))]
    assert stream.handle(chunk_ended(1, 2, b"3"), 0.0) == [ready(result(3, b"3"))]
    assert stream.handle(chunk_ended(1, 2, b"4"), 0.0) == [ready(result(4, b"4"))]
    assert not any(stage.is_busy for stage in stream.stages)


def test_results_of_a_chunk_make_room_one_by_one() -> None:
    stream = quick(Function("y", ["x"], code), in_flight=16)
    push_together(stream, 2)
    stream.handle(chunk_ended(1, 2, *values(1, 2)), 0.0)
    push_together(stream, 14)
    assert not stream.has_room

    assert taken(stream, 1)[0] == out(1)
    assert (stream.room, stream.in_flight) == (1, 15)
    assert taken(stream, 1)[0] == out(2)
    assert stream.room == 2


def test_item_of_a_chunk_that_fails_is_tried_again_alone() -> None:
    stream = quick(Function("y", ["x"], code, max_retries=1))
    push_together(stream, 3)

    assert stream.handle(chunk_ended(1, 2, b"a", failure(), b"c"), 0.0) == [
        send(1, run(4, b"2")), ready(result(1, b"a")),
    ]  # fmt: skip
    assert stream.handle(ended(1, (4, failure())), 0.0) == [
        ready(result(2, failure(stage=1, attempts=2)), result(3, b"c"))
    ]


def test_item_of_a_chunk_that_is_skipped_leaves_the_others_together() -> None:
    stream = quick(Function("y", ["x"], code))
    push_together(stream, 5)

    assert stream.handle(chunk_ended(1, 2, *values(1, 2), SKIPPED, *values(4, 5)), 0.0) == [
        ready(chunk_result(1, 1, 2), chunk_result(4, 4, 5)), out(3),
    ]  # fmt: skip


def test_items_of_a_chunk_whose_worker_has_died_are_on_workers_alone() -> None:
    stream = quick(Function("y", ["x"], code))
    push_together(stream, 3)

    stream.handle(LaneLost(1, 0, ERROR, is_loss=True), 0.0)

    assert stream.handle(up(attempt=2), 0.0) == [send(1, run(3, b"1"), at=place(attempt=2))]
    assert stream.in_flight == 3


def test_chunks_are_divided_among_workers() -> None:
    stream = quick(Function("y", ["x"], code, parallelism=2), in_flight=48)

    assert push_together(stream, 6) == [
        send(1, RunChunk(3, values(1, 2, 3))), send(1, RunChunk(2, values(4, 5, 6)), lane=1),
    ]  # fmt: skip
    assert stream.handle(chunk_ended(1, 2, *values(4, 5, 6), lane=1), 0.0) == []
    assert stream.handle(chunk_ended(1, 3, *values(1, 2, 3)), 0.0) == [
        ready(chunk_result(1, 1, 2, 3), chunk_result(4, 4, 5, 6))
    ]


def test_chunks_come_to_a_stage_in_order() -> None:
    stream = quick(Function("y", ["x"], code, parallelism=2), Function("z", ["y"], code), in_flight=48)
    push_together(stream, 4)

    assert stream.handle(chunk_ended(1, 2, *values(3, 4), lane=1), 0.0) == []
    assert stream.handle(chunk_ended(1, 3, *values(1, 2)), 0.0) == [send(2, run(6, b"1"))]


def test_coroutines_get_items_one_by_one() -> None:
    stream = quick(Function("y", ["x"], code), Function("z", ["y"], async_code, parallelism=9))
    push_together(stream, 3)

    assert stream.handle(chunk_ended(1, 2, *values(1, 2, 3)), 0.0) == [
        send(2, run(4, b"1"), run(5, b"2"), run(3, b"3"))
    ]


def test_time_limit_of_an_item_in_a_chunk_begins_with_the_end_of_the_one_before() -> None:
    stream = quick(Function("y", ["x"], code, timeout=9.0))
    assert push_together(stream, 3) == [send(1, RunChunk(2, values(1, 2, 3)))]
    assert push_together(stream, 2) == []
    assert stream.wake_at == 9.0

    stream.handle(chunk_ended(1, 2, b"1"), 5.0)
    assert stream.wake_at == 14.0
    assert stream.handle(chunk_ended(1, 2, *values(2, 3)), 6.0)[0] == send(1, RunChunk(3, values(4, 5)))


def test_items_of_a_chunk_that_takes_too_long_are_on_workers_alone_with_no_try_less() -> None:
    stream = quick(Function("y", ["x"], code, timeout=9.0))
    push_together(stream, 2)

    assert stream.wake(9.0) == [StopLane(1, 0)]
    stream.handle(LaneClosed(1, 0), 10.0)
    assert stream.handle(up(attempt=2), 11.0) == [send(1, run(3, b"1"), at=place(attempt=2))]
    assert stream.handle(ended(1, (3, b"1"), at=place(attempt=2)), 12.0)[0] == send(
        1, run(2, b"2"), at=place(attempt=2)
    )
    (failed,) = failures(stream.wake(21.0))
    assert (failed.kind, failed.attempts) == ("timeout", 1)


def test_items_of_a_batch_that_takes_too_long_fail_with_it() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=2, timeout=9.0), in_flight=16)
    assert push_together(stream, 2) == [send(1, RunBatch([(1, values(0, 1))], (1,)))]

    assert [failed.kind for failed in failures(stream.wake(9.0))] == ["timeout", "timeout"]


def test_batches_are_filled_from_chunks_and_what_is_left_of_them() -> None:
    stream = stream_of(Function("y", ["x"], code, batch_size=3), in_flight=32)

    assert push_together(stream, 4) == [send(1, RunBatch([(2, values(0, 1, 2))], (2,)))]
    assert push_together(stream, 2) == []
    assert stream.handle(chunk_ended(1, 2, *values(0, 1, 2)), 0.0) == [
        send(1, RunBatch([(1, [b"3"]), (3, values(4, 5))], (3,))), ready(chunk_result(0, 0, 1, 2)),
    ]  # fmt: skip
    stream.handle(ended(1, (1, b"3")), 0.0)
    assert stream.handle(chunk_ended(1, 3, *values(4, 5)), 0.0) == [ready(chunk_result(4, 4, 5))]


@pytest.mark.parametrize(
    "functions",
    [
        [Function("y", ["x"], code, key=key)],
        [Function("y", ["x"], code), Function("z", ["y"], code, key=key)],
    ],
)
def test_items_whose_keys_count_travel_alone(functions: list[Function]) -> None:
    stream = quick(*functions)

    assert push_together(stream, 2) == [send(1, run(2, b"1"), run(3, b"2"))]


def test_items_of_a_chunk_are_explained_one_by_one() -> None:
    stream = quick(Function("y", ["x"], code))
    push_together(stream, 4)

    def places(number: int) -> list[str]:
        return list(map(str, stream.view.explain(number).places))

    assert places(1) == ["working at function 'y', on worker 0 on node 'a'"]
    assert places(3) == ["queued at function 'y', on worker 0 on node 'a': 2 other(s) of the worker go first"]
    stream.handle(chunk_ended(1, 2, *values(1, 2)), 0.0)
    assert places(2) == ["result at the output: it has not been taken"]
    assert places(3) == ["working at function 'y', on worker 0 on node 'a'"]
    assert stream.view.explain(0).state == "done"


def test_results_of_a_chunk_for_nobody_are_dropped() -> None:
    stream = quick(Function("y", ["x"], code))
    push_together(stream, 2)

    assert stream.handle(chunk_ended(1, 9, b"a", stored(5)), 0.0) == [dropped(stored(5))]
    assert stream.handle(chunk_ended(7, 2, b"a", stored(6)), 0.0) == [dropped(stored(6))]
