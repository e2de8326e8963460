"""When a node says how it stands: on change, but no more often than is useful, and at least once a period."""

from handoff_actors.core.node_events import Advertise

#: Adverts go out on change, but no closer together than this, and at least once a period.
ADVERT_GAP_S = 0.05
ADVERT_PERIOD_S = 1.0


class Adverts:
    """The last advert, and when the next one may follow."""

    def __init__(self) -> None:
        self._last: Advertise | None = None
        self._said_at = float("-inf")
        self._has_changed = True

    @property
    def wake_at(self) -> float:
        """When to look again."""
        return self._said_at + (ADVERT_GAP_S if self._has_changed else ADVERT_PERIOD_S)

    def is_due(self, now: float) -> bool:
        """Whether one may go out now; called after each event."""
        self._has_changed = True
        return now >= self._said_at + ADVERT_GAP_S

    def say(self, advert: Advertise, now: float) -> list[Advertise]:
        """Say it, if it is news or the period is over."""
        self._has_changed = False
        if advert == self._last and now < self._said_at + ADVERT_PERIOD_S:
            return []
        self._last, self._said_at = advert, now
        return [advert]
