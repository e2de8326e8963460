"""Choose the members to follow: their adverts are to come over a link to their service, because their bus brings none.

A bus needs a second port, which firewalls and port mappings may not let through. So a member that is heard neither on its
bus nor over a link for two periods is followed. If that fails, too, the own adverts name it as unreachable; a node that reads its
own name there follows the one that says so, and its own adverts travel over that link. So two nodes hear each other where either
can connect to the other's service.

    heard on the bus --silent for FOLLOW_S--> followed --heard on the bus for UNFOLLOW_S, not asked to follow--> heard on the bus
                     --it can't reach us-->      |
                                                 +--link ended--> followed again, after a pause that grows
"""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.core.cluster.deadlines import Deadlines
from handoff_actors.core.cluster.membership_events import (
    BusUnreachable,
    FollowMember,
    MembershipEffect,
    UnfollowMember,
    UnreachableFor,
)
from handoff_actors.wire.messages.members import MOST_UNREACHABLE, Advert

#: A member that was heard neither on its bus nor over a link for this long, somewhat more than two periods, is followed.
FOLLOW_S = 2.2
#: A followed member that has been heard on its bus for this long, without a gap, is followed no more.
UNFOLLOW_S = 5.0
#: A bus is reported as unreachable if it has been silent for this long while adverts came over a link, and the own service if a
#: member has said so for this long.
REPORT_S = 3.0
#: The pauses between two attempts to follow a member.
RETRY_S = 1.0
MAX_RETRY_S = 10.0
#: A place that is woken so much too late has stood still itself: it reads the waiting adverts first, for this long.
LATE_S = 0.5
#: Limit of all names that an advert lists as unreachable, in bytes.
MAX_UNREACHABLE_BYTES = 1000


class _Reach(Struct):
    """The ways in which one member is heard."""

    address: str
    name: str
    #: The last time at which it was heard on its bus, or the time at which it came.
    bus_at: float
    #: The time since which it has been heard there without a gap.
    bus_since: float
    link_at: float = float("-inf")
    #: The time since which it has been heard over links alone; None: it has not.
    link_since: float | None = None
    is_followed: bool = False
    is_link_up: bool = False
    #: The last attempt to follow it has failed, and its bus is silent.
    has_failed: bool = False
    retry_at: float = float("-inf")
    pause_s: float = RETRY_S
    #: The time since which it says that it can't reach the node in this place; None: it does not.
    asked_since: float | None = None
    is_bus_reported: bool = False
    is_need_reported: bool = False


class Following:
    """The ways in which each present member is heard, by incarnation."""

    def __init__(self, own_name: str | None) -> None:
        """`own_name` is that of the node in this place, if there is one."""
        self._own_name = own_name
        self._reaches: dict[str, _Reach] = {}
        #: When to follow each one that is not followed, if nothing is heard of it.
        self._due = Deadlines()

    def added(self, advert: Advert, now: float) -> None:
        """Take note of a new member."""
        self._reaches[advert.incarnation] = _Reach(advert.address, advert.name, now, now)
        self._due.set(advert.incarnation, now + FOLLOW_S)

    def removed(self, incarnation: str) -> list[MembershipEffect]:
        """Take note that a member is gone."""
        self._due.drop(incarnation)
        return [UnfollowMember(incarnation)] if self._reaches.pop(incarnation).is_followed else []

    def heard_on_bus(self, advert: Advert, now: float) -> list[MembershipEffect]:
        """Take note of an advert on a member's bus."""
        reach = self._reaches[advert.incarnation]
        if now > reach.bus_at + FOLLOW_S:
            reach.bus_since = now
        reach.bus_at = now
        reach.link_since, reach.has_failed, reach.pause_s = None, False, RETRY_S
        effects = self.asked(advert, now)
        if not reach.is_followed:
            self._await_silence(advert.incarnation, reach)
        elif now >= reach.bus_since + UNFOLLOW_S and reach.asked_since is None:
            reach.is_followed = reach.is_link_up = False
            self._await_silence(advert.incarnation, reach)
            effects.append(UnfollowMember(advert.incarnation))
        return effects

    def heard_over_link(self, advert: Advert, now: float) -> list[MembershipEffect]:
        """Take note of an advert over a link, in whichever direction that was opened."""
        reach = self._reaches[advert.incarnation]
        reach.link_at = now
        effects = self.asked(advert, now)
        if not reach.is_followed:
            self._await_silence(advert.incarnation, reach)
        if now <= reach.bus_at + FOLLOW_S:
            return effects
        if reach.link_since is None:
            reach.link_since = now
        if now >= reach.link_since + REPORT_S and not reach.is_bus_reported:
            reach.is_bus_reported = True
            effects.append(BusUnreachable(advert))
        return effects

    def asked(self, advert: Advert, now: float) -> list[MembershipEffect]:
        """Follow a member that can't reach the node in this place, as its advert says."""
        reach = self._reaches[advert.incarnation]
        reach.address = advert.address
        if self._own_name is None or self._own_name not in advert.unreachable:
            reach.asked_since = None
            return []
        if reach.asked_since is None:
            reach.asked_since = now
        effects: list[MembershipEffect] = []
        # A place that stood still reads what was true then.
        if now >= reach.asked_since + REPORT_S and not reach.is_need_reported:
            reach.is_need_reported = True
            effects.append(UnreachableFor(advert))
        if not reach.is_followed and now >= reach.retry_at:
            effects.append(self._follow(advert.incarnation, reach))
        return effects

    def begun(self, incarnation: str) -> None:
        """Take note that the link to a member is up, if it is still followed."""
        reach = self._reaches[incarnation]
        if reach.is_followed:
            reach.is_link_up = True
            reach.has_failed, reach.pause_s = False, RETRY_S

    def ended(self, incarnation: str, now: float) -> None:
        """Take note that the link to a followed member has ended, or could not be made."""
        reach = self._reaches.get(incarnation)
        if reach is None or not reach.is_followed:
            return
        if not reach.is_link_up and now >= reach.bus_at + FOLLOW_S:
            reach.has_failed = True
        reach.is_followed = reach.is_link_up = False
        reach.retry_at = now + reach.pause_s
        reach.pause_s = min(MAX_RETRY_S, 2 * reach.pause_s)
        self._await_silence(incarnation, reach)

    def wake(self, now: float) -> list[MembershipEffect]:
        """Follow the members that have been silent for too long."""
        effects: list[MembershipEffect] = []
        while (incarnation := self._due.first_due(now)) is not None:
            if now > self._due[incarnation] + LATE_S:
                self._due.set(incarnation, now + LATE_S)
            else:
                effects.append(self._follow(incarnation, self._reaches[incarnation]))
        return effects

    @property
    def wake_at(self) -> float | None:
        """The next time at which a member has been silent for too long."""
        return self._due.next()

    def unreachable(self) -> list[str]:
        """The names for `Advert.unreachable`: as many as fit."""
        names = sorted(reach.name for reach in self._reaches.values() if reach.has_failed)
        return _as_many_as_fit(names)

    def check(self, present: Sequence[str]) -> None:
        """Assert every invariant."""
        self._due.check()
        assert sorted(self._reaches) == sorted(present)
        for incarnation, reach in self._reaches.items():
            assert reach.is_followed == (incarnation not in self._due), "followed, or about to be"
            assert reach.is_followed or not reach.is_link_up

    def _await_silence(self, incarnation: str, reach: _Reach) -> None:
        heard_at = max(reach.bus_at, reach.link_at)
        self._due.set(incarnation, max(heard_at + FOLLOW_S, reach.retry_at))

    def _follow(self, incarnation: str, reach: _Reach) -> MembershipEffect:
        self._due.drop(incarnation)
        reach.is_followed = True
        return FollowMember(incarnation, reach.address)


def _as_many_as_fit(names: Sequence[str]) -> list[str]:
    listed: list[str] = []
    nbytes = 0
    for name in names[:MOST_UNREACHABLE]:
        nbytes += len(name.encode())
        if nbytes > MAX_UNREACHABLE_BYTES:
            break
        listed.append(name)
    return listed
