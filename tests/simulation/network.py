"""Simulated time, and channels that keep the order of what is sent through them."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Generic, TypeVar

MessageT = TypeVar("MessageT")


class Timeline:
    """What is going to happen, and when."""

    def __init__(self) -> None:
        self.now = 100.0
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Plan something. What is planned for the same time happens in the order of planning."""
        self._count += 1
        heappush(self._entries, (time, self._count, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay_s, action)

    def step(self) -> bool:
        """Let the next thing happen; False: there is none."""
        if not self._entries:
            return False
        self.now, _, action = heappop(self._entries)
        action()
        return True


class Channel(Generic[MessageT]):
    """One direction of a connection: late, but in order. Now and then something arrives twice."""

    def __init__(
        self,
        timeline: Timeline,
        random: Random,
        longest_delay_s: float,
        deliver: Callable[[MessageT], None],
        duplicates: float = 0.0,
    ) -> None:
        self._timeline = timeline
        self._random = random
        self._longest_delay_s = longest_delay_s
        self._deliver = deliver
        self._duplicates = duplicates
        self._last = 0.0
        self._is_closed = False

    def send(self, message: MessageT) -> None:
        self._send(message)
        if self._duplicates and self._random.random() < self._duplicates:
            self._send(message)

    def close(self) -> None:
        """Lose what is on its way, and all that is sent from now on."""
        self._is_closed = True

    def _send(self, message: MessageT) -> None:
        delay_s = self._random.random() * self._longest_delay_s
        self._last = max(self._last, self._timeline.now + delay_s)
        self._timeline.at(self._last, lambda: self._arrive(message))

    def _arrive(self, message: MessageT) -> None:
        if not self._is_closed:
            self._deliver(message)
