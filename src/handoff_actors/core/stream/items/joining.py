"""Brings together what the producers of a vertex give for the same item."""

from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from handoff_actors.core.stream.events import ItemOutcome
from handoff_actors.core.stream.items.keys import Key
from handoff_actors.core.stream.items.scope import Scope

#: So many deadlines of items that are whole are not worth being removed.
FEW: Final = 64


class _Partial(Struct, eq=False):
    outcomes: list[ItemOutcome | None]
    missing: int
    scope: Scope
    is_timed_out: bool = False

    def arrived(self) -> list[ItemOutcome]:
        return [outcome for outcome in self.outcomes if outcome is not None]


#: The key of an item, or that of a closing with its count.
_Name = tuple[Key, int | None]


class Join:
    """The items of one vertex of which something has come, and not all.

    Each producer gives exactly one outcome for each item: a value, a failure, or that it is skipped. So an item that has timed
    out is remembered until the rest of it has come, and no longer.
    """

    def __init__(self, width: int, timeout_s: float | None) -> None:
        self._width = width
        self._timeout_s = timeout_s
        self._partial: dict[_Name, _Partial] = {}
        #: In order; those of items that are whole may still be there.
        self._deadlines: deque[tuple[float, _Name]] = deque()

    def __len__(self) -> int:
        return len(self._partial)

    def add(
        self, key: Key, count: int | None, position: int, outcome: ItemOutcome, scope: Scope, now: float
    ) -> list[ItemOutcome] | None:
        """Take what a producer gives. Returns all of the item once that is the last; [] if it has timed out before."""
        name = key, count
        partial = self._partial.get(name)
        if partial is None:
            partial = self._partial[name] = _Partial([None] * self._width, self._width, scope)
            if self._timeout_s is not None and count is None:
                self._note_deadline(now + self._timeout_s, name)
        assert partial.outcomes[position] is None, f"{key} has come twice from the same producer"
        partial.outcomes[position] = outcome
        partial.missing -= 1
        if partial.missing == 0:
            del self._partial[name]
        if partial.is_timed_out:
            return []
        return partial.arrived() if partial.missing == 0 else None

    def _note_deadline(self, at: float, name: _Name) -> None:
        self._deadlines.append((at, name))
        if len(self._deadlines) > 2 * len(self._partial) + FEW:
            self._deadlines = deque(each for each in self._deadlines if self._is_waiting(each[1]))

    def _is_waiting(self, name: _Name) -> bool:
        partial = self._partial.get(name)
        return partial is not None and not partial.is_timed_out

    def missing(self, number: int) -> Iterator[list[int]]:
        """Find the parts of an item that wait here. Gives, for each of them, the positions of which nothing has come."""
        for (key, _), partial in self._partial.items():
            if key[0] == number and not partial.is_timed_out:
                yield [place for place, outcome in enumerate(partial.outcomes) if outcome is None]

    @property
    def wake_at(self) -> float | None:
        """The time at which the first item times out."""
        while self._deadlines and not self._is_waiting(self._deadlines[0][1]):
            self._deadlines.popleft()
        return self._deadlines[0][0] if self._deadlines else None

    def timed_out(self, now: float) -> list[tuple[Key, list[ItemOutcome], Scope]]:
        """Give up the items whose time is over. Returns the key of each, what has come of it, and its scope."""
        given_up: list[tuple[Key, list[ItemOutcome], Scope]] = []
        while (wake_at := self.wake_at) is not None and now >= wake_at:
            _, name = self._deadlines.popleft()
            partial = self._partial[name]
            partial.is_timed_out = True
            given_up.append((name[0], partial.arrived(), partial.scope))
        return given_up
