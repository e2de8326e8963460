"""Membership: the members of the cluster, each present, suspect, in doubt or gone.

Any node may report a member, but only the member's own adverts prove that it is alive: those on its bus, those that come over a
link (`following.py`), and the first one in an answer to an introduction. Without adverts for a while it is suspect, then in
doubt, and then gone. If its connection breaks and can't be made again, it is gone at once, and back when its service answers;
if it announces that it leaves, it is gone for good.

    reported, heard --> present --silent for SUSPECT_S--> suspect --GONE_S--> in doubt --DOUBT_S--> gone
                          |  ^                                                                       |
                          |  +--heard of itself, or its service has answered-------------------------+
                          +--Left--> gone for good

Gone members are tried for ever (`gone_members.py`), so that splits of any length heal. Of several nodes with one name the one with
the greatest rank counts, so that all places agree, in whatever order they learn of them; `names.py` says which nodes may
start under a name, and which end. Adverts carry a checksum of the members that their node knows: if it differs from ours for
long, we ask that node (`comparisons.py`).
"""

from collections.abc import Container, Sequence
from typing import assert_never
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from handoff_actors.core.cluster.comparisons import Comparisons
from handoff_actors.core.cluster.deadlines import Deadlines
from handoff_actors.core.cluster.following import Following
from handoff_actors.core.cluster.gone_members import RELAPSE_S, GoneMember, GoneMembers
from handoff_actors.core.cluster.membership_events import (
    AdmitNode,
    AdvertReceived,
    FollowBegun,
    FollowEnded,
    Introduce,
    MemberChanged,
    MemberDown,
    MemberLeft,
    MembershipEffect,
    MembershipEvent,
    MembershipFull,
    MembersReported,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
    NodeIntroduced,
    Outranked,
    ProbeEnded,
    RefuseNode,
    SetSeeds,
    Source,
    Subscribe,
    UnfollowMember,
    Unsubscribe,
)
from handoff_actors.core.cluster.names import Newcomers, OwnName, rank_of
from handoff_actors.wire.messages.members import Advert

#: Time after its last advert until a member is suspect, and gets no new work.
SUSPECT_S = 3.0
#: Time after its last advert until a member is in doubt.
GONE_S = 10.0
#: Time in doubt until a member is gone. If this process itself was stalled, it reads the waiting adverts in this time.
DOUBT_S = 0.5
#: Interval at which seeds that are not members are tried again.
SEED_RETRY_S = 5.0
#: Limit of present members. Each costs some 20 KB, and a connection to its bus.
MAX_MEMBERS = 10_000
#: Shortest interval between two reports that the limit has been reached.
FULL_REPORT_S = 60.0

REPLACED = "another node of that name has taken its place"
LEFT = "it has left"


class _Member(Struct):
    advert: Advert
    up_since: float
    is_suspect: bool = False
    is_in_doubt: bool = False
    #: With which pauses it was tried while it was gone before; None: it was not.
    earlier_pause_s: float | None = None


class MembershipMachine:
    """The view of the cluster from one place, a process. See `core.machine.Machine`.

    The node in this place, if there is one, is not among its own members, nor is any other node of its name.
    """

    def __init__(
        self, own_incarnation: str | None = None, own_name: str | None = None, own_rank: int = 0
    ) -> None:
        self._own = OwnName(own_name, own_incarnation, own_rank)
        #: Those that are present, by incarnation, and the incarnation of each name.
        self._members: dict[str, _Member] = {}
        self._incarnations: dict[str, str] = {}
        #: The time at which the state of each changes if it stays silent.
        self._silence = Deadlines()
        self._gone = GoneMembers()
        self._following = Following(None if own_incarnation is None else own_name)
        self._newcomers = Newcomers()
        self._comparisons = Comparisons()
        self._seeds: dict[str, float] = {}
        self._full_reported_at = float("-inf")
        #: How many members, present or gone, share each bus that is listened to.
        self._buses: dict[str, int] = {}
        #: A cache, None when outdated: every advert is compared with it, and members hardly ever change.
        self._view: int | None = None

    # --- Queries ------------------------------------------------------------------------------------------------

    def alive(self) -> list[Advert]:
        """The latest advert of each member, by name."""
        return sorted(self._present(), key=lambda advert: advert.name)

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self._members)

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""
        return sorted(member.advert.name for member in self._members.values() if member.is_suspect)

    def unknown_to(self, incarnations: Container[str | None]) -> list[Advert]:
        """The members that a place with these does not know, and should: it may not be able to connect to this one and ask."""
        return [
            member.advert
            for incarnation, member in self._members.items()
            if incarnation not in incarnations and not member.is_suspect
        ]

    def unreachable(self) -> list[str]:
        """Names of members that can be heard neither on their bus nor over a link that is opened from here."""
        return self._following.unreachable()

    def lately_left(self) -> list[str]:
        """The incarnations of nodes that have left lately."""
        return self._gone.lately_left()

    def view(self) -> int:
        """Checksum of all members, and of the node in this place."""
        if self._view is None:
            self._view = self._make_view()
        return self._view

    def _make_view(self) -> int:
        own = () if self._own.incarnation is None else (self._own.incarnation,)
        return crc32(" ".join(sorted((*self._members, *own))).encode())

    # --- Machine ------------------------------------------------------------------------------------------------

    def handle(self, event: MembershipEvent, now: float) -> list[MembershipEffect]:  # noqa: C901 - one table
        """Handle one event."""
        match event:
            case AdvertReceived(advert, source):
                return self._advert_received(advert, source, now)
            case MembersReported(adverts, suspects):
                return [
                    effect for advert in adverts for effect in self._member_reported(advert, suspects, now)
                ]
            case MemberLeft(name, incarnation):
                return self._left(name, incarnation, now)
            case MemberUnreachable(_, incarnation, reason):
                member = self._members.get(incarnation)
                return [] if member is None else self._mark_gone(member, reason, now, needs_answer=True)
            case SetSeeds(addresses):
                for address in addresses:
                    self._seeds.setdefault(address, now + SEED_RETRY_S)
                return []
            case FollowBegun(incarnation, advert):
                return self._follow_begun(incarnation, advert, now)
            case FollowEnded(incarnation):
                self._following.ended(incarnation, now)
                return []
            case NodeIntroduced(advert, is_joining):
                return self._introduced(advert, now, is_joining=is_joining)
            case ProbeEnded(incarnation, advert):
                return self._probe_ended(incarnation, advert, now)
            case Outranked(rank):
                return self._own.outranked(rank)
            case _:
                assert_never(event)

    def wake(self, now: float) -> list[MembershipEffect]:
        """Suspect or drop members that have been silent for too long, follow them, and try those that are away."""
        effects: list[MembershipEffect] = []
        # Several states at once if this process was stalled.
        while (incarnation := self._silence.first_due(now)) is not None:
            effects += self._silence_expired(self._members[incarnation], now)
        effects += self._following.wake(now)
        for bus in self._gone.unheard(now):
            effects += self._stop_listening(bus)
        missing = self._gone.tries(now)
        for address, due in self._seeds.items():
            if now >= due:
                self._seeds[address] = now + SEED_RETRY_S
                missing.append(address)
        if missing:
            present = {advert.address for advert in self._present()}
            effects += [Introduce(address) for address in dict.fromkeys(missing) if address not in present]
        return effects

    @property
    def wake_at(self) -> float | None:
        """The next time at which a member has been silent for too long, or one that is away is to be tried."""
        times = (self._silence.next(), self._following.wake_at, self._gone.wake_at, *self._seeds.values())
        return min((time for time in times if time is not None), default=None)

    def check(self) -> None:
        """Assert every invariant, such as that no two present members share a name."""
        names = sorted(advert.name for advert in self._present())
        assert names == sorted(self._incarnations), f"two members of one name: {names}"
        assert self._own.incarnation not in self._members, "the node in this place is among its own members"
        assert self._own.incarnation is None or self._own.name not in names, "the own name is another's"
        assert self.view() == self._make_view(), "members have changed, and the view has not"
        assert all(self._gone.get(incarnation) is None for incarnation in self._members)
        assert all(self._buses.get(advert.bus, 0) > 0 for advert in self._present()), "a bus is not heard"
        self._silence.check()
        self._following.check(list(self._members))
        self._gone.check()

    # --- What nodes say of themselves -----------------------------------------------------------------------------

    def _advert_received(self, advert: Advert, source: Source, now: float) -> list[MembershipEffect]:
        member = self._members.get(advert.incarnation)
        if member is None:
            return self._unknown_heard(advert, source, now)
        if advert.name != member.advert.name:
            return []
        effects: list[MembershipEffect] = []
        if member.is_suspect:
            effects.append(MemberSuspected(advert.name, is_suspect=False))
            member.is_suspect = member.is_in_doubt = False
        self._silence.set(advert.incarnation, now + SUSPECT_S)
        effects += self._heard(advert, source, now)
        if advert.seq <= member.advert.seq:
            return effects
        if advert.bus != member.advert.bus:
            effects += [*self._listen_to(advert.bus), *self._stop_listening(member.advert.bus)]
        member.advert = advert
        effects.append(MemberChanged(advert))
        if source in ("bus", "link") and self._comparisons.is_due(self.view(), advert.view, now):
            effects.append(Introduce(advert.address))
        return effects

    def _heard(self, advert: Advert, source: Source, now: float) -> list[MembershipEffect]:
        match source:
            case "bus":
                return self._following.heard_on_bus(advert, now)
            case "link":
                return self._following.heard_over_link(advert, now)
            case "answer" | "introduction":
                return self._following.asked(advert, now)
            case _:
                assert_never(source)

    def _unknown_heard(self, advert: Advert, source: Source, now: float) -> list[MembershipEffect]:
        gone = self._gone.get(advert.incarnation)
        if gone is not None and (advert.seq <= gone.advert.seq or (gone.needs_answer and source != "answer")):
            # Adverts from before it was gone may arrive late.
            return []
        effects = self._admit(advert, now, is_own_word=True)
        return effects + self._heard(advert, source, now) if advert.incarnation in self._members else effects

    def _left(self, name: str, incarnation: str, now: float) -> list[MembershipEffect]:
        if incarnation == self._own.incarnation or self._gone.has_left(incarnation):
            return []
        effects: list[MembershipEffect] = []
        member, gone = self._members.get(incarnation), self._gone.pop(incarnation)
        if member is not None:
            effects += self._remove(member, LEFT, has_left=True)
            effects += self._stop_listening(member.advert.bus)
        elif gone is not None:
            effects += self._forgotten(gone)
        latest = member or gone
        self._gone.add_left(name, incarnation, None if latest is None else latest.advert, now)
        return effects

    def _follow_begun(self, incarnation: str, advert: Advert, now: float) -> list[MembershipEffect]:
        if incarnation not in self._members:
            return [UnfollowMember(incarnation)]
        if advert.incarnation == incarnation:
            self._following.begun(incarnation)
            return self._advert_received(advert, "link", now)
        # Another node, perhaps the next life of this one, is at its address.
        self._following.ended(incarnation, now)
        return [UnfollowMember(incarnation), *self._advert_received(advert, "answer", now)]

    # --- What others report -------------------------------------------------------------------------------------

    def _member_reported(self, advert: Advert, suspects: Sequence[str], now: float) -> list[MembershipEffect]:
        if advert.incarnation in self._members:
            return []
        gone = self._gone.get(advert.incarnation)
        if gone is not None:
            if advert.seq > gone.advert.seq and not gone.needs_answer:
                self._gone.hasten(advert.incarnation, now)
            return []
        effects = self._admit(advert, now, is_own_word=False)
        if advert.incarnation in self._members and advert.name in suspects:
            effects += self._suspect(self._members[advert.incarnation], now)
        return effects

    # --- Names --------------------------------------------------------------------------------------------------

    def _introduced(self, advert: Advert, now: float, *, is_joining: bool) -> list[MembershipEffect]:
        if is_joining and self._own.is_name_of(advert):
            return [RefuseNode(advert, None)]
        holder = self._holder(advert)
        if is_joining and holder is not None:
            return self._newcomers.wait(advert, holder.advert)
        rank = self._gone.rank_of(advert.name)
        if not is_joining or advert.rank > rank:
            return [*self._advert_received(advert, "introduction", now), AdmitNode(advert, 0)]
        # Its clock was set back. It gives itself this rank when it is welcomed.
        outranking = replace(advert, rank=rank + 1)
        return [*self._advert_received(outranking, "introduction", now), AdmitNode(outranking, rank)]

    def _holder(self, advert: Advert) -> _Member | None:
        """The other member that has a node's name."""
        member = self._members.get(self._incarnations.get(advert.name, ""))
        return None if member is None or member.advert.incarnation == advert.incarnation else member

    def _probe_ended(self, incarnation: str, answer: Advert | None, now: float) -> list[MembershipEffect]:
        is_alive = answer is not None and answer.incarnation == incarnation
        effects = self._own.probe_ended(incarnation, is_alive=is_alive)
        # Its own word: a rival for the own name that lives is heard of by it.
        if answer is not None and answer.incarnation != self._own.incarnation:
            effects += self._advert_received(answer, "answer", now)
        newcomers = self._newcomers.probe_ended(incarnation)
        holder = self._members.get(incarnation)
        if newcomers and holder is not None and not is_alive:
            effects += self._mark_gone(holder, "another node takes its name, and it does not answer", now)
        for newcomer in newcomers:
            if is_alive and holder is not None:
                effects.append(RefuseNode(newcomer, holder.advert))
            else:
                effects += self._introduced(newcomer, now, is_joining=True)
        return effects

    # --- Changes of state ---------------------------------------------------------------------------------------

    def _present(self) -> list[Advert]:
        return [member.advert for member in self._members.values()]

    def _admit(self, advert: Advert, now: float, *, is_own_word: bool) -> list[MembershipEffect]:
        if advert.incarnation == self._own.incarnation or self._gone.has_left(advert.incarnation):
            return []
        if self._own.is_name_of(advert):
            return self._own.heard_of(advert, is_own_word=is_own_word)
        holder = self._holder(advert)
        if holder is not None and rank_of(holder.advert) > rank_of(advert):
            return []
        if holder is None and len(self._members) >= MAX_MEMBERS:
            return self._reject(advert, now)
        effects: list[MembershipEffect] = []
        if holder is not None:
            effects += [*self._remove(holder, REPLACED), *self._stop_listening(holder.advert.bus)]
        for lesser in self._gone.lesser_lives(advert):
            if lesser.advert.incarnation != advert.incarnation:
                self._gone.pop(lesser.advert.incarnation)
                effects += self._forgotten(lesser)
        return effects + self._add(advert, now)

    def _add(self, advert: Advert, now: float) -> list[MembershipEffect]:
        earlier = self._gone.pop(advert.incarnation)
        member = _Member(advert, now, earlier_pause_s=None if earlier is None else earlier.pause_s)
        self._members[advert.incarnation] = member
        self._incarnations[advert.name] = advert.incarnation
        self._silence.set(advert.incarnation, now + SUSPECT_S)
        self._following.added(advert, now)
        self._view = None
        self._comparisons.postpone(now)
        effects = self._listen_to(advert.bus)
        if earlier is not None:
            effects += self._forgotten(earlier)
        return [*effects, MemberUp(advert)]

    def _reject(self, advert: Advert, now: float) -> list[MembershipEffect]:
        if now < self._full_reported_at + FULL_REPORT_S:
            return []
        self._full_reported_at = now
        return [MembershipFull(advert.name)]

    def _silence_expired(self, member: _Member, now: float) -> list[MembershipEffect]:
        if not member.is_suspect:
            return self._suspect(member, self._silence[member.advert.incarnation])
        if member.is_in_doubt:
            return self._mark_gone(member, f"nothing was heard of it for {GONE_S:g} s", now)
        member.is_in_doubt = True
        self._silence.set(member.advert.incarnation, now + DOUBT_S)
        return []

    def _suspect(self, member: _Member, since: float) -> list[MembershipEffect]:
        member.is_suspect = True
        self._silence.set(member.advert.incarnation, since + GONE_S - SUSPECT_S)
        return [MemberSuspected(member.advert.name, is_suspect=True)]

    def _mark_gone(
        self, member: _Member, reason: str, now: float, *, needs_answer: bool = False
    ) -> list[MembershipEffect]:
        effects = self._remove(member, reason)
        # It still counts as a listener to its bus.
        has_relapsed = now < member.up_since + RELAPSE_S
        earlier_pause_s = member.earlier_pause_s if has_relapsed else None
        forgotten = self._gone.add(
            member.advert, now, needs_answer=needs_answer, earlier_pause_s=earlier_pause_s
        )
        return effects if forgotten is None else effects + self._forgotten(forgotten)

    def _remove(self, member: _Member, reason: str, *, has_left: bool = False) -> list[MembershipEffect]:
        """Take a member from the present ones."""
        advert = member.advert
        del self._members[advert.incarnation]
        del self._incarnations[advert.name]
        self._silence.drop(advert.incarnation)
        self._view = None
        return [
            *self._following.removed(advert.incarnation),
            MemberDown(advert.name, advert.incarnation, reason, has_left),
        ]

    def _forgotten(self, gone: GoneMember) -> list[MembershipEffect]:
        return self._stop_listening(gone.advert.bus) if gone.is_listened_to else []

    def _listen_to(self, bus: str) -> list[MembershipEffect]:
        self._buses[bus] = self._buses.get(bus, 0) + 1
        return [Subscribe(bus)]

    def _stop_listening(self, bus: str) -> list[MembershipEffect]:
        """One member less makes it necessary to listen to a bus."""
        # Addresses are used again: another node may have taken over the port of one that has died.
        self._buses[bus] -= 1
        if self._buses[bus] > 0:
            return []
        del self._buses[bus]
        return [Unsubscribe(bus)]
