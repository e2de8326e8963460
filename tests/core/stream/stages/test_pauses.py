"""An item that has failed is tried again after the pause of its stage, and others pass it where order does not matter."""

from handoff_actors.core.stream.events import DrainStream, StreamEffect
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.wire.messages.stage_rows import Generate
from tests.core.stream.builders import (
    CLOSE,
    code,
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
    stream_of,
    taken,
)

BACKOFF = (2.0, 2.0, 10.0)


def stage(**options: object) -> Function:
    return Function("y", ["x"], code, max_retries=3, retry_backoff=BACKOFF, **options)  # type: ignore[arg-type]


def woken(stream: StreamMachine, after: float, before: float) -> list[StreamEffect]:
    """Wake a stream when it wants to be, which is within these bounds."""
    at = stream.wake_at
    assert at is not None
    assert after <= at <= before
    assert stream.wake(at - 0.01) == []
    return stream.wake(at)


def test_item_is_tried_again_after_pauses_that_grow() -> None:
    stream = stream_of(stage())
    push(stream)

    assert stream.handle(ended(1, (1, failure())), 10.0) == []
    assert woken(stream, 11.0, 12.0) == [send(1, run(1))]
    assert stream.handle(ended(1, (1, failure())), 20.0) == []
    assert woken(stream, 22.0, 24.0) == [send(1, run(1))]
    assert stream.wake_at is None
    assert stream.handle(ended(1, (1, b"a")), 30.0) == [ready(result(0, b"a"))]


def test_items_behind_one_that_pauses_wait_where_they_are_to_come_in_order() -> None:
    stream = stream_of(stage())
    push(stream)
    stream.handle(ended(1, (1, failure())), 10.0)

    assert push(stream, now=10.5) == []
    assert woken(stream, 11.0, 12.0) == [send(1, run(1))]
    assert stream.handle(ended(1, (1, b"a")), 13.0) == [send(1, run(2)), ready(result(0, b"a"))]


def test_items_pass_one_that_pauses_where_their_order_does_not_matter() -> None:
    stream = stream_of(stage(), ordered=False)
    push(stream)
    stream.handle(ended(1, (1, failure())), 10.0)

    assert push(stream, now=10.5) == [send(1, run(2))]
    assert stream.handle(ended(1, (2, b"b")), 10.6) == [ready(result(1, b"b"))]
    assert woken(stream, 11.0, 12.0) == [send(1, run(1))]


def test_items_of_other_workers_pass_one_that_pauses_at_a_stage_by_key() -> None:
    stream = stream_of(stage(key=key, parallelism=2), ordered=False)
    push(stream, keys=[0])
    stream.handle(ended(1, (1, failure())), 10.0)

    assert push(stream, keys=[2], now=10.5) == []
    assert push(stream, keys=[1], now=10.5) == [send(1, run(3), lane=1)]
    assert woken(stream, 11.0, 12.0) == [send(1, run(1))]


def test_time_limit_costs_a_pause_too() -> None:
    stream = stream_of(stage(timeout=5.0))
    push(stream)
    stream.wake(5.0)

    assert woken(stream, 6.0, 7.0) == []


def test_generator_is_called_again_after_a_pause() -> None:
    stream = stream_of(Function("y", ["x"], generator, max_retries=1, retry_backoff=BACKOFF))
    push(stream)

    assert stream.handle(generated(1, 1, end=True, failure=failure()), 10.0) == []
    assert woken(stream, 11.0, 12.0) == [send(1, Generate(1, [b"v"], 0, 1))]


def test_stream_does_not_end_while_an_item_pauses() -> None:
    stream = stream_of(stage())
    push(stream)
    stream.handle(ended(1, (1, failure())), 10.0)

    assert stream.handle(DrainStream(), 10.5) == []
    assert woken(stream, 11.0, 12.0) == [send(1, run(1))]
    stream.handle(ended(1, (1, b"a")), 13.0)
    assert taken(stream) == [send(1, CLOSE), out(0)]
