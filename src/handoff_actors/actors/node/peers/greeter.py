"""The node's side of the handshake: answers Hello by Welcome or Refused."""

from functools import partial
from typing import Protocol

from handoff_actors.actors.node.cluster_view import ClusterView
from handoff_actors.actors.node.protocol_errors import ProtocolErrors
from handoff_actors.core.node.validation import Introductions, check_message
from handoff_actors.errors import HandoffError
from handoff_actors.ids import NodeName, PeerId
from handoff_actors.transport.endpoint import Service
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.members import Advert, Hello, Refused, Welcome
from handoff_actors.wire.versions import check_versions


class GreetingNode(Protocol):
    """The node that greets its peers."""

    name: NodeName
    protocol_errors: ProtocolErrors

    def advert(self) -> Advert:
        """Make the next advert."""

    def service_of(self, peer: PeerId) -> Service | None:
        """The service by which a peer that has said Hello is reached; None for others."""

    def peer_came(self, peer: PeerId, name: str, service: Service, *, has_lease: bool) -> None:
        """Take note of a peer that has said Hello."""

    def lost(self, peer: PeerId, reason: str) -> None:
        """Handle the loss of a peer."""


class Greeter:
    """Greets the peers of one node."""

    def __init__(
        self, node: GreetingNode, cluster: ClusterView, introductions: Introductions, lease_s: float
    ) -> None:
        self._node = node
        self._cluster = cluster
        self._introductions = introductions
        self._lease_s = lease_s

    def greet(self, peer: PeerId, hello: Hello, service: Service, *, has_lease: bool) -> None:
        """Answer a peer, at once unless its node wants a name that another one may have. Raises RemoteProtocolError."""
        check_message(hello)
        node = self._node
        try:
            check_versions(hello.name, hello.protocol, hello.version, hello.python)
        except HandoffError as error:
            node.protocol_errors.note("member refused", str(error), hello.name)
            service.send(peer, Refused(f"node {node.name} refuses {hello.name}: {error}"))
            return
        # A peer that says Hello twice is still the same peer, with the same runs.
        if node.service_of(peer) is None:
            node.peer_came(peer, hello.name, service, has_lease=has_lease)
        if hello.advert is not None and self._introductions.is_first(peer, hello.advert):
            answer = partial(self._answer, peer, hello.name)
            self._cluster.node_introduced(hello.advert, answer, is_joining=hello.is_joining)
        else:
            self._answer(peer, hello.name, 0)

    def _answer(self, peer: PeerId, name: str, answer: Refused | int) -> None:
        """Refuse a peer, or welcome it and tell it the rank that its node is to exceed."""
        service = self._node.service_of(peer)
        if service is None:
            return
        if isinstance(answer, Refused):
            self._node.protocol_errors.note("member refused", answer.reason, name)
            service.send(peer, answer)
            self._node.lost(peer, answer.reason)
            return
        members = [self._node.advert(), *self._cluster.members()]
        suspects, left = self._cluster.suspects(), self._cluster.lately_left()
        service.send(peer, Welcome(PROTOCOL, members, self._lease_s, suspects, answer, left))
