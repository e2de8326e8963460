"""The items that wait at a stage for a worker, and when an incomplete batch of them is due."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from handoff_actors.core.stream.events import Outcome, Vertex
from handoff_actors.core.stream.work import Work

#: An incomplete batch without a time limit of its own goes out when nothing has come for so long.
BATCH_PAUSE_S: Final = 0.1


class Gate(Protocol):
    """What an item has to pass before it is given to a worker."""

    @property
    def nbytes_left(self) -> int:
        """Bytes that values on their way may have beyond those that they have; negative where these are too many."""

    def may_start(self, work: Work) -> bool:
        """False while there are too many bytes on their way, unless this is the oldest item, or a result of a generator."""

    def current(self, value: Outcome) -> Outcome | None:
        """What stands for a value now; None while it is being made again."""

    def is_last(self, stage: Vertex) -> bool:
        """True if nothing more can come to a stage before something that it has already is out."""


class WorkQueue:
    """Items in the order in which they are to be done."""

    def __init__(self) -> None:
        self._works: deque[Work] = deque()
        self._first_at = 0.0
        self._last_at = 0.0

    def __len__(self) -> int:
        return len(self._works)

    def __iter__(self) -> Iterator[Work]:
        return iter(self._works)

    @property
    def first(self) -> Work:
        """The item in front."""
        return self._works[0]

    def add(self, work: Work, now: float) -> None:
        """Queue an item."""
        if not self._works:
            self._first_at = now
        self._works.append(work)
        self._last_at = now

    def put_back(self, work: Work) -> None:
        """Queue an item again, in front."""
        self._works.appendleft(work)

    def pop(self, now: float) -> Work:
        """Take the item in front."""
        self._first_at = now
        return self._works.popleft()

    def clear(self) -> Iterable[Work]:
        """Forget all items. Returns them."""
        works, self._works = self._works, deque()
        return works

    def bring_forward(self, gate: Gate) -> bool:
        """Have an item in front that may start, if there is one: the oldest, where the first that has come is not."""
        if not self._works:
            return False
        if gate.may_start(self._works[0]):
            return True
        oldest = next((work for work in self._works if gate.may_start(work)), None)
        if oldest is not None:
            self._works.remove(oldest)
            self._works.appendleft(oldest)
        return oldest is not None

    def batch_due_at(self, timeout_s: float | None) -> float | None:
        """The time at which a batch goes out, even if it is incomplete; None: no item waits."""
        if not self._works:
            return None
        return self._last_at + BATCH_PAUSE_S if timeout_s is None else self._first_at + timeout_s


def current_values(work: Work, gate: Gate) -> list[Outcome] | None:
    """The values of an item as they are now; None while one of them is being made again."""
    values: list[Outcome] = []
    for value in work.values:
        now = gate.current(value)
        if now is None:
            return None
        values.append(now)
    return values
