"""Lists of which some items are encoded by themselves: see `handoff_actors.Parts`."""

import pickle
from collections.abc import Sequence
from mmap import mmap
from typing import Any

from handoff_actors.wire.payload import decode, encode


def joined(items: bytes, parts: Sequence[bytes | memoryview | mmap]) -> bytes:
    """Encode a list as one value, of its encoding without the parts, and the encoded parts. Nothing is decoded meanwhile."""
    return encode(_Joined(items, parts)).to_bytes()


class _Joined:
    def __init__(self, items: bytes, parts: Sequence[bytes | memoryview | mmap]) -> None:
        self._items = items
        self._parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return _list_of, (self._items, [pickle.PickleBuffer(part) for part in self._parts])


def _list_of(items: bytes, parts: Sequence[Any]) -> Any:
    return decode(items, [decode(memoryview(part)) for part in parts])
