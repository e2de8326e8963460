"""Stages as people write them by hand: a process for each, with a `multiprocessing.Queue` in front of it.

No claims, no retries: an item whose stage raises or dies is lost, and the app waits for it for ever.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.stream_shapes import STAGES, WINDOW, Flow, Kind, code_of, key_of, of_kind, window_of

if TYPE_CHECKING:
    from multiprocessing.queues import Queue


def serve(code: Callable[[Any], Any], items: "Queue[Any]", takers: "Sequence[Queue[Any]]") -> None:
    """Run the code for each item, for ever; with several takers, equal keys go to the same one."""
    while True:
        number, value = items.get()
        result = code(value)
        taker = takers[0] if len(takers) == 1 else takers[key_of(result) % len(takers)]
        taker.put((number, result))


class QueueFlow:
    """The queue before the first stage, and the one behind the last."""

    def __init__(self, first: "Queue[Any]", last: "Queue[Any]", window: int) -> None:
        self._first = first
        self._last = last
        self._window = window
        self._pushed = 0
        self._next = 0
        #: Results that have overtaken others.
        self._early: dict[int, Any] = {}

    async def one(self, value: Any) -> Any:
        """See Flow."""
        self._push(value)
        return self._take()

    async def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        for value in values:
            if self._pushed - self._next == self._window:
                yield self._take()
            self._push(value)
        while self._pushed > self._next:
            yield self._take()

    def _push(self, value: Any) -> None:
        self._first.put((self._pushed, value))
        self._pushed += 1

    def _take(self) -> Any:
        while self._next not in self._early:
            number, value = self._last.get()
            self._early[number] = value
        value = self._early.pop(self._next)
        self._next += 1
        return value


@asynccontextmanager
async def embedded(kind: Kind) -> AsyncIterator[Flow]:
    processes = get_context("spawn")
    widths = [2 if kind == "keyed" and number == 1 else 1 for number in range(STAGES)]
    queues = [[processes.Queue(WINDOW) for _ in range(width)] for width in (*widths, 1)]
    workers = [
        processes.Process(target=serve, args=(code_of(kind), items, takers), daemon=True)
        for stage, takers in itertools.pairwise(queues)
        for items in stage
    ]
    for worker in workers:
        worker.start()
    try:
        yield of_kind(kind, QueueFlow(queues[0][0], queues[-1][0], window_of(kind)))
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
