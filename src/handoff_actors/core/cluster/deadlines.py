"""Times at which something is due, one for each key; the soonest is found without a look at all of them."""

from collections.abc import Iterable
from heapq import heappop, heappush


class Deadlines:
    """The time that is due for each key. A time that moves on, as that of a member does with each advert, costs no more than a dict entry."""

    def __init__(self) -> None:
        self._dues: dict[str, float] = {}
        #: (time, key), soonest first. A key whose time has moved on since is pushed again when its timer comes up.
        self._timers: list[tuple[float, str]] = []
        #: The earliest timer of each key, no later than its time.
        self._timer_at: dict[str, float] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._dues

    def __getitem__(self, key: str) -> float:
        return self._dues[key]

    def items(self) -> Iterable[tuple[str, float]]:
        """All keys and times."""
        return self._dues.items()

    def set(self, key: str, due: float) -> None:
        """Set or move the time of a key."""
        self._dues[key] = due
        timer_at = self._timer_at.get(key)
        if timer_at is None or due < timer_at:
            self._set_timer(key, due)

    def drop(self, key: str) -> None:
        """Forget a key, if it is known."""
        self._dues.pop(key, None)
        self._timer_at.pop(key, None)

    def next(self) -> float | None:
        """The soonest time; None without keys."""
        while self._timers:
            timer_at, key = self._timers[0]
            is_current = self._timer_at.get(key) == timer_at
            if is_current and self._dues[key] == timer_at:
                return timer_at
            heappop(self._timers)
            if is_current:
                self._set_timer(key, self._dues[key])
        return None

    def first_due(self, now: float) -> str | None:
        """The key that has been due for longest; None if none is."""
        due = self.next()
        return None if due is None or now < due else self._timers[0][1]

    def check(self) -> None:
        """Assert that the next timer is that of the soonest time."""
        assert self.next() == min(self._dues.values(), default=None), "the next timer is not the next one due"

    def _set_timer(self, key: str, due: float) -> None:
        self._timer_at[key] = due
        heappush(self._timers, (due, key))
