"""The most recently used entries of a dictionary."""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_UNBOUNDED: Final = float("inf")


class LruCache(Generic[_Key, _Value]):
    """Keeps the last `capacity` entries used, and fewer if they have more than `most_nbytes`.

    Two that are used alike keep the same keys.
    """

    __slots__ = ("_capacity", "_entries", "_room")

    def __init__(self, capacity: int, most_nbytes: float = _UNBOUNDED) -> None:
        self._capacity = capacity
        self._room = most_nbytes
        self._entries: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()

    def __contains__(self, key: _Key) -> bool:
        """Tell whether the entry is still kept, without counting that as use."""
        return key in self._entries

    def get(self, key: _Key) -> _Value | None:
        """Give the entry, if it is still kept, and count that as use."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def peek(self, key: _Key) -> _Value | None:
        """Give the entry, if it is still kept, without counting that as use."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: _Key, value: _Value, nbytes: int = 0) -> int:
        """Keep an entry, and count that as use. Returns the number of bytes of the entries that made room.

        Those are the ones that have not been used for longest; one that is too large goes itself, after all others.
        """
        replaced = self._entries.pop(key, None)
        self._room -= nbytes if replaced is None else nbytes - replaced[1]
        self._entries[key] = value, nbytes
        freed = 0
        while self._room < 0 or len(self._entries) > self._capacity:
            _, (_, gone) = self._entries.popitem(last=False)
            self._room += gone
            freed += gone
        return freed
