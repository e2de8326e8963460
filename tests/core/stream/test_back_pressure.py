"""Back-pressure: how many items, and how many bytes, may be on their way."""

from handoff_actors.core.stream.events import DrainStream, PushRoomFreed
from handoff_actors.graph import Function
from tests.core.stream.builders import (
    code,
    dropped,
    ended,
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


def test_there_is_room_until_as_many_items_are_in_flight_as_may_be() -> None:
    stream = stream_of(Function("y", ["x"], code), in_flight=2)
    push(stream)

    assert stream.has_room
    push(stream)
    assert not stream.has_room


def test_result_counts_as_in_flight_until_it_is_taken() -> None:
    stream = stream_of(Function("y", ["x"], code), in_flight=1)
    push(stream)
    stream.handle(ended(1, (1, b"a")), 1.0)

    assert not stream.has_room
    assert taken(stream) == [out(0), PushRoomFreed()]
    assert stream.has_room


def test_there_is_no_room_beyond_the_bytes_but_for_one_item() -> None:
    stream = stream_of(Function("y", ["x"], code), in_flight_nbytes=10)

    assert stream.has_room
    push(stream, stored(5, 1000, ""))
    assert not stream.has_room
    effects = stream.handle(ended(1, (1, b"a")), 1.0)
    there = stored(5, 1000, "")
    assert effects == [ready(result(0, b"a")), dropped(there, stored(5, 1000)), PushRoomFreed()]


def test_there_is_no_room_once_nothing_more_is_to_be_pushed() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)

    stream.handle(DrainStream(), 1.0)

    assert not stream.has_room


def test_only_the_oldest_item_goes_on_while_there_are_too_many_bytes() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["y"], code), in_flight_nbytes=8)
    push(stream)
    push(stream)

    effects = stream.handle(ended(1, (1, b"a" * 20)), 1.0)

    assert effects == [send(2, run(3, b"a" * 20))]
    assert stream.handle(ended(2, (3, b"b" * 20)), 2.0) == [ready(result(0, b"b" * 20, sink=2))]
    assert taken(stream) == [send(1, run(2)), out(0), PushRoomFreed()]


def test_oldest_item_goes_on_although_another_has_come_before_it() -> None:
    stream = stream_of(
        Function("y", ["x"], code, parallelism=3), Function("z", ["y"], code, parallelism=3),
        in_flight_nbytes=50, ordered=False,
    )  # fmt: skip
    for _ in range(3):
        push(stream)
    stream.handle(ended(1, (3, b"c" * 30), lane=2), 1.0)

    assert stream.handle(ended(1, (2, b"b" * 30), lane=1), 1.0) == []
    assert stream.handle(ended(1, (1, b"a" * 30)), 1.0) == [send(2, run(6, b"a" * 30), lane=1)]
