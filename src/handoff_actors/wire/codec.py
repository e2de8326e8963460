"""Frames: the bytes of one ZeroMQ message, a MessagePack list of messages."""

import struct
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from handoff_actors.errors import RemoteProtocolError, SerializationError
from handoff_actors.wire.messages.directions import AnyMessage, FromNode, OnBus, ToNode
from handoff_actors.wire.messages.values import Chunk

#: No frame is longer; whoever announces a longer one is disconnected before a byte of it is stored.
MAX_FRAME_BYTES: Final = 2**30
#: No message is longer: that leaves room for others that were queued for the same frame before it.
MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES - 2**20
MAX_REASON_LENGTH: Final = 200
#: A chunk's bytes from here on are a frame of their own: copying fewer costs less than what ZeroMQ does to avoid it.
PIECE_BYTES: Final = 256 * 1024

TO_NODE: Final = msgspec.msgpack.Decoder(list[ToNode])
FROM_NODE: Final = msgspec.msgpack.Decoder(list[FromNode])
ON_BUS: Final = msgspec.msgpack.Decoder(list[OnBus])

#: MessagePack's array32: a type byte and how many elements follow.
_LIST_HEADER: Final = struct.Struct(">BI")
_LIST_TYPE: Final = 0xDD

_encoder = msgspec.msgpack.Encoder()
_AMessage = TypeVar("_AMessage")


class FrameBuilder:
    """Messages on their way into one frame, encoded one by one so that their size is known as they are added."""

    def __init__(self) -> None:
        self._frame = bytearray(_LIST_HEADER.size)
        self._count = 0

    @property
    def nbytes(self) -> int:
        """How long the frame would be now."""
        return len(self._frame)

    def add(self, message: AnyMessage) -> None:
        """Append one message.

        Raises SerializationError, and stays as it was, if no frame could hold it.
        """
        length_before = len(self._frame)
        try:
            _encoder.encode_into(message, self._frame, -1)
        except msgspec.EncodeError as error:
            # What was written before the error is of an unknown length.
            del self._frame[length_before:]
            raise SerializationError(f"{type(message).__name__} cannot be sent: {error}") from error
        added = len(self._frame) - length_before
        if added > MAX_MESSAGE_BYTES:
            del self._frame[length_before:]
            raise SerializationError(
                f"{type(message).__name__} cannot be sent: its {added} bytes are more than {MAX_MESSAGE_BYTES}"
            )
        self._count += 1

    def frame(self) -> bytearray:
        """Return the frame. The batch is not used afterwards."""
        _LIST_HEADER.pack_into(self._frame, 0, _LIST_TYPE, self._count)
        return self._frame


def encode(messages: Sequence[AnyMessage]) -> bytes:
    """Encode messages as one frame."""
    batch = FrameBuilder()
    for message in messages:
        batch.add(message)
    return bytes(batch.frame())


def split(message: AnyMessage) -> tuple[bytearray, memoryview] | None:
    """Give a frame and the piece that goes behind it as a second one, uncopied; None where that does not pay."""
    if type(message) is not Chunk or len(message.data) < PIECE_BYTES:
        return None
    batch = FrameBuilder()
    batch.add(Chunk(message.request, message.offset, message.total, memoryview(b"")))
    return batch.frame(), message.data


def join(frame: bytes, piece: memoryview, decoder: "msgspec.msgpack.Decoder[list[_AMessage]]") -> list[Chunk]:
    """Decode a frame with a piece behind it. Raises RemoteProtocolError."""
    match decode(frame, decoder):
        case [Chunk(request, offset, total, data)] if not data:
            return [Chunk(request, offset, total, piece)]
    raise RemoteProtocolError("a second frame belongs behind a Chunk without bytes")


def decode(frame: bytes, decoder: "msgspec.msgpack.Decoder[list[_AMessage]]") -> list[_AMessage]:
    """Decode a frame of what `decoder`, one of `TO_NODE`, `FROM_NODE` and `ON_BUS`, understands.

    Raises RemoteProtocolError, and nothing else, whatever the bytes are.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"a frame of {len(frame)} bytes is longer than {MAX_FRAME_BYTES}")
    try:
        return decoder.decode(frame)
    except RecursionError as error:
        raise RemoteProtocolError("a frame is nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"a frame is malformed: {error}"[:MAX_REASON_LENGTH]) from error
