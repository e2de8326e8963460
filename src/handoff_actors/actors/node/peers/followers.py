"""The peers that follow a node: they are told what is on its bus, over their links, and say what their own nodes do."""

from collections.abc import Callable
from typing import Protocol

from handoff_actors.core.cluster.membership_events import Source
from handoff_actors.core.node.validation import Introductions, check_advert, check_left
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.directions import OnBus
from handoff_actors.wire.messages.members import Advert, Follow, Joined, Left, Published


class MembersListener(Protocol):
    """The view of the cluster that takes what followers say."""

    def advert_received(self, advert: Advert, source: Source) -> None:
        """Take the advert of a node that has come over a link."""

    def members_reported(self, adverts: list[Advert]) -> None:
        """Take the adverts of members that a node has reported."""

    def member_left(self, name: str, incarnation: str) -> None:
        """Take note that a node has announced its end."""


class Followers:
    """The followers of one node."""

    def __init__(
        self,
        introductions: Introductions,
        cluster: MembersListener,
        send: Callable[[PeerId, OnBus], None],
    ) -> None:
        self._introductions = introductions
        self._cluster = cluster
        self._send = send
        self._peers: dict[PeerId, None] = {}

    def forget(self, peer: PeerId) -> None:
        """Tell this peer no more."""
        self._peers.pop(peer, None)

    def tell(self, message: OnBus) -> None:
        """Tell all followers what is on the bus."""
        for peer in list(self._peers):
            self._send(peer, message)

    def heard(self, peer: PeerId, message: Follow | OnBus) -> None:
        """Take a peer that follows from now on, or what it says of its own node, or of members that this one may not know.

        Raises RemoteProtocolError.
        """
        match message:
            case Follow():
                self._peers[peer] = None
            case Published(advert):
                check_advert(advert)
                self._introductions.check(peer, advert.incarnation)
                self._cluster.advert_received(advert, "link")
            case Joined(advert):
                check_advert(advert)
                if not self._introductions.is_known(peer):
                    raise RemoteProtocolError("a peer that has introduced no node reports a member")
                self._cluster.members_reported([advert])
            case Left(name, incarnation):
                check_left(message)
                self._introductions.check(peer, incarnation)
                self._cluster.member_left(name, incarnation)
