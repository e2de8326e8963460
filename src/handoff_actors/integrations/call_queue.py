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

#: Seconds of work that nodes have beyond the running functions.
AHEAD_S: Final = 0.05
#: Making and sending this many calls holds the loop for a few milliseconds.
MOST_AT_ONCE: Final = 250
#: Coroutines of one executor that are with its nodes at a time: as many as the async worker of one node takes.
MOST_COROUTINES: Final = 4096
#: The weight of a new measurement in the estimate of a function's seconds when functions get faster.
_DECAY: Final = 0.1
#: The least duration of a function, whatever the clock says.
_LEAST_S: Final = 1e-5


class Item:
    """A call whose future a caller has."""

    __slots__ = ("args", "fn", "future", "kwargs", "nbytes")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], future: "Future[Any]"
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future
        #: Size of its encoded arguments, once they are.
        self.nbytes = 0

    def fail(self, error: BaseException) -> None:
        """Fail the future, unless it is done."""
        if not self.future.done():
            self.future.set_exception(error)


class CallQueue:
    """The calls of one kind. `waiting` may be appended to, and `take_waiting` be called, in any thread."""

    def __init__(self, *, is_async: bool) -> None:
        self.waiting: deque[Item] = deque()
        #: The calls that are with the run; they can no longer be cancelled.
        self.in_flight: set[Item] = set()
        #: How many the nodes run at once.
        self.slots = 1
        self._is_async = is_async
        #: Seconds that a function is expected to take: rises at once, falls slowly.
        self._expected_s = UNKNOWN

    def __bool__(self) -> bool:
        return bool(self.waiting or self.in_flight)

    def learn(self, seconds: float) -> None:
        """Take note of a function's duration."""
        self._expected_s = peak_smoothed(self._expected_s, max(seconds, _LEAST_S), _DECAY)

    def count_slots(self, offers: Iterable[Mapping[str, float]], cost: Mapping[str, float] | None) -> None:
        """Take note of what the nodes offer."""
        slots = sum(_slots_of(offer, cost, is_async=self._is_async) for offer in offers)
        self.slots = max(1, min(slots, MOST_COROUTINES) if self._is_async else slots)

    def room(self, most_in_flight: int | None) -> int:
        """Return how many more calls may be handed over now; `most_in_flight` is what the caller allows."""
        window = self.slots
        if not self._is_async:
            window += int(self.slots * AHEAD_S / self._expected_s)
        if most_in_flight is not None:
            window = min(window, most_in_flight)
        room = window - len(self.in_flight)
        # Many at a time: each time that functions are added to a run costs more than one function.
        return 0 if room < min(window // 4, len(self.waiting)) else min(room, MOST_AT_ONCE)

    def next(self) -> Item | None:
        """Take the next call off the queue; None where there is none that has not been cancelled."""
        while True:
            try:
                item = self.waiting.popleft()
            except IndexError:
                return None
            if item.future.running() or item.future.set_running_or_notify_cancel():
                return item

    def take_waiting(self) -> list[Item]:
        """Take all calls that have not been handed over."""
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
