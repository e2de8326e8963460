"""The values that are on their way through a stream: who needs them still, how many bytes they are, and how lost ones are had again.

A stored value keeps the work that has made it, with what that work took: should the node be lost, it is done again. Small
values are in the machine itself.
"""

from typing import TYPE_CHECKING, Final

from handoff_actors.core.stream.events import ItemChunk, ItemFailure, ItemOutcome, ItemSkipped, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from handoff_actors.core.stream.items.work import Work
    from handoff_actors.ids import Index

#: A value that was made so often, and could not be had from its node each time, ends its item.
MOST_LOSSES: Final = 20


class StreamValues:
    """The values of one stream."""

    def __init__(self) -> None:
        #: Bytes of all values that anything needs.
        self.nbytes = 0
        self._users: dict[Index, int] = {}
        self._makers: dict[Index, Work] = {}
        #: What has come in the place of lost ones; None: it is being made again.
        self._replaced: dict[Index, ItemOutcome | None] = {}
        self._places: dict[Index, Stored] = {}
        #: What was sent to nodes that did not have it, each in the place of such a value.
        self._copies: dict[Index, dict[Stored, None]] = {}
        self._dropped: list[Stored] = []

    def hold(self, value: ItemOutcome, users: int, maker: "Work | None") -> None:
        """Keep a value for so many users; with one that is stored, the work that has made it."""
        if isinstance(value, bytes):
            self.nbytes += len(value) * users
            return
        if isinstance(value, ItemChunk):
            self.nbytes += value.nbytes * users
            return
        if not isinstance(value, Stored):
            return
        self.nbytes += value.nbytes
        self._users[value.index] = users
        self._places[value.index] = value
        if maker is not None:
            self._makers[value.index] = maker

    def share(self, values: "Iterable[ItemOutcome]") -> None:
        """Note that values have one more user each."""
        for value in values:
            if isinstance(value, bytes):
                self.nbytes += len(value)
            else:
                assert isinstance(value, Stored), "a stage takes no failures"
                self._users[value.index] += 1

    def sent(self, needs: "Iterable[Stored]", node: str) -> None:
        """Note that a node gets copies of values that it needs."""
        for need in needs:
            if need.node != node:
                copies = self._copies.setdefault(self._first_of(need), {})
                copies[Stored(need.index, need.nbytes, node)] = None

    def _first_of(self, value: Stored) -> "Index":
        if value.index in self._users:
            return value.index
        return next(first for first, now in self._replaced.items() if now == value)

    def release(self, value: ItemOutcome) -> None:
        """Note that one of the users of a value needs it no more."""
        if isinstance(value, bytes):
            self.nbytes -= len(value)
            return
        if isinstance(value, ItemChunk):
            self.nbytes -= value.nbytes
            return
        pending: list[ItemOutcome] = [value]
        while pending:
            each = pending.pop()
            if isinstance(each, bytes):
                self.nbytes -= len(each)
            elif isinstance(each, Stored):
                pending += self._release_stored(each)

    def _release_stored(self, value: Stored) -> list[ItemOutcome]:
        """Returns what was kept for its maker's sake, and is not needed any more either."""
        self._users[value.index] -= 1
        if self._users[value.index]:
            return []
        del self._users[value.index]
        self.nbytes -= value.nbytes
        last = self._places.pop(value.index)
        replaced = self._replaced.pop(value.index, last)
        if isinstance(replaced, Stored):
            self._dropped.append(replaced)
        self._dropped += self._copies.pop(value.index, ())
        maker = self._makers.pop(value.index, None)
        # What it is being made of again is released with its end.
        return [] if maker is None or maker.is_made_again else maker.values

    def current(self, value: ItemOutcome) -> ItemOutcome | None:
        """Find the outcome that stands for a value now; None while it is being made again."""
        if isinstance(value, Stored) and value.index in self._replaced:
            return self._replaced[value.index]
        return value

    def lost_with(self, node: str) -> list["Work"]:
        """Take note that what is on a node is lost. Returns the work that has to be done again."""
        for copies in self._copies.values():
            for copy in [each for each in copies if each.node == node]:
                del copies[copy]
        again: list[Work] = []
        for index, first in self._places.items():
            place = self._replaced.get(index, first)
            if isinstance(place, Stored) and place.node == node:
                again += self._lose(index, f"a value of it was lost with node {node}")
        return again

    def _lose(self, first: "Index", reason: str) -> list["Work"]:
        maker = self._makers.get(first)
        self._replaced[first] = ItemFailure("lost", b"", reason) if maker is None else None
        return [] if maker is None else [maker]

    def lost(self, index: "Index", reason: str) -> list["Work"]:
        """Take note that one value can't be had, by the index that it has now. Returns the work that has to be done again."""
        for first, place in self._places.items():
            now = self._replaced.get(first, place)
            if isinstance(now, Stored) and now.index == index:
                return [] if self._is_given_up(first, now.node, reason) else self._lose(first, reason)
        return []

    def _is_given_up(self, first: "Index", node: str, reason: str) -> bool:
        """Count a loss; True if a value was made so often in vain that it is not made again."""
        maker = self._makers.get(first)
        if maker is None:
            return False
        maker.losses += 1
        if maker.losses < MOST_LOSSES:
            return False
        why = f"a value of it could not be had, though it was made {maker.losses} times: {reason}"
        self._replaced[first] = ItemFailure("lost", b"", why, attempts=maker.losses, node=node)
        return True

    def made_again(self, work: "Work", outcome: ItemOutcome) -> None:
        """Put what was made again in the place of what was lost."""
        assert work.result is not None
        index = work.result.index
        if index not in self._users:
            # Meanwhile nothing needs it any more.
            self.discard(outcome)
            for value in work.values:
                self.release(value)
        elif isinstance(outcome, ItemSkipped):
            self._replaced[index] = ItemFailure(
                "lost", b"", "it was lost, and skipped when it was made again"
            )
        else:
            self._replaced[index] = outcome

    def discard(self, value: ItemOutcome) -> None:
        """Drop a value that nothing has ever needed."""
        if isinstance(value, Stored):
            self._dropped.append(value)

    def take_dropped(self) -> list[Stored]:
        """The values that can be dropped since this was last asked."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def check(self) -> None:
        """Assert every invariant."""
        assert self._users.keys() == self._places.keys()
        assert self._makers.keys() <= self._users.keys()
        assert self._replaced.keys() <= self._users.keys()
        assert self._copies.keys() <= self._users.keys()
        assert all(users > 0 for users in self._users.values())
