"""The items that wait at a stage for a worker, and when an incomplete batch of them is due."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from handoff_actors.core.stream.events import ItemFailure, ItemOutcome, Vertex
from handoff_actors.core.stream.items.work import Work

#: An incomplete batch without a time limit of its own goes out when nothing has come for so long.
BATCH_PAUSE_S: Final = 0.1


class Gate(Protocol):
    """The conditions under which an item is given to a worker."""

    @property
    def nbytes_left(self) -> int:
        """Bytes that values on their way may have beyond those that they have; negative where these are too many."""

    @property
    def oldest(self) -> int:
        """The number of the oldest item that is in flight."""

    def may_start(self, work: Work) -> bool:
        """False while there are too many bytes on their way, unless this is the oldest item, or a result of a generator."""

    def current(self, value: ItemOutcome) -> ItemOutcome | None:
        """Find the outcome that stands for a value now; None while it is being made again."""

    def split_off(self, work: Work, count: int) -> Work:
        """Take the first items off a chunk."""

    def is_last(self, stage: Vertex) -> bool:
        """True if nothing more can come to a stage before something that it has already is out."""


class WorkQueue:
    """Items in the order in which they are to be done."""

    def __init__(self) -> None:
        #: The number of all items here.
        self.items = 0
        self._works: deque[Work] = deque()
        #: In front of all others, as some of these may wait for what comes of them.
        self._made_again: deque[Work] = deque()
        #: Those of the pushes that these come from. Only where no generator is before is there one item of each.
        self._numbers: set[int] = set()
        self._last_at = 0.0

    def __len__(self) -> int:
        return len(self._works) + len(self._made_again)

    def __iter__(self) -> Iterator[Work]:
        return itertools.chain(self._made_again, self._works)

    @property
    def first(self) -> Work:
        """The item in front."""
        return self._made_again[0] if self._made_again else self._works[0]

    def add(self, work: Work, now: float) -> None:
        """Queue an item."""
        self.items += work.size
        work.queued_at = self._last_at = now
        self._works.append(work)
        self._numbers.add(work.key[0])

    def put_back(self, work: Work) -> None:
        """Queue an item again, in front; or one whose result is to be made again."""
        self.items += work.size
        if work.is_made_again:
            self._made_again.appendleft(work)
        else:
            self._works.appendleft(work)
            self._numbers.add(work.key[0])

    def pop(self) -> Work:
        """Take the item in front."""
        if self._made_again:
            work = self._made_again.popleft()
        else:
            work = self._works.popleft()
            self._numbers.discard(work.key[0])
        self.items -= work.size
        return work

    def bring_forward(self, gate: Gate) -> bool:
        """Have an item in front that may start, if there is one: the oldest, where the first that has come is not."""
        if not self or gate.may_start(self.first):
            return bool(self)
        if gate.oldest not in self._numbers:
            return False
        oldest = next(work for work in self._works if work.key[0] == gate.oldest)
        self._works.remove(oldest)
        self._works.appendleft(oldest)
        return True

    def batch_due_at(self, timeout_s: float | None) -> float | None:
        """The time at which a batch goes out, even if it is incomplete; None: no item waits."""
        if not self:
            return None
        return self._last_at + BATCH_PAUSE_S if timeout_s is None else self.first.queued_at + timeout_s


def current_values(work: Work, gate: Gate) -> list[ItemOutcome] | None:
    """The values of an item as they are now; None while one of them is being made again."""
    if work.is_inline:
        return work.values
    values: list[ItemOutcome] = []
    for value in work.values:
        now = gate.current(value)
        if now is None:
            return None
        values.append(now)
    return values


def is_lost(values: Sequence[ItemOutcome]) -> bool:
    """True if one of the values can't be had any more."""
    for value in values:  # noqa: SIM110 - a generator takes longer, and this is for each item
        if isinstance(value, ItemFailure):
            return True
    return False
