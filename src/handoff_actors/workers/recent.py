"""The most recently used entries of a dictionary."""

from collections import OrderedDict
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class LruCache(Generic[_Value]):
    """Keeps the last `capacity` entries used, and fewer if they have more than `most_nbytes`.

    Two that are used alike keep the same keys.
    """

    def __init__(self, capacity: int, most_nbytes: int) -> None:
        self._capacity = capacity
        self._room = most_nbytes
        self._entries: OrderedDict[bytes, tuple[_Value, int]] = OrderedDict()

    def get(self, key: bytes) -> _Value | None:
        """Give the entry, if it is still kept, and count that as use."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: bytes, value: _Value, nbytes: int) -> None:
        """Keep a new entry; those that have not been used for longest make room, and it goes itself if it is too large."""
        self._entries[key] = value, nbytes
        self._room -= nbytes
        while self._room < 0 or len(self._entries) > self._capacity:
            _, (_, freed) = self._entries.popitem(last=False)
            self._room += freed
