"""Choose which of the members that are gone to try again, and when.

Nodes that fell silent, or whose connection broke, may be back at any time, for example when the network is. They are tried
for as long as this process lives, ever more rarely: any one that answers tells of the others. A node that has left in good
order does not come back, so late reports of it are ignored; but at its address its next life may appear, and is looked for
during the first minute. If it was the first node of the cluster, it comes back without knowing any other.
"""

from msgspec import Struct

from handoff_actors.core.cluster.deadlines import Deadlines
from handoff_actors.wire.messages.members import Advert

#: The first pauses between two tries of a member: one that fell silent, one whose service can't be reached, one that has left.
TRY_S = 5.0
TRY_UNREACHABLE_S = 1.0
TRY_LEFT_S = 0.5
#: The longest pause: MAX_TRY_S, or for each of many gone members so much.
MAX_TRY_S = 20.0
MAX_TRY_EACH_S = 0.2
#: The addresses of members that have left are tried for so long, with pauses that grow by this factor up to MAX_TRY_LEFT_S.
TRY_LEFT_FOR_S = 60.0
TRY_LEFT_FACTOR = 1.5
MAX_TRY_LEFT_S = 5.0
#: Members that others report as alive are tried at once, but one after the other.
HASTENED_GAP_S = 0.05
#: A member that is unreachable again so soon after it came back is tried with the pauses that it had before.
RELAPSE_S = 60.0
#: Time for which the bus of a gone member is still listened to, since it may have stood still for a moment.
LISTEN_S = 60.0
#: Time for which reports of a member that has left are ignored.
REMEMBER_LEFT_S = 300.0
#: Of the members that have left, so many are named in answers to introductions.
MOST_LATELY_LEFT = 100
#: Limit of gone members, and of those that have left. The longest gone are forgotten first.
MAX_GONE = 1_000


class GoneMember(Struct):
    """One member that is gone, and may come back."""

    advert: Advert
    gone_at: float
    pause_s: float
    #: True: its adverts prove nothing, since what counts is whether its service can be reached.
    needs_answer: bool = False
    is_listened_to: bool = True


class _Left(Struct):
    name: str
    rank: int
    #: "" if no advert of it was known.
    address: str
    left_at: float
    pause_s: float = TRY_LEFT_S


class GoneMembers:
    """All members that are gone, by incarnation, oldest first."""

    def __init__(self) -> None:
        self._gone: dict[str, GoneMember] = {}
        self._left: dict[str, _Left] = {}
        #: When to try each, or to forget one that has left.
        self._tries = Deadlines()
        self._listening = Deadlines()
        #: The last time to which a hastened try was moved.
        self._hastened_at = float("-inf")

    def get(self, incarnation: str) -> GoneMember | None:
        """A member that is gone, and may come back; None if there is none."""
        return self._gone.get(incarnation)

    def has_left(self, incarnation: str) -> bool:
        """True if this node has announced its end."""
        return incarnation in self._left

    def lately_left(self) -> list[str]:
        """The incarnations of the last nodes that have left."""
        return list(self._left)[-MOST_LATELY_LEFT:]

    def rank_of(self, name: str) -> int:
        """The greatest rank of nodes of a name that are gone or have left; 0 if there are none."""
        gone = (member.advert.rank for member in self._gone.values() if member.advert.name == name)
        left = (member.rank for member in self._left.values() if member.name == name)
        return max((*gone, *left), default=0)

    def add(
        self, advert: Advert, now: float, *, needs_answer: bool, earlier_pause_s: float | None
    ) -> GoneMember | None:
        """Add a member. Returns the one that is forgotten for it, if there are too many.

        With `earlier_pause_s` it has relapsed: it is tried no sooner than twice that pause.
        """
        first = TRY_UNREACHABLE_S if needs_answer else TRY_S
        pause_s = first if earlier_pause_s is None else min(MAX_TRY_S, 2 * earlier_pause_s)
        self._gone[advert.incarnation] = GoneMember(advert, now, pause_s, needs_answer)
        self._tries.set(advert.incarnation, now + pause_s)
        self._listening.set(advert.incarnation, now + LISTEN_S)
        return self.pop(next(iter(self._gone))) if len(self._gone) > MAX_GONE else None

    def pop(self, incarnation: str) -> GoneMember | None:
        """Forget a member that is back, or that another one has replaced. Returns it if it was there."""
        member = self._gone.pop(incarnation, None)
        if member is not None:
            self._tries.drop(incarnation)
            self._listening.drop(incarnation)
        return member

    def lesser_lives(self, advert: Advert) -> list[GoneMember]:
        """The gone members of a node's name that it outranks."""
        rank = (advert.rank, advert.incarnation)
        return [
            member
            for member in self._gone.values()
            if member.advert.name == advert.name and (member.advert.rank, member.advert.incarnation) < rank
        ]

    def add_left(self, name: str, incarnation: str, advert: Advert | None, now: float) -> None:
        """Add a node that has announced its end; `advert` is its latest, if one is known."""
        rank, address = (0, "") if advert is None else (advert.rank, advert.address)
        self._left[incarnation] = _Left(name, rank, address, now)
        self._tries.set(incarnation, now + TRY_LEFT_S)
        if len(self._left) > MAX_GONE:
            self._drop_left(next(iter(self._left)))

    def hasten(self, incarnation: str, now: float) -> None:
        """Try a member soon, since another one has heard of it."""
        at = max(now, self._hastened_at + HASTENED_GAP_S)
        member = self._gone[incarnation]
        # Those who report it may be wrong for long: no more often than it was tried first.
        tried_at = self._tries[incarnation] - member.pause_s
        if now >= tried_at + TRY_S and at < self._tries[incarnation]:
            self._hastened_at = at
            self._tries.set(incarnation, at)

    def tries(self, now: float) -> list[str]:
        """The addresses to try now."""
        addresses: list[str] = []
        while (incarnation := self._tries.first_due(now)) is not None:
            left = self._left.get(incarnation)
            addresses.append(
                self._try(incarnation, now) if left is None else self._try_left(incarnation, left, now)
            )
        return [address for address in dict.fromkeys(addresses) if address]

    def unheard(self, now: float) -> list[str]:
        """The buses that need not be listened to for the sake of gone members any more."""
        buses: list[str] = []
        while (incarnation := self._listening.first_due(now)) is not None:
            self._listening.drop(incarnation)
            member = self._gone[incarnation]
            member.is_listened_to = False
            buses.append(member.advert.bus)
        return buses

    @property
    def wake_at(self) -> float | None:
        """The next time at which a member is to be tried, or a bus to be left."""
        return min(
            (at for at in (self._tries.next(), self._listening.next()) if at is not None), default=None
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._tries.check()
        self._listening.check()
        assert not self._gone.keys() & self._left.keys(), "a member has left, and may come back"
        assert {key for key, _ in self._tries.items()} == self._gone.keys() | self._left.keys()

    def _try(self, incarnation: str, now: float) -> str:
        member = self._gone[incarnation]
        longest_s = max(MAX_TRY_S, MAX_TRY_EACH_S * len(self._gone))
        member.pause_s = min(longest_s, 2 * member.pause_s)
        self._tries.set(incarnation, now + member.pause_s)
        return member.advert.address

    def _try_left(self, incarnation: str, left: _Left, now: float) -> str:
        if now >= left.left_at + REMEMBER_LEFT_S:
            self._drop_left(incarnation)
            return ""
        left.pause_s = min(MAX_TRY_LEFT_S, TRY_LEFT_FACTOR * left.pause_s)
        is_over = now + left.pause_s > left.left_at + TRY_LEFT_FOR_S
        self._tries.set(incarnation, left.left_at + REMEMBER_LEFT_S if is_over else now + left.pause_s)
        return left.address

    def _drop_left(self, incarnation: str) -> None:
        del self._left[incarnation]
        self._tries.drop(incarnation)
