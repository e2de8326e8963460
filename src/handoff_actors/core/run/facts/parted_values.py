"""Values of one run that are in parts: lists, and large arguments that functions have made for those that they added.

The parts of a function are where its value is: its holders hold all of them. They have indices that their worker has chosen;
when a value that was lost has been made again, its parts have others, and those of before stand for them.
"""

from collections.abc import Iterable, Sequence

from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import StoredPart


class PartedValues:
    """The functions whose values are in parts, and the parts."""

    def __init__(self) -> None:
        self._parts: dict[Index, Sequence[StoredPart]] = {}
        #: By index of a part, also of one of before: the function that it belongs to, and its place there.
        self._place_of: dict[Index, tuple[Index, int]] = {}
        #: By function: the indices of its parts, with those of before.
        self._indices: dict[Index, list[Index]] = {}
        #: Lists, encoded without their parts.
        self.lists: dict[Index, bytes] = {}

    def __contains__(self, owner: Index) -> bool:
        return owner in self._parts

    def put(self, owner: Index, parts: Sequence[StoredPart]) -> None:
        """Take the parts of a value that has been made, perhaps again."""
        self._parts[owner] = parts
        self._place_of |= {part.index: (owner, place) for place, part in enumerate(parts)}
        self._indices.setdefault(owner, []).extend(part.index for part in parts)

    def of(self, owner: Index) -> Sequence[StoredPart]:
        """Return the parts of a function's value; none if it is not in parts."""
        return self._parts.get(owner, ())

    def indices_of(self, owner: Index) -> Sequence[Index]:
        """Return the indices of the parts of a function's value, with those of before."""
        return self._indices.get(owner, ())

    def owner(self, index: Index) -> Index:
        """Return the function that a value belongs to, by the index of a part, or by its own."""
        place = self._place_of.get(index)
        return index if place is None else place[0]

    def place_of(self, index: Index) -> tuple[Index, int] | None:
        """Return the function that a part belongs to, and its place there; None if it is unknown."""
        return self._place_of.get(index)

    def find(self, index: Index) -> tuple[Index, StoredPart] | None:
        """Return the function that a part belongs to, and the part as it is now; None if it is unknown."""
        place = self._place_of.get(index)
        return None if place is None else (place[0], self._parts[place[0]][place[1]])

    def forget(self, owners: Iterable[Index]) -> None:
        """Forget the parts of functions."""
        for owner in owners:
            self.lists.pop(owner, None)
            if self._parts.pop(owner, None) is not None:
                for index in self._indices.pop(owner):
                    del self._place_of[index]
