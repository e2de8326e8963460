"""Who is in the cluster: there, suspect, in doubt or gone, told from what nodes say of themselves and of one another.

A member is learned of from anybody, but only what it says itself, on the bus, is proof of its life. Without that for a
while it is suspect, then in doubt, and then gone; a connection that breaks and can't be made again tells so at once. One that was
thought gone and says something new is back, as a new member; what others still tell of it counts for nothing. Of those
with one name the one with the greatest incarnation counts, so that all see the same one, in whatever order they learn
of them. Adverts carry a number made of the members that their node knows: where that differs from ours for long, we ask.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import assert_never
from zlib import crc32

from msgspec import Struct

from handoff_actors.wire.messages.members import Advert

#: So long after its last word a member is suspect: it is spared new work.
SUSPECT_S = 3.0
#: So long after its last word it is in doubt.
GONE_S = 10.0
#: Perhaps it is we who stood still, and its words lie unread: within this time they are read.
DOUBT_S = 0.5
#: Views are compared no more often than this.
COMPARE_S = 2.0
#: Seeds that are not members are tried again so often.
SEED_RETRY_S = 5.0
#: A member that fell silent may come back; after so long nobody listens for it any more.
FORGET_S = 300.0
#: Nodes known at once, those that have gone included. Each costs some 20 KB, and a connection to its bus.
MAX_MEMBERS = 10_000
#: That there are more is told no more often than this.
FULL_REPORT_S = 60.0

# --- Events -----------------------------------------------------------------------------------------------------


class AdvertReceived(Struct, frozen=True):
    """A node has said this of itself."""

    advert: Advert


class MembersReported(Struct, frozen=True):
    """Somebody has said this of others."""

    adverts: Sequence[Advert]
    #: Names of those that it has not heard of for a while.
    suspects: Sequence[str] = ()


class MemberUnreachable(Struct, frozen=True):
    """A member's connection has broken and can't be made again."""

    name: str
    incarnation: str
    reason: str


class SetSeeds(Struct, frozen=True):
    """Addresses at which the cluster can be found."""

    addresses: Sequence[str]


MembershipEvent = AdvertReceived | MembersReported | MemberUnreachable | SetSeeds

# --- Effects ----------------------------------------------------------------------------------------------------


class MemberUp(Struct, frozen=True):
    """A member is there."""

    advert: Advert


class MemberChanged(Struct, frozen=True):
    """A member says something new of itself."""

    advert: Advert


class MemberSuspected(Struct, frozen=True):
    """Nothing has been heard of a member for a while; or, with False, it has spoken again."""

    name: str
    is_suspect: bool


class MemberDown(Struct, frozen=True):
    """A member is gone."""

    name: str
    incarnation: str
    reason: str


class Subscribe(Struct, frozen=True):
    """Listen for adverts at this address from now on."""

    bus: str


class Unsubscribe(Struct, frozen=True):
    """Listen there no more."""

    bus: str


class Introduce(Struct, frozen=True):
    """Ask the node at this address whom it knows, and say who we are."""

    address: str


class MembershipFull(Struct, frozen=True):
    """There are so many members that another one is not taken in."""

    name: str


MembershipEffect = (
    MembershipFull
    | MemberUp
    | MemberChanged
    | MemberSuspected
    | MemberDown
    | Subscribe
    | Unsubscribe
    | Introduce
)


class _Member(Struct):
    advert: Advert
    #: Under which it came.
    name: str
    #: When silence changes what is thought of it.
    due: float
    #: When the machine looks after it, which is no later.
    timer_at: float = float("inf")
    is_suspect: bool = False
    is_in_doubt: bool = False
    is_gone: bool = False


class MembershipMachine:
    """One place's view of the cluster. See `core.machine.Machine`.

    The node in this place, if there is one, is not among its own members. That another bears its name, and counts
    instead of it, shows as that other's `MemberUp`.
    """

    def __init__(self, own_incarnation: str | None = None, own_name: str | None = None) -> None:
        self._own = own_incarnation
        self._own_name = own_name
        #: By incarnation.
        self._members: dict[str, _Member] = {}
        #: The same by the name under which they came, and then by incarnation.
        self._by_name: dict[str, dict[str, _Member]] = {}
        self._seeds: dict[str, float] = {}
        self._compare_at = 0.0
        self._full_reported_at = float("-inf")
        #: None: to be made anew. Every advert is compared with it, and the members hardly ever change.
        self._view: int | None = None
        #: (due, incarnation), soonest first: to look at all members at each word of any is too much for a thousand.
        #: A member whose time has moved on since is put back when its turn comes.
        self._timers: list[tuple[float, str]] = []

    def alive(self) -> list[Advert]:
        """The latest advert of each member, by name."""
        return sorted(self._present(), key=lambda advert: advert.name)

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self._present())

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""
        silent = (member for member in self._members.values() if member.is_suspect and not member.is_gone)
        return sorted(member.advert.name for member in silent)

    def view(self) -> int:
        """A number made of all members, and of the node in this place as far as it counts."""
        if self._view is None:
            self._view = self._make_view()
        return self._view

    def _make_view(self) -> int:
        present = self._present()
        incarnations = [advert.incarnation for advert in present]
        if self._own is not None and all(advert.name != self._own_name for advert in present):
            incarnations.append(self._own)
        return crc32(" ".join(sorted(incarnations)).encode())

    def handle(self, event: MembershipEvent, now: float) -> list[MembershipEffect]:
        """Take one event."""
        match event:
            case AdvertReceived(advert):
                return self._advert_received(advert, now)
            case MembersReported(adverts, suspects):
                return [
                    effect for advert in adverts for effect in self._member_reported(advert, suspects, now)
                ]
            case MemberUnreachable(_, incarnation, reason):
                member = self._members.get(incarnation)
                return [] if member is None or member.is_gone else self._mark_gone(member, reason, now)
            case SetSeeds(addresses):
                for address in addresses:
                    self._seeds.setdefault(address, now + SEED_RETRY_S)
                return []
            case _:
                assert_never(event)

    def wake(self, now: float) -> list[MembershipEffect]:
        """Give up on who has been silent for too long, and look for seeds that are missing."""
        effects: list[MembershipEffect] = []
        for member in list(self._members.values()):
            # More than once, if we were held up.
            while now >= member.due:
                effects += self._silence_expired(member, now)
        present = {advert.address for advert in self._present()}
        for address, due in self._seeds.items():
            if now >= due:
                self._seeds[address] = now + SEED_RETRY_S
                effects += [] if address in present else [Introduce(address)]
        return effects

    @property
    def wake_at(self) -> float | None:
        """The next time that somebody has been silent for too long, or that a seed is due."""
        due = self._next_due()
        return min([*(() if due is None else (due,)), *self._seeds.values()], default=None)

    def check(self) -> None:
        """Assert that no two members that are there share a name, and that none is the node in this place."""
        names = [advert.name for advert in self._present()]
        assert len(names) == len(set(names)), f"two members of one name: {names}"
        assert self._own not in self._members, "the node in this place is among its own members"
        assert self.view() == self._make_view(), "members have changed, and the view has not"
        dues = [member.due for member in self._members.values()]
        assert self._next_due() == min(dues, default=None), (
            "the next timer is not that of the next member due"
        )

    def _present(self) -> list[Advert]:
        return [member.advert for member in self._members.values() if not member.is_gone]

    def _advert_received(self, advert: Advert, now: float) -> list[MembershipEffect]:
        member = self._members.get(advert.incarnation)
        if member is None:
            return self._admit(advert, now)
        # What it said before it went may come late.
        is_newer = advert.seq > member.advert.seq
        if member.is_gone:
            return self._admit(advert, now) if is_newer else []
        effects: list[MembershipEffect] = []
        if member.is_suspect:
            effects.append(MemberSuspected(advert.name, is_suspect=False))
        member.is_suspect, member.is_in_doubt = False, False
        self._set_due(member, now + SUSPECT_S)
        if not is_newer:
            return effects
        member.advert = advert
        effects.append(MemberChanged(advert))
        if now >= self._compare_at and advert.view != self.view():
            self._compare_at = now + COMPARE_S
            effects.append(Introduce(advert.address))
        return effects

    def _member_reported(self, advert: Advert, suspects: Sequence[str], now: float) -> list[MembershipEffect]:
        if advert.incarnation in self._members:
            return []
        effects = self._admit(advert, now)
        if effects and advert.name in suspects:
            effects += self._suspect(self._members[advert.incarnation], now)
        return effects

    def _admit(self, advert: Advert, now: float) -> list[MembershipEffect]:
        if advert.incarnation == self._own or self._is_outranked(advert):
            return []
        effects: list[MembershipEffect] = []
        for member in list(self._by_name.get(advert.name, {}).values()):
            if member.advert.incarnation < advert.incarnation:
                if not member.is_gone:
                    effects += self._mark_gone(member, "another node of that name has taken its place", now)
                effects += self._forget(member)
        if len(self._members) >= MAX_MEMBERS:
            gone = [member for member in self._members.values() if member.is_gone]
            if not gone:
                return [*effects, *self._reject(advert, now)]
            # Whoever went first.
            effects += self._forget(min(gone, key=lambda member: (member.due, member.advert.incarnation)))
        member = _Member(advert, advert.name, now)
        self._members[advert.incarnation] = member
        self._by_name.setdefault(advert.name, {})[advert.incarnation] = member
        self._set_due(member, now + SUSPECT_S)
        self._view = None
        # The members that both views lack a moment ago are no reason to ask.
        self._compare_at = now + COMPARE_S
        return [*effects, Subscribe(advert.bus), MemberUp(advert)]

    def _reject(self, advert: Advert, now: float) -> list[MembershipEffect]:
        if now < self._full_reported_at + FULL_REPORT_S:
            return []
        self._full_reported_at = now
        return [MembershipFull(advert.name)]

    def _is_outranked(self, advert: Advert) -> bool:
        namesakes = self._by_name.get(advert.name, {})
        rivals = [incarnation for incarnation, rival in namesakes.items() if not rival.is_gone]
        if self._own is not None and advert.name == self._own_name:
            rivals.append(self._own)
        return any(rival > advert.incarnation for rival in rivals)

    def _silence_expired(self, member: _Member, now: float) -> list[MembershipEffect]:
        if member.is_gone:
            return self._forget(member)
        if not member.is_suspect:
            return self._suspect(member, member.due)
        if member.is_in_doubt:
            return self._mark_gone(member, f"nothing was heard of it for {GONE_S:g} s", now)
        member.is_in_doubt = True
        self._set_due(member, now + DOUBT_S)
        return []

    def _suspect(self, member: _Member, since: float) -> list[MembershipEffect]:
        member.is_suspect = True
        self._set_due(member, since + GONE_S - SUSPECT_S)
        return [MemberSuspected(member.advert.name, is_suspect=True)]

    def _mark_gone(self, member: _Member, reason: str, now: float) -> list[MembershipEffect]:
        member.is_gone = True
        self._set_due(member, now + FORGET_S)
        self._view = None
        return [MemberDown(member.advert.name, member.advert.incarnation, reason)]

    def _set_due(self, member: _Member, due: float) -> None:
        member.due = due
        if due < member.timer_at:
            self._set_timer(member)

    def _set_timer(self, member: _Member) -> None:
        member.timer_at = member.due
        heappush(self._timers, (member.due, member.advert.incarnation))

    def _next_due(self) -> float | None:
        while self._timers:
            timer_at, incarnation = self._timers[0]
            member = self._members.get(incarnation)
            if member is not None and timer_at == member.timer_at == member.due:
                return timer_at
            heappop(self._timers)
            if member is not None and timer_at == member.timer_at:
                self._set_timer(member)
        return None

    def _forget(self, member: _Member) -> list[MembershipEffect]:
        del self._members[member.advert.incarnation]
        namesakes = self._by_name[member.name]
        del namesakes[member.advert.incarnation]
        if not namesakes:
            del self._by_name[member.name]
        member.due = float("inf")
        # Addresses are used again: another node may have taken over the port of one that has died.
        is_shared = any(other.advert.bus == member.advert.bus for other in self._members.values())
        return [] if is_shared else [Unsubscribe(member.advert.bus)]
