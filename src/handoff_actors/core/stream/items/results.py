"""The results of a stream: joined over its sinks, in order, for those who have pushed."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from handoff_actors.core.stream.events import (
    FINISH_OWNER,
    ItemChunk,
    ItemFailure,
    ItemOutcome,
    ItemSkipped,
    ResultsReady,
    Stored,
    StreamResult,
    Vertex,
)
from handoff_actors.core.stream.items.chunks import part
from handoff_actors.core.stream.items.keys import Key
from handoff_actors.core.stream.items.scope import Scope
from handoff_actors.core.stream.items.sequencing import Sequencer

#: A result with the scope in which it counts, until it is taken; or None where a key has none. True: the last of its item.
_Entry = tuple[tuple[StreamResult, Scope] | None, bool]


Current = Callable[[StreamResult], StreamResult | None]


class PushedItem(Scope, eq=False):
    """One push, or a chunk of pushes that follow one another, with all its results."""

    #: That of the first push.
    number: int = 0
    owner: int = 0
    #: The number of pushes that are not out.
    size: int = 1
    #: All its results have come.
    is_whole: bool = False
    #: Results that wait for those of earlier items.
    ready: list[tuple[StreamResult, Scope]] = []  # noqa: RUF012 - each has its own, as msgspec has it
    #: Puts the results of generators in order; None where there is at most one result, or no order.
    order: Sequencer[_Entry] | None = None


class _Owner(Struct, eq=False):
    #: Items whose results have not all been handed out, in the order of their pushes; empty where results come as they are.
    items: deque[PushedItem] = field(default_factory=deque)
    #: Results that can be handed out, and those that have been and were not taken.
    pending: list[tuple[StreamResult, Scope]] = field(default_factory=list)
    untaken: deque[tuple[StreamResult, Scope]] = field(default_factory=deque)
    #: The number of its items that are in flight.
    in_flight: int = 0
    is_gone: bool = False


class ItemResults:
    """The items that are in flight, and the results that have not been taken."""

    def __init__(self, length: int, *, ordered: bool) -> None:
        """Keys of results have `length` parts."""
        self._length = length
        self._ordered = ordered
        #: The number of pushes that are in flight.
        self.in_flight = 0
        #: By number, in the order of their pushes.
        self.items: dict[int, PushedItem] = {}
        self._owners: dict[int, _Owner] = {}
        #: Owners with pending results.
        self._changed: dict[int, None] = {}
        self._oldest = 0
        #: Other owners that are gone have no items to come, so they are forgotten with their last one.
        self._is_finish_owner_gone = False

    def add(self, number: int, owner: int, parent: Scope | None = None, size: int = 1) -> PushedItem:
        """Take note of an item that was pushed, or of a chunk of so many."""
        item = self.items[number] = PushedItem(parent, number=number, owner=owner, size=size)
        self.in_flight += size
        if parent is not None:
            parent.alive += 1
        known = self._owners.get(owner)
        if known is None:
            is_gone = owner == FINISH_OWNER and self._is_finish_owner_gone
            known = self._owners[owner] = _Owner(is_gone=is_gone)
        known.in_flight += 1
        if self._ordered:
            known.items.append(item)
            if self._length > 1:
                item.order = Sequencer(self._length, (number,) + (0,) * (self._length - 1))
        return item

    def split_off(self, item: PushedItem, count: int) -> PushedItem:
        """Make the first pushes of a chunk, of which only one part is alive, an item of their own."""
        first = PushedItem(None, 1, number=item.number, owner=item.owner, size=count, is_whole=item.is_whole)
        item.number += count
        item.size -= count
        self.items[first.number], self.items[item.number] = first, item
        owner = self._owners[item.owner]
        owner.in_flight += 1
        if self._ordered and not item.is_whole:
            owner.items.insert(owner.items.index(item), first)
        return first

    def came(self, key: Key, count: int | None, result: StreamResult | None, scope: Scope) -> None:
        """Take what the sinks have given for one key. A result counts in its scope until it is taken."""
        item = self.items[key[0]]
        entry: _Entry = (None if result is None else (result, scope)), len(key) == 1
        for each, is_last in [entry] if item.order is None else item.order.add(key, count, entry):
            if each is not None:
                item.ready.append(each)
            item.is_whole = item.is_whole or is_last
        self._hand_on(item)

    def _hand_on(self, item: PushedItem) -> None:
        owner = self._owners[item.owner]
        if not self._ordered:
            owner.pending += item.ready
            item.ready = []
        while owner.items and (owner.items[0].ready or owner.items[0].is_whole):
            first = owner.items[0]
            owner.pending += first.ready
            first.ready = []
            if not first.is_whole:
                break
            owner.items.popleft()
        if owner.pending:
            self._changed[item.owner] = None

    @property
    def has_changed(self) -> bool:
        """True if there may be results to hand out."""
        return bool(self._changed)

    def hand_out(self, current: Current) -> tuple[list[ResultsReady], list[tuple[StreamResult, Scope]]]:
        """The results that have become ready since this was last asked; and those of owners that are gone, which count as taken.

        `current` gives a result with its values as they are now; None while one of them is being made again.
        """
        ready: list[ResultsReady] = []
        unwanted: list[tuple[StreamResult, Scope]] = []
        changed, self._changed = self._changed, {}
        for number in changed:
            owner = self._owners[number]
            if owner.is_gone:
                unwanted += owner.pending
                owner.pending = []
                continue
            results: list[StreamResult] = []
            for place, (result, scope) in enumerate(owner.pending):
                now = current(result)
                if now is None:
                    # Those behind it wait, too, where they come in order.
                    self._changed[number] = None
                    del owner.pending[:place]
                    break
                results.append(now)
                owner.untaken.append((result, scope))
            else:
                owner.pending = []
            if results:
                ready.append(ResultsReady(number, results))
        return ready, unwanted

    def taken(self, number: int, count: int) -> list[tuple[StreamResult, Scope]]:
        """Note that an owner has taken so many results. Returns them."""
        owner = self._owners.get(number)
        taken: list[tuple[StreamResult, Scope]] = []
        while owner is not None and owner.untaken and count > 0:
            result, scope = owner.untaken.popleft()
            size = scope.size if isinstance(scope, PushedItem) else 1
            if size > count:
                assert isinstance(scope, PushedItem), "no generator has given a chunk"
                first, rest = divided(result, count)
                owner.untaken.appendleft((rest, scope))
                result, scope = first, self.split_off(scope, count)
            taken.append((result, scope))
            count -= size
        return taken

    def owner_gone(self, number: int) -> list[tuple[StreamResult, Scope]]:
        """Hand nothing out any more to an owner. Returns what it has not taken."""
        if number == FINISH_OWNER:
            self._is_finish_owner_gone = True
        owner = self._owners.get(number)
        if owner is None:
            return []
        owner.is_gone = True
        untaken, owner.untaken = list(owner.untaken), deque()
        return untaken

    def forget(self, item: PushedItem) -> None:
        """Forget an item of which nothing is alive, and an owner that has no other."""
        del self.items[item.number]
        self.in_flight -= item.size
        owner = self._owners[item.owner]
        owner.in_flight -= 1
        if not owner.in_flight:
            del self._owners[item.owner]

    # --- For explanations ---------------------------------------------------------------------------------------

    def item_of(self, number: int) -> PushedItem | None:
        """Find the item of a push, or the chunk that it is in; None if it is not in flight."""
        item = self.items.get(number)
        if item is not None:
            return item
        return next((each for each in self.items.values() if 0 <= number - each.number < each.size), None)

    def held_up(self, item: PushedItem) -> list[int]:
        """Find the item that holds up results of this one: an earlier one, or itself where an earlier result is missing."""
        if item.ready:
            return [self._owners[item.owner].items[0].number]
        return [item.number] if item.order is not None and len(item.order) else []

    def is_made_again(self, item: PushedItem, number: int) -> bool:
        """True if a value of an item's result that would be handed out is being made again."""
        return any(_is_of(result, number) for result, _ in self._owners[item.owner].pending)

    def is_untaken(self, item: PushedItem, number: int) -> bool:
        """True if a result of an item has been handed out, and not been taken."""
        return any(_is_of(result, number) for result, _ in self._owners[item.owner].untaken)

    @property
    def oldest(self) -> int:
        """The number of the oldest item that is in flight, if there is any."""
        # The first key of a dict is found only behind all that were deleted before it.
        while self.items and self._oldest not in self.items:
            self._oldest += 1
        return self._oldest


def _is_of(result: StreamResult, number: int) -> bool:
    return result.number <= number < result.number + result.size


def divided(result: StreamResult, count: int) -> tuple[StreamResult, StreamResult]:
    """Divide the result of a chunk behind its first items."""
    assert not isinstance(result.outcome, ItemFailure), "a failure is that of one item"
    first: dict[Vertex, bytes | Stored | ItemChunk | ItemSkipped] = {}
    rest: dict[Vertex, bytes | Stored | ItemChunk | ItemSkipped] = {}
    for sink, value in result.outcome.items():
        assert isinstance(value, ItemChunk), "it is the result of one item"
        first[sink], rest[sink] = part(value, 0, count), part(value, count, len(value.values))
    return StreamResult(result.number, first), StreamResult(result.number + count, rest)


def result_of(number: int, outcomes: Mapping[Vertex, ItemOutcome]) -> StreamResult | None:
    """The result, or None where all sinks were skipped."""
    values: dict[Vertex, bytes | Stored | ItemChunk | ItemSkipped] = {}
    for sink, outcome in outcomes.items():
        if isinstance(outcome, ItemFailure):
            return StreamResult(number, outcome)
        values[sink] = outcome
    if all(isinstance(value, ItemSkipped) for value in values.values()):
        return None
    return StreamResult(number, values)


def values_of(result: StreamResult) -> Sequence[ItemOutcome]:
    """The values that a result is made of."""
    return [] if isinstance(result.outcome, ItemFailure) else list(result.outcome.values())
