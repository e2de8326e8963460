"""When a node says how it stands: at once when that changes, but not too often, and from time to time anyway."""

from handoff_actors.core.node_events import Advertise

#: Adverts go out on change, but no closer together than this, and at least once a period.
ADVERT_GAP_S = 0.05
ADVERT_PERIOD_S = 1.0


class Herald:
    """The adverts of one node."""

    def __init__(self) -> None:
        self._latest: Advertise | None = None
        self._advertised_at = float("-inf")
        self._has_changed = True

    @property
    def wake_at(self) -> float:
        """When the next advert may or must go out."""
        return self._advertised_at + (ADVERT_GAP_S if self._has_changed else ADVERT_PERIOD_S)

    def may_speak(self, now: float) -> bool:
        """Whether enough time has gone by; what is not said now is said as soon as it has."""
        self._has_changed = True
        return now >= self._advertised_at + ADVERT_GAP_S

    def speak(self, advert: Advertise, now: float) -> list[Advertise]:
        """Say it, unless it is the same again and nobody has to be told yet."""
        self._has_changed = False
        if advert == self._latest and now < self._advertised_at + ADVERT_PERIOD_S:
            return []
        self._latest = advert
        self._advertised_at = now
        return [advert]
