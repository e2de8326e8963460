"""Counts items of a stream that fail, and collects observations for `on_event`.

Nothing here costs an item anything that goes well. Without observers there are counts only.
"""

from collections import Counter
from typing import Final

from handoff_actors.core.stream.events import (
    ItemChange,
    ItemFailure,
    ItemObserved,
    StreamEffect,
    Vertex,
    WorkerObserved,
)

#: Items of which it is kept how they have failed: the latest ones.
MOST_FAILURES: Final = 1_000
#: Characters that are told of each reason.
MOST_OF_A_REASON: Final = 500


class StreamObserving:
    """Counts failures, and collects what is to be told among the effects of a stream."""

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._observations: list[StreamEffect] = []
        #: By stage: items that have failed there, and attempts that were followed by another.
        self.failed: Counter[Vertex] = Counter()
        self.retried: Counter[Vertex] = Counter()
        #: Items that have failed at all.
        self.failed_items = 0
        #: By number of the push.
        self.failures: dict[int, ItemFailure] = {}

    def item_failed(self, number: int, failure: ItemFailure) -> None:
        """Take note that an item has failed for good."""
        if failure.stage is not None:
            self.failed[failure.stage] += 1
        self.failed_items += self.failures.pop(number, None) is None
        self.failures[number] = failure
        if len(self.failures) > MOST_FAILURES:
            del self.failures[next(iter(self.failures))]
        self._item("failed", number, failure.stage, failure, failure.attempts)

    def item_retried(self, number: int, stage: Vertex, failure: ItemFailure, attempt: int) -> None:
        """Take note that an attempt at an item has failed, and that there will be another."""
        self.retried[stage] += 1
        self._item("retried", number, stage, failure, attempt)

    def _item(
        self, change: ItemChange, number: int, stage: Vertex | None, failure: ItemFailure, attempt: int
    ) -> None:
        if self._is_on:
            reason = failure.reason[:MOST_OF_A_REASON]
            self._observations.append(
                ItemObserved(change, number, stage, failure.node, attempt, failure.kind, reason)
            )

    def worker_up(self, stage: Vertex, lane: int, node: str) -> None:
        """Take note that a worker of a stage takes items."""
        if self._is_on:
            self._observations.append(WorkerObserved(stage, lane, node, is_up=True))

    def worker_gone(self, stage: Vertex, lane: int, node: str, reason: str) -> None:
        """Take note that a worker of a stage takes no more items."""
        if self._is_on:
            reason = reason[:MOST_OF_A_REASON]
            self._observations.append(WorkerObserved(stage, lane, node, is_up=False, reason=reason))

    def take(self) -> list[StreamEffect]:
        """Drain the observations not yet told."""
        observations, self._observations = self._observations, []
        return observations
