"""Bytes that are no value: they come of a fault on the way, or of a holder with a bug."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from handoff_actors.errors import SerializationError
from handoff_actors.wire.payload import decode, encode

ARRAYS = encode({"a": np.arange(100.0), "b": [np.ones(50), "text"]}).to_bytes()


def decode_or_refuse(data: bytes) -> None:
    """Whatever happens but a value or a SerializationError fails the test."""
    with suppress(SerializationError):
        decode(data)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_a_value_or_a_serialization_error(data: bytes) -> None:
    decode_or_refuse(data)
    decode_or_refuse(b"HB\0\0" + data)
    # Whatever a pickle might call is not to be tried out: only numbers, strings and containers.
    decode_or_refuse(
        b"\x80\x05" + bytes(byte for byte in data if byte not in b"cRi\x93\x81\x92ob\x82\x83\x84")
    )


@pytest.mark.parametrize("length", range(0, len(ARRAYS), 7))
def test_value_that_was_cut_short_is_a_serialization_error(length: int) -> None:
    with pytest.raises(SerializationError):
        decode(ARRAYS[:length])


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=4))
def test_announced_lengths_take_no_memory(count: int, pickle_length: int, lengths: list[int]) -> None:
    header = b"HB\0\0" + count.to_bytes(4, "little") + pickle_length.to_bytes(8, "little")

    decode_or_refuse(header + b"".join(length.to_bytes(8, "little") for length in lengths) + ARRAYS)
