"""Where peers come in at a node: one for each of its services."""

from typing import TYPE_CHECKING

from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import Service
from handoff_actors.wire.messages.directions import ToNode

if TYPE_CHECKING:
    from handoff_actors.actors.node.actor import NodeActor


class Door:
    """A node's handler at one of its services."""

    service: Service

    def __init__(self, node: "NodeActor", *, has_lease: bool) -> None:
        self._node = node
        self._has_lease = has_lease

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        """See ServiceHandler."""
        self._node.hear(peer, messages, self.service, has_lease=self._has_lease)

    def malformed(self, peer: PeerId, reason: str) -> None:
        """See ServiceHandler."""
        self._node.protocol_errors.note("malformed message", reason, peer)

    def unreachable(self, peer: PeerId) -> None:
        """See ServiceHandler."""
        self._node.lost(peer, "a message to it could not be delivered")

    def refused(self, reason: str) -> None:
        """See ServiceHandler."""
        self._node.protocol_errors.note("stranger refused", reason)
