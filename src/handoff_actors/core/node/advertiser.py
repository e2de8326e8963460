"""When a node says how it stands: soon when that changes, but not too often, and from time to time anyway.

All members hear all adverts. So the more members there are, the longer a node waits between two.
"""

from collections.abc import Callable

from handoff_actors.core.node.events import Advertise
from handoff_actors.ids import Resources

#: Adverts go out on change, but no closer together than this, and at least once a period.
ADVERT_GAP_S = 0.05
ADVERT_PERIOD_S = 1.0
#: Nobody places by how much runs, waits or is stored: while claims stay as they are, that can wait for so long.
LOAD_GAP_S = 0.2
#: Seconds between two adverts for each member: nobody hears more than a thousand in a second, or one from each member.
MEMBER_GAP_S = 0.001

#: What others place by: what is claimed, out of what, and whether the node leaves.
Standing = tuple[Resources, Resources, bool]


class Advertiser:
    """The adverts of one node."""

    def __init__(self) -> None:
        self._latest: Advertise | None = None
        self._said: Standing | None = None
        self._advertised_at = float("-inf")
        self._gap_s = ADVERT_GAP_S
        self._least_gap_s = 0.0

    def count(self, members: int) -> None:
        """So many others hear what it says."""
        self._least_gap_s = least_gap_s(members)

    @property
    def wake_at(self) -> float:
        """When the next advert may or must go out."""
        return self._advertised_at + self._gap_s

    def speak(self, standing: Standing, advert: Callable[[], Advertise], now: float) -> list[Advertise]:
        """Say it after whatever has happened, if it is time and somebody has to be told; `advert` makes what is said."""
        self._gap_s = max(self._least_gap_s, LOAD_GAP_S if standing == self._said else ADVERT_GAP_S)
        if now < self._advertised_at + self._gap_s:
            return []
        self._gap_s = ADVERT_PERIOD_S
        said = advert()
        if said == self._latest and now < self._advertised_at + ADVERT_PERIOD_S:
            return []
        claimed, totals, leaves = standing
        self._said = dict(claimed), totals, leaves
        self._latest = said
        self._advertised_at = now
        return [said]


def least_gap_s(members: int) -> float:
    """Seconds between two adverts of one node among so many others."""
    return min(ADVERT_PERIOD_S, MEMBER_GAP_S * members)
