"""The entrance of a node for its peers: one for each address at which it serves."""

from typing import Protocol

from handoff_actors.actors.node.protocol_errors import ProtocolErrors
from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import Network, Service
from handoff_actors.wire.messages.directions import ToNode


class PeerListener(Protocol):
    """The node behind a door."""

    @property
    def protocol_errors(self) -> ProtocolErrors:
        """Counts strangers, and messages that are not in the protocol."""

    def messages_received(
        self, peer: PeerId, messages: list[ToNode], service: Service, *, has_lease: bool
    ) -> None:
        """Take messages of one peer, which can be answered over `service`."""

    def malformed(self, peer: PeerId, reason: str, service: Service) -> None:
        """Take note that a peer has sent something that is not in the protocol."""

    def lost(self, peer: PeerId, reason: str) -> None:
        """Take note that nothing reaches a peer any more."""


class Door:
    """A node's handler at one of its services. See ServiceHandler."""

    def __init__(
        self, node: PeerListener, network: Network, address: str, most_waiting_nbytes: int, *, has_lease: bool
    ) -> None:
        """Open it. Raises OSError if the address can't be had."""
        self._node = node
        self._has_lease = has_lease
        self.service = network.serve(address, self, most_waiting_nbytes)

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        """See ServiceHandler."""
        self._node.messages_received(peer, messages, self.service, has_lease=self._has_lease)

    def malformed(self, peer: PeerId, reason: str) -> None:
        """See ServiceHandler."""
        self._node.malformed(peer, reason, self.service)

    def unreachable(self, peer: PeerId) -> None:
        """See ServiceHandler."""
        self._node.lost(peer, "a message to it could not be delivered")

    def refused(self, reason: str) -> None:
        """See ServiceHandler."""
        self._node.protocol_errors.note("stranger refused", reason)
