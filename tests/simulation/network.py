"""Simulated time, and channels that keep the order of what is sent through them."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf, nextafter
from random import Random
from typing import Generic, TypeVar

MessageT = TypeVar("MessageT")


class Timeline:
    """The actions that are planned, by their times."""

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
        """Take the next action. False if there is none."""
        if not self._entries:
            return False
        self.now, _, action = heappop(self._entries)
        action()
        return True


class Clock:
    """The clock of one process: off by anything, and a little fast or slow."""

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self._timeline = timeline
        self._offset_s = random.uniform(-50.0, 5000.0)
        self._rate = random.uniform(0.98, 1.02)

    @property
    def now(self) -> float:
        return self._shows_at(self._timeline.now)

    def when(self, time: float) -> float:
        """The moment at which it shows that time."""
        moment = (time - self._offset_s) / self._rate
        while self._shows_at(moment) < time:
            moment = nextafter(moment, inf)
        return moment

    def _shows_at(self, moment: float) -> float:
        return self._offset_s + self._rate * moment


class Gate:
    """One direction between two places. While it is shut, whatever wants to pass waits, in order."""

    def __init__(self) -> None:
        self.is_shut = False
        self._waiting: list[Callable[[], None]] = []

    def pass_through(self, action: Callable[[], None]) -> None:
        if self.is_shut:
            self._waiting.append(action)
        else:
            action()

    def open(self) -> None:
        self.is_shut = False
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            action()


class Path:
    """The two directions between an app and a node, which outlast single links."""

    def __init__(self) -> None:
        self.to_node = Gate()
        self.to_app = Gate()

    @property
    def is_clear(self) -> bool:
        return not (self.to_node.is_shut or self.to_app.is_shut)


class Line:
    """Actions that are to be done later, in the order in which they were added."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._last = 0.0

    @property
    def is_empty(self) -> bool:
        return self._last < self._timeline.now

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._last = max(self._last, self._timeline.now + delay_s)
        self._timeline.at(self._last, action)


class Channel(Generic[MessageT]):
    """One direction of a connection: late, but in order. Now and then something arrives twice."""

    def __init__(
        self,
        timeline: Timeline,
        random: Random,
        longest_delay_s: float,
        deliver: Callable[[MessageT], None],
        duplicates: float = 0.0,
        gate: Gate | None = None,
    ) -> None:
        self._line = Line(timeline)
        self._gate = gate or Gate()
        self._random = random
        self._longest_delay_s = longest_delay_s
        self._deliver = deliver
        self._duplicates = duplicates
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
        self._line.after(delay_s, lambda: self._gate.pass_through(lambda: self._arrive(message)))

    def _arrive(self, message: MessageT) -> None:
        if not self._is_closed:
            self._deliver(message)
