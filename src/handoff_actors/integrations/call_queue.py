"""Calls of one kind, plain or of coroutine functions, that an executor has not finished: which goes next, and how many may.

A plain call occupies a worker while it runs. A coroutine occupies nothing while it waits, so that as many may be with the
nodes as their async workers take.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from handoff_actors.moving_average import UNKNOWN, peak_smoothed

if TYPE_CHECKING:
    from concurrent.futures import Future

#: A function that takes this long, or whose duration is unknown, shares its run with no other: so much longer than a run
#: costs. A coroutine may take longer, since many wait at a time, and each second could not begin as many runs. What it took
#: and made stays on its node as long as others in its run.
LONG_S: Final = 0.005
LONG_COROUTINE_S: Final = 1.0
#: A run of several calls counts among the shared ones for so many seconds. A coroutine may wait for anything meanwhile; if a
#: plain function goes on for so long, one that is not short is among them.
YOUNG_S: Final = 0.25
YOUNG_COROUTINES_S: Final = 0.01
#: Seconds of work that nodes have beyond the running functions.
AHEAD_S: Final = 0.05
#: Making and sending this many calls holds the loop for a few milliseconds.
MOST_PER_RUN: Final = 250
#: The most runs of short functions at a time, beyond one per worker.
SHARED_RUNS: Final = 4
#: Coroutines of one executor that are with its nodes at a time: as many as the async worker of one node takes. A run of one
#: alone has some 30 KB.
MOST_COROUTINES: Final = 4096
#: The weight of a new measurement in the estimate of a function's seconds when functions get faster.
_DECAY: Final = 0.1
#: The least duration of a function, whatever the clock says.
_LEAST_S: Final = 1e-5


class Item:
    """A call whose future a caller has."""

    __slots__ = ("args", "fn", "future", "kwargs")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], future: "Future[Any]"
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future

    def fail(self, error: BaseException) -> None:
        """Fail the future, unless it is done."""
        if not self.future.done():
            self.future.set_exception(error)


class CallQueue:
    """The calls of one kind. `waiting` may be appended to, and `take_waiting` be called, in any thread."""

    def __init__(self, *, is_async: bool) -> None:
        self.waiting: deque[Item] = deque()
        #: Calls to run again, which can no longer be cancelled: another function has ended their run.
        self.again: deque[Item] = deque()
        self.in_flight: set[Item] = set()
        #: How many the nodes run at once.
        self.slots = 1
        #: Runs of several calls that have begun in the last `young_s` seconds.
        self.shared_runs = 0
        self.young_s: Final = YOUNG_COROUTINES_S if is_async else YOUNG_S
        self._long_s: Final = LONG_COROUTINE_S if is_async else LONG_S
        self._is_async = is_async
        #: Seconds that a function is expected to take: rises at once, falls slowly.
        self._expected_s = UNKNOWN

    def __bool__(self) -> bool:
        return bool(self.waiting or self.again or self.in_flight)

    @property
    def is_long(self) -> bool:
        """True if each call is to have a run of its own."""
        return self._expected_s >= self._long_s

    def learn(self, seconds: float) -> None:
        """Take note of a function's duration."""
        self._expected_s = peak_smoothed(self._expected_s, max(seconds, _LEAST_S), _DECAY)

    def count_slots(self, offers: Iterable[Mapping[str, float]], cost: Mapping[str, float] | None) -> None:
        """Take note of what the nodes offer."""
        slots = sum(_slots_of(offer, cost, is_async=self._is_async) for offer in offers)
        self.slots = max(1, min(slots, MOST_COROUTINES) if self._is_async else slots)

    def room(self, most_in_flight: int | None, workers: int) -> int:
        """Return how many more calls may be handed over, in one run, now; `most_in_flight` is what the caller allows."""
        window = self.slots
        if not self._is_async:
            window += int(self.slots * AHEAD_S / self._expected_s)
        if most_in_flight is not None:
            window = min(window, most_in_flight)
        room = window - len(self.in_flight)
        if self.is_long:
            return min(room, 1)
        # Neither tiny runs, nor one run for each call that comes in: calls that wait a moment longer share one.
        if self.shared_runs >= workers + SHARED_RUNS or room < min(window // 4, len(self.waiting)):
            return 0
        return min(room, MOST_PER_RUN)

    def next(self) -> Item | None:
        """Take the next call off the queue; None where there is none that has not been cancelled."""
        if self.again:
            return self.again.popleft()
        while True:
            try:
                item = self.waiting.popleft()
            except IndexError:
                return None
            if item.future.set_running_or_notify_cancel():
                return item

    def take_waiting(self) -> list[Item]:
        """Take all calls that have not been handed over and can be cancelled."""
        taken: list[Item] = []
        # Two threads may take from it.
        with suppress(IndexError):
            while self.waiting:
                taken.append(self.waiting.popleft())
        return taken


def _slots_of(offer: Mapping[str, float], cost: Mapping[str, float] | None, *, is_async: bool) -> int:
    """Return how many functions a node runs at once."""
    shares = [offer.get(resource, 0.0) / amount for resource, amount in (cost or {}).items() if amount]
    return int(min(shares, default=MOST_COROUTINES if is_async else offer.get("cpu", 1.0)))
