"""Membership: the members of the cluster, each present, suspect, in doubt or gone.

Any node may report a member, but only the member's own adverts, on the bus, prove that it is alive. Without adverts for
a while it is suspect, then in doubt, and then gone; if its connection breaks and can't be made again, it is gone at once.
A gone member that publishes a new advert is back, as a new member; reports of others don't bring it back. Of several nodes
with one name the one with the greatest incarnation counts, so that all places agree, in whatever order they learn of
them. Adverts carry a checksum of the members that their node knows: if it differs from ours for long, we ask that node.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import assert_never
from zlib import crc32

from msgspec import Struct

from handoff_actors.wire.messages.members import Advert

#: Time after its last advert until a member is suspect, and gets no new work.
SUSPECT_S = 3.0
#: Time after its last advert until a member is in doubt.
GONE_S = 10.0
#: Time in doubt until a member is gone. If this process itself was stalled, it reads the waiting adverts in this time.
DOUBT_S = 0.5
#: Shortest interval between two comparisons of views.
COMPARE_S = 2.0
#: Interval at which seeds that are not members are tried again.
SEED_RETRY_S = 5.0
#: Time for which a gone member is still listened for, since it may come back.
FORGET_S = 300.0
#: Limit of known nodes, including those that are gone. Each costs some 20 KB, and a connection to its bus.
MAX_MEMBERS = 10_000
#: Shortest interval between two reports that the limit has been reached.
FULL_REPORT_S = 60.0

# --- Events -----------------------------------------------------------------------------------------------------


class AdvertReceived(Struct, frozen=True):
    """A node has published this advert of itself."""

    advert: Advert


class MembersReported(Struct, frozen=True):
    """A node has reported these adverts of others."""

    adverts: Sequence[Advert]
    #: Names of the members that the reporting node suspects.
    suspects: Sequence[str] = ()


class MemberUnreachable(Struct, frozen=True):
    """A member's connection has broken and can't be made again."""

    name: str
    incarnation: str
    reason: str


class SetSeeds(Struct, frozen=True):
    """Set the addresses at which the cluster can be found."""

    addresses: Sequence[str]


MembershipEvent = AdvertReceived | MembersReported | MemberUnreachable | SetSeeds

# --- Effects ----------------------------------------------------------------------------------------------------


class MemberUp(Struct, frozen=True):
    """A member has joined, or is back."""

    advert: Advert


class MemberChanged(Struct, frozen=True):
    """A member has published a new advert."""

    advert: Advert


class MemberSuspected(Struct, frozen=True):
    """A member has been silent for a while; with False: it has been heard again."""

    name: str
    is_suspect: bool


class MemberDown(Struct, frozen=True):
    """A member is gone."""

    name: str
    incarnation: str
    reason: str


class Subscribe(Struct, frozen=True):
    """Listen for adverts on the bus at this address from now on."""

    bus: str


class Unsubscribe(Struct, frozen=True):
    """Stop listening on the bus at this address."""

    bus: str


class Introduce(Struct, frozen=True):
    """Introduce this place to the node at this address, and ask for the members that it knows."""

    address: str


class MembershipFull(Struct, frozen=True):
    """A new member has been rejected, since there are too many."""

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
    #: The name in its first advert.
    name: str
    #: Time at which its state changes if it stays silent.
    due: float
    #: Time of its earliest timer, no later than `due`.
    timer_at: float = float("inf")
    is_suspect: bool = False
    is_in_doubt: bool = False
    is_gone: bool = False


class MembershipMachine:
    """The view of the cluster from one place, a process. See `core.machine.Machine`.

    The node in this place, if there is one, is not among its own members. If another node has taken its name, a
    `MemberUp` of that node reports so.
    """

    def __init__(self, own_incarnation: str | None = None, own_name: str | None = None) -> None:
        self._own = own_incarnation
        self._own_name = own_name
        #: By incarnation.
        self._members: dict[str, _Member] = {}
        #: The same members by the name in their first advert, and then by incarnation.
        self._by_name: dict[str, dict[str, _Member]] = {}
        self._seeds: dict[str, float] = {}
        self._compare_at = 0.0
        self._full_reported_at = float("-inf")
        #: A cache, None when outdated: every advert is compared with it, and members hardly ever change.
        self._view: int | None = None
        #: (due, incarnation), soonest first: with a thousand members, a scan of all at each advert costs too much.
        #: A member whose time has moved on since is pushed again when its timer comes up.
        self._timers: list[tuple[float, str]] = []

    def alive(self) -> list[Advert]:
        """The latest advert of each member, by name."""
        return sorted(self._present(), key=lambda advert: advert.name)

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self._present())

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""
        silent = (member for member in self._members.values() if member.is_suspect and not member.is_gone)
        return sorted(member.advert.name for member in silent)

    def view(self) -> int:
        """Checksum of all members, and of the node in this place unless another has taken its name."""
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
        """Handle one event."""
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
        """Suspect or drop members that have been silent for too long, and try the seeds that are missing."""
        effects: list[MembershipEffect] = []
        for member in list(self._members.values()):
            # More than once if this process was stalled.
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
        """The next time at which a member has been silent for too long, or a seed is due."""
        due = self._next_due()
        return min([*(() if due is None else (due,)), *self._seeds.values()], default=None)

    def check(self) -> None:
        """Assert that no two present members share a name, and that none is the node in this place."""
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
        # Adverts from before it was gone may arrive late.
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
            # The member that has been gone for longest makes room.
            effects += self._forget(min(gone, key=lambda member: (member.due, member.advert.incarnation)))
        member = _Member(advert, advert.name, now)
        self._members[advert.incarnation] = member
        self._by_name.setdefault(advert.name, {})[advert.incarnation] = member
        self._set_due(member, now + SUSPECT_S)
        self._view = None
        # Views differ for a moment after each change, which is no reason to ask.
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
