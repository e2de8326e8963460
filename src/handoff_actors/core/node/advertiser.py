"""When a node advertises its load: soon after a change, but not too often, and once a period in any case.

All members hear all adverts. So the more members there are, the longer a node waits between two.
"""

from collections.abc import Callable

from handoff_actors.core.node.events import Advertise
from handoff_actors.core.resources import ROUNDING
from handoff_actors.ids import Resources
from handoff_actors.token_bucket import TokenBucket

#: Adverts go out on change, at most one each ADVERT_GAP_S in the long run, and at least once a period. The first few come
#: sooner, since a burst of functions from many apps is spread by them.
ADVERT_GAP_S = 0.05
QUICK_GAP_S = 0.01
QUICK_ADVERTS = 5
ADVERT_PERIOD_S = 1.0
#: While claims and idle workers stay as they are, and functions wait as before, an advert can wait this long: no scheduler
#: places by how many wait, or what is stored.
LOAD_GAP_S = 0.2
#: Seconds between two adverts for each member: no member hears more than a thousand a second, or one from each.
MEMBER_GAP_S = 0.001

#: The facts that other members place functions by: claims, totals, whether the node is leaving, the number of its idle workers,
#: whether functions wait, and why it is out of use.
Standing = tuple[Resources, Resources, bool, int, bool, str]


class Advertiser:
    """The timing of one node's adverts."""

    def __init__(self) -> None:
        self._latest: Advertise | None = None
        self._said: Standing | None = None
        self._advertised_at = float("-inf")
        self._least_gap_s = 0.0
        self._quick = TokenBucket(QUICK_ADVERTS, 1 / ADVERT_GAP_S, now=0.0)
        #: The time at which the next advert may or must go out.
        self.wake_at = float("-inf")

    def count(self, members: int) -> None:
        """Adapt the gap between adverts to this many other members."""
        self._least_gap_s = least_gap_s(members)

    def speak(self, standing: Standing, advert: Callable[[], Advertise], now: float) -> list[Advertise]:
        """Return an advert, made by `advert`, if one is due and says something new. Called after each event."""
        self.wake_at = self._due_at(standing, now)
        if now < self.wake_at:
            return []
        self.wake_at = self._advertised_at + ADVERT_PERIOD_S
        said = advert()
        if said == self._latest and now < self.wake_at:
            return []
        self._said = (dict(standing[0]), *standing[1:])
        self._latest = said
        self._advertised_at = now
        self._quick.overdraw(1)
        self.wake_at = now + ADVERT_PERIOD_S
        return [said]

    def _due_at(self, standing: Standing, now: float) -> float:
        if standing == self._said:
            return self._advertised_at + max(self._least_gap_s, LOAD_GAP_S)
        due_at = self._advertised_at + max(self._least_gap_s, QUICK_GAP_S)
        if now < due_at:
            return due_at
        missing = 1 - self._quick.tokens(now)
        # A token that is there but for rounding is there.
        return due_at if missing < ROUNDING else now + missing * ADVERT_GAP_S


def least_gap_s(members: int) -> float:
    """Return the least gap in seconds between two adverts of a node that this many others hear."""
    return min(ADVERT_PERIOD_S, MEMBER_GAP_S * members)
