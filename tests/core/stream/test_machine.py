from handoff_actors.core.stream.events import ItemSkipped, LaneClosed, NewItem, OwnerGone, Pushed, StartLane
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from tests.core.stream.builders import (
    async_code,
    code,
    ended,
    generated,
    generator,
    key,
    new_stream,
    out,
    push,
    ready,
    result,
    stored,
    stream_of,
    taken,
    up,
)


def test_start_asks_for_the_least_workers_of_each_stage() -> None:
    stream = new_stream(
        Function("y", ["x"], code, parallelism=(2, 9)),
        Function("z", ["y"], async_code, parallelism=9),
        Function("w", ["z"], code, key=key, parallelism=(1, 3)),
    )

    assert stream.start(0.0) == [
        StartLane(1, 0), StartLane(1, 1), StartLane(2, 0), StartLane(3, 0), StartLane(3, 1), StartLane(3, 2),
    ]  # fmt: skip


def test_items_that_are_pushed_before_workers_are_up_wait_for_them() -> None:
    stream = new_stream(Function("y", ["x"], code))
    stream.start(0.0)

    assert push(stream) == []
    assert len(stream.handle(up(), 1.0)) == 1


def test_answer_of_a_lane_that_is_gone_is_ignored() -> None:
    stream = stream_of(Function("y", ["x"], code))

    assert stream.handle(up(1, 5), 1.0) == []
    assert stream.handle(LaneClosed(1, 5), 1.0) == []


def test_next_deadline_is_the_earliest_of_all_stages_and_joins() -> None:
    stream = stream_of(
        Function("y", ["x"], code, timeout=5.0),
        Function("z", ["x"], code, timeout=3.0),
        Function("j", ["y", "z"], code),
        join_timeout_s=1.0,
    )
    push(stream, now=1.0)
    assert stream.wake_at == 4.0

    stream.handle(ended(2, (2, b"z")), 2.0)

    assert stream.wake_at == 3.0


def test_reports_know_what_a_stage_has_done() -> None:
    stream = stream_of(Function("y", ["x"], code))
    for _ in range(2):
        push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=2.0), 2.0)

    (stage,) = stream.stages
    assert (stage.ended, stage.seconds, stage.waiting) == (1, 2.0, 0)
    assert stream.in_flight == 2


def test_all_pushes_before_the_watermark_are_out() -> None:
    stream = stream_of(Function("y", ["x"], code, parallelism=2), ordered=False)
    assert stream.watermark == 0
    for _ in range(3):
        push(stream)

    stream.handle(ended(1, (2, b"b"), lane=1), 1.0)
    taken(stream)
    assert stream.watermark == 0
    stream.handle(ended(1, (1, b"a")), 2.0)
    assert stream.watermark == 0
    taken(stream)
    assert stream.watermark == 2
    stream.handle(ended(1, (3, ItemSkipped()), lane=1), 3.0)
    assert stream.watermark == 3


def test_stream_that_goes_on_for_long_keeps_nothing_of_what_is_over() -> None:
    stream = stream_of(
        Function("y", ["x"], code),
        Function("z", ["x"], code, parallelism=2),
        Function("j", ["y", "z"], code),
        Function("g", ["j"], generator),
        join_timeout_s=3600.0,
    )
    for number in range(300):
        _one_item(stream, number)

    flow = stream._flow
    assert stream.in_flight == 0
    assert stream.nbytes == 0
    assert not flow.results._owners
    assert not flow.results._changed
    assert all(len(join) == 0 and len(join._deadlines) < 100 for join in flow._joins.values())
    assert not any(map(len, flow._sequencers.values()))
    values = flow.values
    assert not any((values._users, values._makers, values._places, values._replaced, values._dropped))
    assert not any(queue._numbers for stage in stream.stages for queue in stage.queues)


def _one_item(stream: StreamMachine, number: int) -> None:
    """An item of an owner of its own, from its push until its results are taken."""
    first = number * 4 + 1
    owner = number + 1
    stream.handle(Pushed([NewItem(number, owner, [(stored(number * 10, node=""), [])])]), 0.0)
    stream.handle(ended(1, (first, stored(number * 10 + 1))), 0.0)
    stream.handle(ended(2, (first + 1, stored(number * 10 + 2))), 0.0)
    stream.handle(ended(3, (first + 2, stored(number * 10 + 3))), 0.0)
    effects = stream.handle(generated(4, first + 3, b"r", end=True), 0.0)
    assert ready(result(number, b"r", sink=4), owner=owner) in effects
    assert out(number, owner) in taken(stream, owner=owner)
    stream.handle(OwnerGone(owner), 0.0)
