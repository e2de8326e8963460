import mmap
from functools import cache
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from handoff_actors.errors import RemoteProtocolError, SerializationError
from handoff_actors.ids import RunId
from handoff_actors.wire import codec
from handoff_actors.wire.codec import (
    FROM_NODE,
    ON_BUS,
    PIECE_BYTES,
    TO_NODE,
    FrameBuilder,
    decode,
    encode,
    join,
    split,
)
from handoff_actors.wire.messages.directions import AnyMessage, FromNode, OnBus, ToNode
from handoff_actors.wire.messages.jobs import Done
from handoff_actors.wire.messages.members import Beat, Goodbye
from handoff_actors.wire.messages.runs import Close, Completed, Failed
from handoff_actors.wire.messages.values import Chunk, Fetch

ALL_DECODERS = (TO_NODE, FROM_NODE, ON_BUS)
#: Deep enough to overflow the stack of a decoder that does not count.
DEEP = 200_000

WHOLE_NUMBERS = st.integers(0, 2**32)


def messages_of(union: Any) -> st.SearchStrategy[list[Any]]:
    """Lists of any messages of a union. Built from the types, so that a new message is tested from its first day."""
    return st.lists(st.one_of([message_of(kind) for kind in get_args(union)]), max_size=5)


def message_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    fields = {field.name: value_of(field.type) for field in msgspec.inspect.type_info(kind).fields}  # type: ignore[attr-defined]
    return st.builds(kind, **fields)


@cache
def nested(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Arguments and jobs nest: an outer one may hold inner ones, and so on."""
    return st.deferred(lambda: message_of(kind))


def value_of(info: Any) -> st.SearchStrategy[Any]:  # noqa: C901 - one table
    match info:
        case msgspec.inspect.UnionType():
            return st.one_of([value_of(part) for part in info.types])
        case msgspec.inspect.StructType():
            return nested(info.cls)
        case msgspec.inspect.ListType():
            return st.lists(value_of(info.item_type), max_size=2)
        case msgspec.inspect.VarTupleType():
            return st.lists(value_of(info.item_type), max_size=1).map(tuple)
        case msgspec.inspect.TupleType():
            return st.tuples(*map(value_of, info.item_types))
        case msgspec.inspect.DictType():
            return st.dictionaries(value_of(info.key_type), value_of(info.value_type), max_size=2)
        case msgspec.inspect.LiteralType():
            return st.sampled_from(info.values)
        case msgspec.inspect.MemoryViewType():
            return st.binary(max_size=20).map(memoryview)
        case _:
            return PLAIN[type(info)]


PLAIN: dict[type[Any], st.SearchStrategy[Any]] = {
    msgspec.inspect.NoneType: st.none(),
    msgspec.inspect.BoolType: st.booleans(),
    msgspec.inspect.IntType: WHOLE_NUMBERS,
    msgspec.inspect.FloatType: st.floats(allow_nan=False),
    msgspec.inspect.StrType: st.text(max_size=20),
    msgspec.inspect.BytesType: st.binary(max_size=20),
}


def decode_or_refuse(frame: bytes) -> None:
    """Decode as each union: whatever happens but a list or a short refusal fails the test."""
    for decoder in ALL_DECODERS:
        refusal = refusal_of(frame, decoder)
        assert refusal is None or 0 < len(refusal) <= codec.MAX_REASON_LENGTH


def refusal_of(frame: bytes, decoder: Any) -> str | None:
    try:
        decode(frame, decoder)
    except RemoteProtocolError as refusal:
        return str(refusal)
    return None


@pytest.mark.parametrize(("union", "decoder"), [(ToNode, TO_NODE), (FromNode, FROM_NODE), (OnBus, ON_BUS)])
@settings(deadline=None)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(union: Any, decoder: Any, data: st.DataObject) -> None:
    messages = data.draw(messages_of(union))

    assert decode(encode(messages), decoder) == messages


def test_failure_of_an_unknown_kind_is_a_malformed_frame() -> None:
    failed = Failed(RunId(7), 0, 1, "exception", b"", "reason", None, None, None, 0.0)
    frame = encode([failed]).replace(b"exception", b"exceptiom")

    with pytest.raises(RemoteProtocolError, match="Invalid enum value 'exceptiom'"):
        decode(frame, FROM_NODE)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_decoded(frame: bytes) -> None:
    decode_or_refuse(frame)
    decode_or_refuse(b"\x91" + frame)


@settings(deadline=None)
@given(
    messages=messages_of(AnyMessage),
    cut_at=st.floats(0, 1),
    replaced=st.integers(0, 10),
    inserted=st.binary(max_size=10),
)
def test_damaged_frames_are_refused_or_decoded(
    messages: list[Any], cut_at: float, replaced: int, inserted: bytes
) -> None:
    frame = encode(messages)
    position = int(cut_at * len(frame))

    decode_or_refuse(frame[:position])
    decode_or_refuse(frame[:position] + inserted + frame[position + replaced :])


@pytest.mark.parametrize(
    "frame",
    [
        b"\x91" * DEEP,
        # Below a field that the receiver does not know and has to skip.
        b"\x91\x92\x0b" + b"\x91" * DEEP,
        # Arguments of arguments of arguments.
        b"\x91\x94\x0c\x01\x90\x91\x95\x01\x01\x00" + b"\x91\x94\x02\x00" * DEEP,
    ],
)
def test_deep_nesting_is_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(frame, TO_NODE)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x92\x12\xdf\xff\xff\xff\xff",
        b"\x91\x91\x63",
        b"\x90\x90",
        b"\x91\x92\x12\x81\xa1\xff\x01",
    ],
    ids=["nothing", "no list", "huge list", "huge map", "unknown tag", "trailing bytes", "no UTF-8"],
)
def test_malformed_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(frame, TO_NODE)


def test_message_of_another_direction_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(encode([Beat()]), FROM_NODE)


def test_number_out_of_bounds_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match=">= 0"):
        decode(encode([Fetch(-1, RunId(1), 1, 0, 1)]), TO_NODE)


def test_field_of_a_newer_version_is_skipped() -> None:
    assert decode(b"\x91\x92\x13\xa3new", TO_NODE) == [Goodbye()]


def test_overlong_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = encode([Beat()])
    monkeypatch.setattr(codec, "MAX_FRAME_BYTES", len(frame) - 1)

    with pytest.raises(RemoteProtocolError, match="longer than"):
        decode(frame, TO_NODE)


def test_chunk_is_not_copied_out_of_its_frame() -> None:
    frame = encode([Chunk(1, 0, 3, memoryview(b"abc"))])

    [chunk] = decode(frame, FROM_NODE)

    assert isinstance(chunk, Chunk)
    assert chunk.data.obj is frame


def test_message_too_large_for_a_frame_leaves_the_batch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = FrameBuilder()
    batch.add(Close(RunId(1)))
    nbytes = batch.nbytes
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", 100)

    with pytest.raises(SerializationError, match=r"Completed cannot be sent: its .* bytes"):
        batch.add(Completed(RunId(1), [Done(1, 1, bytes(100), 1, 0.5)], {}))

    assert batch.nbytes == nbytes
    assert decode(bytes(batch.frame()), TO_NODE) == [Close(RunId(1))]


@pytest.mark.parametrize(
    "message",
    [
        Failed(RunId(1), 1, 1, "exception", b"", "\udcff", None, None, None, 0.5),
        Completed(RunId(1), [Done(1, 1, 2**70, 1, 0.5)], {}),
        Completed(RunId(1), [Done(1, 1, object(), 1, 0.5)], {}),  # type: ignore[arg-type]  # as a bug might
    ],
)
def test_message_that_cannot_be_encoded_leaves_the_batch_as_it_was(message: FromNode) -> None:
    batch = FrameBuilder()
    batch.add(Close(RunId(1)))

    with pytest.raises(SerializationError, match=f"{type(message).__name__} cannot be sent"):
        batch.add(message)

    assert decode(bytes(batch.frame()), TO_NODE) == [Close(RunId(1))]


def test_bytes_beyond_the_encoding_leave_the_batch_as_it_was() -> None:
    batch = FrameBuilder()
    batch.add(Close(RunId(1)))

    with mmap.mmap(-1, 2**32) as never_touched, memoryview(never_touched) as data:
        with pytest.raises(SerializationError, match="Chunk cannot be sent") as refusal:
            batch.add(Chunk(1, 0, 0, data))
        # The traceback of the error refers to the mapping.
        del refusal

    assert decode(bytes(batch.frame()), TO_NODE) == [Close(RunId(1))]


def test_large_piece_is_a_frame_of_its_own_and_is_not_copied() -> None:
    data = memoryview(bytes(PIECE_BYTES))

    frames = split(Chunk(1, 2, 3, data))

    assert frames is not None
    frame, piece = frames
    [chunk] = join(bytes(frame), piece, TO_NODE)
    assert chunk == Chunk(1, 2, 3, data)
    assert chunk.data.obj is data.obj


@pytest.mark.parametrize("message", [Chunk(1, 0, 0, memoryview(bytes(PIECE_BYTES - 1))), Close(RunId(1))])
def test_other_messages_are_one_frame(message: ToNode) -> None:
    assert split(message) is None


@pytest.mark.parametrize(
    "messages",
    [[], [Beat()], [Chunk(1, 0, 9, memoryview(b"data"))], [Chunk(1, 0, 9, memoryview(b""))] * 2],
    ids=["nothing", "another", "with bytes", "two"],
)
def test_second_frame_belongs_to_one_chunk_without_bytes(messages: list[ToNode]) -> None:
    with pytest.raises(RemoteProtocolError, match="a second frame belongs behind a Chunk without bytes"):
        join(encode(messages), memoryview(b"piece"), TO_NODE)
