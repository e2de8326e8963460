"""Puts what comes in any order into the order of positions."""

from typing import Generic, TypeVar

from handoff_actors.core.stream.items.keys import Key, position_after, position_of_closing

EntryT = TypeVar("EntryT")


class Sequencer(Generic[EntryT]):
    """Holds entries back until all before them have come. Each position comes once, and none is left out.

    With `first`, the order is that of the results of one item alone.
    """

    def __init__(self, length: int, first: Key | None = None) -> None:
        self._length = length
        self._next: Key = first or (0,) * length
        #: By position, each with the position that follows.
        self._held: dict[Key, tuple[Key, EntryT | None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def next_number(self) -> int:
        """The number of the item whose turn it is."""
        return self._next[0]

    def holds(self, number: int) -> bool:
        """True if a part of an item waits for its turn."""
        return any(position[0] == number for position in self._held)

    def add(self, key: Key, count: int | None, entry: EntryT | None, items: int = 1) -> list[EntryT]:
        """Take an item, a chunk of so many items, or a closing, and give all that are in order now.

        None for one that does not come here: it is passed over.
        """
        position = key if count is None else position_of_closing(key, count, self._length)
        after = position_after(key, self._length) if items == 1 else (key[0] + items,)
        if position == self._next and not self._held:
            self._next = after
            return [] if entry is None else [entry]
        assert position not in self._held, f"{key} has come before"
        self._held[position] = after, entry
        in_order: list[EntryT] = []
        while (at := self._held.pop(self._next, None)) is not None:
            self._next, held = at
            if held is not None:
                in_order.append(held)
        return in_order
