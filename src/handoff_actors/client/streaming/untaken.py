"""Counts results that are dropped since nobody takes them, so that errors, and what `finish` gave, are not lost in silence."""

from collections.abc import Iterable

from handoff_actors.client.streaming.outlet import Arrival
from handoff_actors.core.stream.events import ItemFailure, StreamResult


class Untaken:
    """The results of pushes, and of `finish`, that nobody took."""

    def __init__(self) -> None:
        self.errors = 0
        #: The first of them.
        self.first: Arrival | None = None
        self.of_finish = 0
        #: Results of `finish` are numbered from here on; None while items may still be pushed.
        self.finish_begins_at: int | None = None

    def add(self, results: Iterable[Arrival | StreamResult]) -> None:
        """Count results that are dropped."""
        for result in results:
            outcome = result.outcome
            if isinstance(outcome, ItemFailure):
                self.errors += 1
                self.first = self.first or Arrival(result.number, {}, failure=outcome)
            elif self.finish_begins_at is not None and result.number >= self.finish_begins_at:
                self.of_finish += 1

    def __str__(self) -> str:
        parts = [
            f"{self.errors} that failed" if self.errors else "",
            f"{self.of_finish} of finish" if self.of_finish else "",
        ]
        return " and ".join(part for part in parts if part)
