"""Decide which of two nodes has a name that both want.

A node that starts is refused if the holder of its name answers a probe. Otherwise it takes the name over: it is told the rank
of the earlier node, and gives itself a greater one, whatever its clock says. A node that hears of another one of its own
name with a greater rank ends if that one lives. Its own word proves that, as does an answer to a probe, or a rank that grows after a
probe has failed. A report of others does not: they may not know yet that it is dead. So of two nodes of one name that
were parted one ends when they meet, and a dead one harms nobody.
"""

from handoff_actors.core.cluster.membership_events import (
    MembershipEffect,
    NameLost,
    ProbeNode,
    RaiseRank,
)
from handoff_actors.wire.messages.members import Advert

#: Limit of rivals that are probed at once, and of those remembered as dead.
MAX_RIVALS = 16


def rank_of(advert: Advert) -> tuple[int, str]:
    """The order of nodes of one name: the greatest one has it."""
    return advert.rank, advert.incarnation


class OwnName:
    """The name of the node in this place, and the others that want it."""

    def __init__(self, name: str | None, incarnation: str | None, rank: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.rank = rank
        #: Rivals that are being probed, by incarnation.
        self._probed: dict[str, Advert] = {}
        #: The ranks of those that did not answer.
        self._dead: dict[str, int] = {}

    def is_name_of(self, advert: Advert) -> bool:
        """True if another node has the name."""
        return (
            self.incarnation is not None
            and advert.name == self.name
            and advert.incarnation != self.incarnation
        )

    def heard_of(self, rival: Advert, *, is_own_word: bool) -> list[MembershipEffect]:
        """Take note of another node of the name, by its own word or by a report of others."""
        if self.incarnation is None or rank_of(rival) < (self.rank, self.incarnation):
            # It will hear of this one.
            return []
        if is_own_word or rival.rank > self._dead.get(rival.incarnation, rival.rank):
            return [NameLost(rival)]
        if rival.incarnation in self._probed or len(self._probed) >= MAX_RIVALS:
            return []
        self._probed[rival.incarnation] = rival
        return [ProbeNode(rival.incarnation, rival.address)]

    def probe_ended(self, incarnation: str, *, is_alive: bool) -> list[MembershipEffect]:
        """Take the outcome of a probe. A rival that lives has said so itself, see `heard_of`."""
        rival = self._probed.pop(incarnation, None)
        if rival is None:
            return []
        if is_alive:
            return []
        if len(self._dead) >= MAX_RIVALS:
            del self._dead[next(iter(self._dead))]
        self._dead[incarnation] = rival.rank
        return self.outranked(rival.rank)

    def outranked(self, rank: int) -> list[MembershipEffect]:
        """Exceed the rank of an earlier node of the name."""
        if rank < self.rank:
            return []
        self.rank = rank + 1
        return [RaiseRank(self.rank)]


class Newcomers:
    """Nodes that start, and wait until the holders of their names have been probed."""

    def __init__(self) -> None:
        #: By the holder's incarnation.
        self._waiting: dict[str, list[Advert]] = {}

    def wait(self, newcomer: Advert, holder: Advert) -> list[MembershipEffect]:
        """ProbeNode the holder of a newcomer's name."""
        waiting = self._waiting.setdefault(holder.incarnation, [])
        waiting.append(newcomer)
        return [ProbeNode(holder.incarnation, holder.address)] if len(waiting) == 1 else []

    def probe_ended(self, holder: str) -> list[Advert]:
        """The newcomers that have waited for this probe."""
        return self._waiting.pop(holder, [])
