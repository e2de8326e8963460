"""The items of a stage that have failed, and are tried again only after a pause."""

from collections.abc import Iterable, Iterator

from handoff_actors.core.backoff import Backoff, pause_s
from handoff_actors.core.stream.items.work import Work


class Pauses:
    """The pauses at one stage."""

    def __init__(self, backoff: Backoff | None) -> None:
        """None: items are tried again at once."""
        self._backoff = backoff
        self._works: list[tuple[float, Work]] = []

    def __iter__(self) -> Iterator[Work]:
        return (work for _, work in self._works)

    def __len__(self) -> int:
        return len(self._works)

    def begin(self, works: list[Work], now: float) -> list[Work]:
        """Have items wait that have failed. Returns those that need not."""
        if self._backoff is None:
            return works
        self._works += [(now + pause_s(self._backoff, work.failures, work.number), work) for work in works]
        return []

    def end(self, now: float) -> list[Work]:
        """Take the items whose pause is over, in the order of their numbers."""
        over = [work for due_at, work in self._works if due_at <= now]
        self._works = [each for each in self._works if each[0] > now]
        return sorted(over, key=lambda work: work.number)

    @property
    def wake_at(self) -> Iterable[float]:
        """The times at which pauses are over."""
        return (due_at for due_at, _ in self._works)
