"""Who is in the cluster: alive, suspect or gone, told from what nodes say of themselves and of one another.

A member is learned of from anybody, but only what it says itself, on the bus, is proof of its life. Without that for a
while it is suspect, and after a while longer it is gone; a connection that breaks and can't be made again tells so at
once. One that was thought gone and speaks is back, as a new member. Of two with one name the later one counts, for good.
Adverts carry a number made of the members that their node knows: where that differs from ours for long, we ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never
from zlib import crc32

from handoff_actors.wire.messages import Advert

SUSPECT_S = 3.0
GONE_S = 10.0
#: Views are compared no more often than this.
COMPARE_S = 2.0
#: Seeds that are not members are tried again so often.
SEED_S = 5.0
#: A member that fell silent may come back; after so long nobody listens for it any more.
FORGET_S = 300.0

# --- Events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spoke:
    """A node has said this of itself."""

    advert: Advert


@dataclass(frozen=True, slots=True)
class ToldOf:
    """Somebody has said this of others."""

    adverts: Sequence[Advert]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A member's connection has broken and can't be made again."""

    name: str
    incarnation: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetSeeds:
    """Addresses at which the cluster can be found."""

    addresses: Sequence[str]


MembershipEvent = Spoke | ToldOf | Unreachable | SetSeeds

# --- Effects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberUp:
    """A member is there."""

    advert: Advert


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member says something new of itself."""

    advert: Advert


@dataclass(frozen=True, slots=True)
class MemberDown:
    """A member is gone."""

    name: str
    incarnation: str
    reason: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Listen for adverts at this address from now on."""

    bus: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Listen there no more."""

    bus: str


@dataclass(frozen=True, slots=True)
class Introduce:
    """Ask the node at this address whom it knows, and say who we are."""

    address: str


MembershipEffect = MemberUp | MemberChanged | MemberDown | Subscribe | Unsubscribe | Introduce


@dataclass(slots=True)
class _Member:
    advert: Advert
    heard_at: float
    is_gone: bool = False


class MembershipMachine:
    """One place's view of the cluster. See `core.machine.Machine`."""

    def __init__(self, own_incarnation: str | None = None) -> None:
        self._own = own_incarnation
        #: By incarnation.
        self._members: dict[str, _Member] = {}
        #: Incarnations whose name somebody else bears now.
        self._superseded: set[str] = set()
        self._seeds: dict[str, float] = {}
        self._compare_at = 0.0

    def alive(self) -> list[Advert]:
        """The latest advert of each member, by name."""
        adverts = (member.advert for member in self._members.values() if not member.is_gone)
        return sorted(adverts, key=lambda advert: advert.name)

    def view(self) -> int:
        """A number made of all members."""
        names = [f"{member.incarnation}" for member in self.alive()]
        if self._own is not None:
            names.append(self._own)
        return crc32(" ".join(sorted(names)).encode())

    def handle(self, event: MembershipEvent, now: float) -> list[MembershipEffect]:
        """Take one event."""
        match event:
            case Spoke(advert):
                return self._spoke(advert, now)
            case ToldOf(adverts):
                return [effect for advert in adverts for effect in self._told_of(advert, now)]
            case Unreachable(name, incarnation, reason):
                member = self._members.get(incarnation)
                if member is None or member.is_gone:
                    return []
                return self._drop(member, reason, now, listen=False) if member.advert.name == name else []
            case SetSeeds(addresses):
                for address in addresses:
                    self._seeds.setdefault(address, now + SEED_S)
                return []
            case _:
                assert_never(event)

    def wake(self, now: float) -> list[MembershipEffect]:
        """Give up on who has been silent for too long, and look for seeds that are missing."""
        effects: list[MembershipEffect] = []
        for incarnation, member in list(self._members.items()):
            if not member.is_gone and now >= member.heard_at + GONE_S:
                effects += self._drop(member, f"nothing was heard of it for {GONE_S:g} s", now, listen=True)
            elif member.is_gone and now >= member.heard_at + FORGET_S:
                del self._members[incarnation]
                effects.append(Unsubscribe(member.advert.bus))
        present = {member.advert.address for member in self._members.values() if not member.is_gone}
        for address, due in self._seeds.items():
            if now >= due:
                self._seeds[address] = now + SEED_S
                effects += [] if address in present else [Introduce(address)]
        return effects

    @property
    def wake_at(self) -> float | None:
        """The next time that somebody has been silent for too long, or that a seed is due."""
        times = [
            member.heard_at + (FORGET_S if member.is_gone else GONE_S) for member in self._members.values()
        ]
        return min([*times, *self._seeds.values()], default=None)

    def check(self) -> None:
        """Assert that no two members that are there share a name."""
        names = [advert.name for advert in self.alive()]
        assert len(names) == len(set(names)), f"two members of one name: {names}"

    def is_suspect(self, name: str, now: float) -> bool:
        """Whether a member has been silent for a while."""
        return any(
            member.advert.name == name and not member.is_gone and now >= member.heard_at + SUSPECT_S
            for member in self._members.values()
        )

    def _spoke(self, advert: Advert, now: float) -> list[MembershipEffect]:
        member = self._members.get(advert.incarnation)
        if member is None:
            return self._welcome(advert, now)
        member.heard_at = now
        if member.is_gone:
            del self._members[advert.incarnation]
            return self._welcome(advert, now)
        if advert.seq <= member.advert.seq:
            return []
        changed = advert != member.advert
        member.advert = advert
        effects: list[MembershipEffect] = [MemberChanged(advert)] if changed else []
        if advert.view != self.view() and now >= self._compare_at:
            self._compare_at = now + COMPARE_S
            effects.append(Introduce(advert.address))
        return effects

    def _told_of(self, advert: Advert, now: float) -> list[MembershipEffect]:
        return [] if advert.incarnation in self._members else self._welcome(advert, now)

    def _welcome(self, advert: Advert, now: float) -> list[MembershipEffect]:
        if advert.incarnation == self._own or advert.incarnation in self._superseded:
            return []
        effects: list[MembershipEffect] = []
        for member in list(self._members.values()):
            if member.advert.name == advert.name:
                self._superseded.add(member.advert.incarnation)
                if not member.is_gone:
                    effects += self._drop(
                        member, "another node of that name has taken its place", now, listen=False
                    )
                self._members.pop(member.advert.incarnation, None)
        self._members[advert.incarnation] = _Member(advert, now)
        # The members that both views lack a moment ago are no reason to ask.
        self._compare_at = now + COMPARE_S
        return [*effects, Subscribe(advert.bus), MemberUp(advert)]

    def _drop(self, member: _Member, reason: str, now: float, *, listen: bool) -> list[MembershipEffect]:
        advert = member.advert
        effects: list[MembershipEffect] = [MemberDown(advert.name, advert.incarnation, reason)]
        member.is_gone, member.heard_at = True, now
        if not listen:
            del self._members[advert.incarnation]
            effects.append(Unsubscribe(advert.bus))
        return effects
