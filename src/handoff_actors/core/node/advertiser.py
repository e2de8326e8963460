"""When a node advertises its load: soon after a change, but not too often, and once a period in any case.

All members hear all adverts. So the more members there are, the longer a node waits between two.
"""

from collections.abc import Callable

from handoff_actors.core.node.events import Advertise
from handoff_actors.ids import Resources

#: Adverts go out on change, but no closer together than this, and at least once a period.
ADVERT_GAP_S = 0.05
ADVERT_PERIOD_S = 1.0
#: While claims and idle workers stay as they are, and functions wait as before, an advert can wait this long: no scheduler
#: places by how many wait, or what is stored.
LOAD_GAP_S = 0.2
#: Seconds between two adverts for each member: no member hears more than a thousand a second, or one from each.
MEMBER_GAP_S = 0.001

#: The facts that other members place functions by: claims, totals, whether the node is leaving, the number of its idle workers,
#: and whether functions wait.
Standing = tuple[Resources, Resources, bool, int, bool]


class Advertiser:
    """The timing of one node's adverts."""

    def __init__(self) -> None:
        self._latest: Advertise | None = None
        self._said: Standing | None = None
        self._advertised_at = float("-inf")
        self._gap_s = ADVERT_GAP_S
        self._least_gap_s = 0.0

    def count(self, members: int) -> None:
        """Adapt the gap between adverts to this many other members."""
        self._least_gap_s = least_gap_s(members)

    @property
    def wake_at(self) -> float:
        """The time at which the next advert may or must go out."""
        return self._advertised_at + self._gap_s

    def speak(self, standing: Standing, advert: Callable[[], Advertise], now: float) -> list[Advertise]:
        """Return an advert, made by `advert`, if one is due and says something new. Called after each event."""
        self._gap_s = max(self._least_gap_s, LOAD_GAP_S if standing == self._said else ADVERT_GAP_S)
        if now < self._advertised_at + self._gap_s:
            return []
        self._gap_s = ADVERT_PERIOD_S
        said = advert()
        if said == self._latest and now < self._advertised_at + ADVERT_PERIOD_S:
            return []
        self._said = (dict(standing[0]), *standing[1:])
        self._latest = said
        self._advertised_at = now
        return [said]


def least_gap_s(members: int) -> float:
    """Return the least gap in seconds between two adverts of a node that this many others hear."""
    return min(ADVERT_PERIOD_S, MEMBER_GAP_S * members)
