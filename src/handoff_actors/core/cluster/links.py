"""The links from one session to the nodes that it uses: one to each, opened when the node appears, and again when it breaks.

    added --> CONNECTING --welcomed--> UP --lost--> CONNECTING, for a shorter time
                  |
                  +--lost or refused--> given up: its unreachability is reported, and the membership decides

A node answers with its own advert. An advert of another incarnation means that the node at this address has been
restarted: it is reported as a member, and the link waits until the membership has replaced the earlier incarnation. A node that
says that it leaves may have said more over its link, on which nothing overtakes anything: that is read to its end first. Runs
learn of a node while its link is up, and not before. Each attempt has a number of its own, so that events of a replaced
link are ignored.
"""

from collections.abc import Sequence
from itertools import count
from typing import assert_never

from msgspec import Struct

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.wire.messages.members import Advert

#: Leases are renewed this often.
BEAT_S = 2.0
#: A new link must be connected within CONNECT_S, one that replaces a broken link within RECONNECT_S.
CONNECT_S = 5.0
RECONNECT_S = 1.0
#: The link of a node that has left ends by itself within moments; after this time it is closed.
LEFT_S = 2.0
#: Two adverts of one end differ by no more than this.
SAME_END_S = 1.0

# --- Events -----------------------------------------------------------------------------------------------------


class NodeAdded(Struct, frozen=True):
    """A node has joined, with this address."""

    advert: Advert
    address: str


class NodeChanged(Struct, frozen=True):
    """A node has published a new advert."""

    advert: Advert


class NodeSuspected(Struct, frozen=True):
    """A node has been silent for a while; with False: it has been heard again."""

    name: str
    is_suspect: bool


class NodeRemoved(Struct, frozen=True):
    """A node has left, or is considered dead."""

    name: str
    reason: str


class NodeEndAnnounced(Struct, frozen=True):
    """A node has announced that it leaves for good."""

    name: str
    reason: str


class LinkWelcomed(Struct, frozen=True):
    """The node at the other end has answered with its own advert."""

    link: int
    advert: Advert


class LinkLost(Struct, frozen=True):
    """A link has broken, was not welcomed in time, or was refused."""

    link: int
    reason: str


LinkEvent = NodeAdded | NodeChanged | NodeSuspected | NodeRemoved | NodeEndAnnounced | LinkWelcomed | LinkLost

# --- Effects ----------------------------------------------------------------------------------------------------


class OpenLink(Struct, frozen=True):
    """Connect within `within_s` seconds, and send Hello. Answered by `LinkWelcomed`, or by `LinkLost`, in a few seconds."""

    link: int
    name: str
    address: str
    within_s: float


class CloseLink(Struct, frozen=True):
    """Close a link. Messages that still arrive over it are ignored."""

    link: int


class RenewLeases(Struct, frozen=True):
    """Send a `Beat` over each of these links."""

    links: Sequence[int]
    #: Those of them to nodes without workers, which are there to start others, and are told what waits.
    to_starters: Sequence[int] = ()


class ReportUnreachable(Struct, frozen=True):
    """Tell the membership that a node can't be reached."""

    name: str
    incarnation: str
    reason: str


class ReportMember(Struct, frozen=True):
    """Tell the membership of a node that has answered at the address of another."""

    advert: Advert


LinkEffect = OpenLink | CloseLink | RenewLeases | NodeUp | NodeDown | ReportUnreachable | ReportMember


class _Node(Struct):
    advert: Advert
    address: str
    #: The number of the node's latest link.
    link: int
    #: True while its link is up, and runs know of it.
    is_up: bool = False
    is_suspect: bool = False
    #: The reason and the time at which the link is closed, where the node has left; None: it has not.
    left: tuple[str, float] | None = None
    #: The latest figures that runs were told: the same object for all runs, which count it once.
    latest: NodeUp | None = None
    #: The time at which it begins to drain by itself; None: no end is known.
    ends_at: float | None = None

    def is_newer(self, advert: Advert) -> bool:
        """True if the advert is a later one of the same incarnation."""
        return advert.incarnation == self.advert.incarnation and advert.seq > self.advert.seq

    def up(self) -> NodeUp:
        if self.latest is None:
            advert = self.advert
            self.latest = NodeUp(
                advert.name,
                advert.address,
                advert.capabilities,
                advert.spare,
                advert.workers,
                advert.leaving,
                self.is_suspect,
                advert.python,
                advert.busy,
                advert.waiting_claims,
                advert.most_workers,
                advert.out_of_use,
                can_start=advert.can_start,
                can_start_for_s=advert.can_start_for_s,
                ends_at=self.ends_at,
                warm=tuple(advert.warm),
            )
        return self.latest

    def set_advert(self, advert: Advert, now: float) -> None:
        self.advert, self.latest = advert, None
        ends_at = None if advert.ends_in_s is None else now + advert.ends_in_s
        # Each advert is on its way for another time, which is no news.
        if ends_at is None or self.ends_at is None or abs(ends_at - self.ends_at) > SAME_END_S:
            self.ends_at = ends_at

    def set_suspect(self, *, is_suspect: bool) -> None:
        self.is_suspect, self.latest = is_suspect, None


class LinksMachine:
    """The links of one session. See `core.machine.Machine`."""

    def __init__(self, beat_s: float = BEAT_S) -> None:
        self._beat_s = beat_s
        self._nodes: dict[str, _Node] = {}
        #: The name at the other end of each link.
        self._names: dict[int, str] = {}
        self._numbers = count(1)
        #: None while there are no links.
        self._beat_at: float | None = None

    # --- Machine ------------------------------------------------------------------------------------------------

    def handle(self, event: LinkEvent, now: float) -> list[LinkEffect]:
        """Handle one event."""
        effects = self._dispatch(event, now)
        if not self._names:
            self._beat_at = None
        elif self._beat_at is None:
            self._beat_at = now + self._beat_s
        return effects

    def wake(self, now: float) -> list[LinkEffect]:
        """Renew every lease, and close the links of nodes that have left."""
        effects: list[LinkEffect] = []
        for name, node in list(self._nodes.items()):
            if node.left is not None and now >= node.left[1]:
                effects += self._removed(name, node.left[0])
        if not self._names:
            self._beat_at = None
        if self._beat_at is not None and now >= self._beat_at:
            self._beat_at = now + self._beat_s
            starters = tuple(node.link for node in self._nodes.values() if not node.advert.workers)
            effects.append(RenewLeases(tuple(self._names), starters))
        return effects

    @property
    def wake_at(self) -> float | None:
        """The time of the next beat, or that at which the link of a node that has left is closed."""
        closed_at = (node.left[1] for node in self._nodes.values() if node.left is not None)
        return min((*(() if self._beat_at is None else (self._beat_at,)), *closed_at), default=None)

    def check(self) -> None:
        """Assert every invariant."""
        links = {node.link: name for name, node in self._nodes.items()}
        assert links == self._names, "every node has one link, and every link belongs to a node"
        assert (self._beat_at is None) == (not self._names), "leases are renewed while there are links"
        for name, node in self._nodes.items():
            assert node.advert.name == name

    # --- Queries ------------------------------------------------------------------------------------------------

    def link_to(self, name: str) -> int | None:
        """The number of the link to a node; None while no link is up.

        What a run still says to a node whose link has just broken is not for the next link, of which it has yet to hear.
        """
        node = self._nodes.get(name)
        return node.link if node is not None and node.is_up else None

    def advert_of(self, name: str) -> Advert | None:
        """The latest advert of a node; None for an unknown node."""
        node = self._nodes.get(name)
        return None if node is None else node.advert

    def ups(self) -> list[NodeUp]:
        """Every node whose link is up, by name."""
        return [self._nodes[name].up() for name in sorted(self._nodes) if self._nodes[name].is_up]

    def adverts(self) -> list[Advert]:
        """The latest adverts of the nodes whose links are up, by name."""
        return [self._nodes[name].advert for name in sorted(self._nodes) if self._nodes[name].is_up]

    @property
    def is_settled(self) -> bool:
        """True if every node's link is up, except for suspect nodes."""
        return all(node.is_up or node.is_suspect for node in self._nodes.values())

    @property
    def is_connecting(self) -> bool:
        """True if no link is up yet, and some are being opened."""
        return bool(self._nodes) and not any(node.is_up for node in self._nodes.values())

    # --- Events -------------------------------------------------------------------------------------------------

    def _dispatch(self, event: LinkEvent, now: float) -> list[LinkEffect]:
        match event:
            case NodeAdded(advert, address):
                return self._added(advert, address, now)
            case NodeChanged(advert):
                return self._changed(advert, now)
            case NodeSuspected(name, is_suspect):
                return self._suspected(name, is_suspect=is_suspect)
            case NodeRemoved(name, reason):
                return self._removed(name, reason)
            case NodeEndAnnounced(name, reason):
                return self._left(name, reason, now)
            case LinkWelcomed(link, advert):
                return self._welcomed(link, advert, now)
            case LinkLost(link, reason):
                return self._lost(link, reason)
            case _:
                assert_never(event)

    def _added(self, advert: Advert, address: str, now: float) -> list[LinkEffect]:
        known = self._nodes.get(advert.name)
        if known is not None and known.advert.incarnation == advert.incarnation:
            return self._changed(advert, now)
        effects = self._removed(advert.name, "another node has its name now")
        node = self._nodes[advert.name] = _Node(advert, address, 0)
        node.set_advert(advert, now)
        return [*effects, self._open(node, CONNECT_S)]

    def _changed(self, advert: Advert, now: float) -> list[LinkEffect]:
        node = self._nodes.get(advert.name)
        if node is None or not node.is_newer(advert):
            return []
        node.set_advert(advert, now)
        return [node.up()] if node.is_up else []

    def _suspected(self, name: str, *, is_suspect: bool) -> list[LinkEffect]:
        node = self._nodes.get(name)
        if node is None:
            return []
        node.set_suspect(is_suspect=is_suspect)
        return [node.up()] if node.is_up else []

    def _removed(self, name: str, reason: str) -> list[LinkEffect]:
        node = self._nodes.pop(name, None)
        if node is None:
            return []
        return [self._close(node), *([NodeDown(name, reason)] if node.is_up else [])]

    def _left(self, name: str, reason: str, now: float) -> list[LinkEffect]:
        node = self._nodes.get(name)
        if node is None or not node.is_up:
            return self._removed(name, reason)
        node.left = reason, now + LEFT_S
        return []

    def _welcomed(self, link: int, advert: Advert, now: float) -> list[LinkEffect]:
        node = self._nodes.get(self._names.get(link, ""))
        if node is None:
            return []
        if advert.incarnation != node.advert.incarnation:
            return [ReportMember(advert)]
        # The advert in a welcome is the node's own; one that others have passed on may be older.
        if node.is_newer(advert):
            node.set_advert(advert, now)
        node.is_up = True
        return [node.up()]

    def _lost(self, link: int, reason: str) -> list[LinkEffect]:
        node = self._nodes.get(self._names.get(link, ""))
        if node is None:
            return []
        name = node.advert.name
        if node.left is not None:
            return self._removed(name, node.left[0])
        effects: list[LinkEffect] = [self._close(node)]
        if node.is_up:
            # The node may be well, although all messages on the link are lost.
            node.is_up = False
            return [*effects, NodeDown(name, reason), self._open(node, RECONNECT_S)]
        del self._nodes[name]
        return [*effects, ReportUnreachable(name, node.advert.incarnation, reason)]

    def _open(self, node: _Node, within_s: float) -> OpenLink:
        node.link = next(self._numbers)
        self._names[node.link] = node.advert.name
        return OpenLink(node.link, node.advert.name, node.address, within_s)

    def _close(self, node: _Node) -> CloseLink:
        del self._names[node.link]
        return CloseLink(node.link)
