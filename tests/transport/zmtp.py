"""The bytes of peers that no current ZeroMQ would send: of ZMTP 1.0 and 2.0, and of a web page's POST."""

from collections.abc import Sequence

#: Of DEALER in ZMTP 2.0.
_DEALER = 5
#: Longer than what stands before the body of a browser's request.
_SLED = 600


def of_zmtp_1(frames: Sequence[bytes]) -> bytes:
    """A connection of ZMTP 1.0 that sends each frame as a message."""
    anonymous = _old_frame(b"")
    return anonymous + b"".join(map(_old_frame, frames))


def of_zmtp_2(frames: Sequence[bytes]) -> bytes:
    """A connection of ZMTP 2.0 that sends each frame as a message."""
    signature = b"\xff" + (1).to_bytes(8, "big") + b"\x7f"
    anonymous = _new_frame(b"")
    return signature + bytes([1, _DEALER]) + anonymous + b"".join(map(_new_frame, frames))


def of_post(frames: Sequence[bytes]) -> bytes:
    """The body of a POST: frames of ZMTP 1.0 for a reader that parses the headers as frames, too.

    Wherever the last frame of the headers ends, empty frames follow, and then one that ends their message.
    """
    return b"\x01" * _SLED + b"\x04\x01\x01\x01\x01" + b"\x01\x00" + b"".join(map(_old_frame, frames))


def _old_frame(payload: bytes) -> bytes:
    length = len(payload) + 1
    head = bytes([length]) if length < 0xFF else b"\xff" + length.to_bytes(8, "big")
    return head + b"\x00" + payload


def _new_frame(payload: bytes) -> bytes:
    is_long = len(payload) > 0xFF
    return (
        bytes([2 if is_long else 0])
        + (len(payload).to_bytes(8, "big") if is_long else bytes([len(payload)]))
        + payload
    )
