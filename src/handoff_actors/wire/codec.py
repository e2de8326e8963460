"""Frames: the bytes of one ZeroMQ message, a MessagePack list of messages."""

import struct
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from handoff_actors.errors import RemoteProtocolError, SerializationError
from handoff_actors.wire.messages.directions import AnyMessage, FromNode, OnBus, ToNode
from handoff_actors.wire.messages.values import Chunk

#: No frame is longer; a peer that announces a longer one is disconnected before a byte of it is stored.
MAX_FRAME_BYTES: Final = 2**30
#: No message is longer: that leaves room for messages that were queued for the same frame before it.
MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES - 2**20
MAX_REASON_LENGTH: Final = 200
#: A chunk of this size or more has its bytes in a frame of their own: copying fewer costs less than ZeroMQ's way to
#: avoid it.
PIECE_BYTES: Final = 256 * 1024

TO_NODE: Final = msgspec.msgpack.Decoder(list[ToNode])
FROM_NODE: Final = msgspec.msgpack.Decoder(list[FromNode])
ON_BUS: Final = msgspec.msgpack.Decoder(list[OnBus])

#: How encoding fails: text with lone surrogates, numbers of more than 64 bits, bytes beyond 4 GiB, foreign types, depth.
UNENCODABLE: Final = (msgspec.MsgspecError, ValueError, OverflowError, TypeError, RecursionError)

#: MessagePack's array32: a type byte and how many elements follow.
_LIST_HEADER: Final = struct.Struct(">BI")
_LIST_TYPE: Final = 0xDD

_encoder = msgspec.msgpack.Encoder()
_AMessage = TypeVar("_AMessage")


class FrameBuilder:
    """Build one frame of messages, encoded one by one so that their size is known as they are added."""

    def __init__(self) -> None:
        self._frame = bytearray(_LIST_HEADER.size)
        self._count = 0

    @property
    def nbytes(self) -> int:
        """The length of the frame so far."""
        return len(self._frame)

    def add(self, message: AnyMessage) -> None:
        """Append one message.

        Raises SerializationError, leaving the frame as it was, if the message cannot be encoded or no frame could hold it.
        """
        length_before = len(self._frame)
        try:
            _encoder.encode_into(message, self._frame, -1)
        except UNENCODABLE as error:
            # The encoder has written an unknown number of bytes before the error.
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
        """Return the frame. The builder must not be used afterwards."""
        _LIST_HEADER.pack_into(self._frame, 0, _LIST_TYPE, self._count)
        return self._frame


def encode(messages: Sequence[AnyMessage]) -> bytes:
    """Encode messages as one frame."""
    builder = FrameBuilder()
    for message in messages:
        builder.add(message)
    return bytes(builder.frame())


def split(message: AnyMessage) -> tuple[bytearray, memoryview] | None:
    """Split a chunk into its frame and, uncopied, the piece that is sent behind it; None where that does not pay."""
    if type(message) is not Chunk or len(message.data) < PIECE_BYTES:
        return None
    builder = FrameBuilder()
    builder.add(Chunk(message.request, message.offset, message.total, memoryview(b"")))
    return builder.frame(), message.data


def join(frame: bytes, piece: memoryview, decoder: "msgspec.msgpack.Decoder[list[_AMessage]]") -> list[Chunk]:
    """Decode a frame with a piece behind it. Raises RemoteProtocolError."""
    match decode(frame, decoder):
        case [Chunk(request, offset, total, data)] if not data:
            return [Chunk(request, offset, total, piece)]
    raise RemoteProtocolError("a second frame belongs behind a Chunk without bytes")


def decode(frame: bytes, decoder: "msgspec.msgpack.Decoder[list[_AMessage]]") -> list[_AMessage]:
    """Decode a frame with `decoder`, one of `TO_NODE`, `FROM_NODE` and `ON_BUS`.

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
