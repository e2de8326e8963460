"""The interfaces with which an actor sends and receives, independent of the transport.

All methods are called from within a running asyncio loop, and every callback comes from that loop, never from within
the call that caused it. Messages of one sender to one receiver arrive in the order they were sent, each at most
once.
"""

from collections.abc import Callable
from typing import Final, Protocol

from handoff_actors.errors import ConnectionFailed
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode

#: Seconds within which a link has to be connected.
CONNECT_TIMEOUT_S: Final = 5.0
#: The default for the bytes that may wait for one peer of a service before it is cut off.
MOST_WAITING_NBYTES: Final = 256 * 2**20


class UnknownHostError(ConnectionFailed):
    """The host of an address is a name that is not known."""


class LinkHandler(Protocol):
    """Receives the events of a link."""

    def received(self, messages: list[FromNode]) -> None:
        """Handle messages that arrived in one burst."""

    def lost(self, reason: str) -> None:
        """Handle the end of the link, which is gone for good. Called at most once; never after `close()`."""

    def refused(self, reason: str) -> None:
        """Handle the end of the link in place of `lost`, if the two sides do not hold the same cluster key."""


class Link(Protocol):
    """The client's end of one connection to a node's service."""

    @property
    def address(self) -> str:
        """The address of the service."""

    @property
    def is_in_contact(self) -> bool:
        """True while a host has taken up the connection, even if nothing has been said over it yet."""

    @property
    def is_connected(self) -> bool:
        """True once the connection has been made, whether or not the node has answered yet."""

    @property
    def sent_bytes(self) -> int:
        """Bytes of all frames that have left."""

    @property
    def received_bytes(self) -> int:
        """Bytes of all frames that have arrived."""

    @property
    def is_closed(self) -> bool:
        """True once the link is lost or closed."""

    def send(self, message: ToNode) -> None:
        """Queue a message: all messages of one tick of the loop leave together.

        Messages wait until the connection is made; once the link is lost or closed they are dropped.
        Raises SerializationError if the message is too large for a frame.
        """

    def close(self) -> None:
        """Send the queued messages, for a short while, and disconnect."""


class ServiceHandler(Protocol):
    """Receives the events of a service."""

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        """Handle messages that arrived from one peer in one burst."""

    def malformed(self, peer: PeerId, reason: str) -> None:
        """Handle bytes or messages of a peer that break the protocol. Its connection stays."""

    def unreachable(self, peer: PeerId) -> None:
        """Handle the loss of messages to a peer, which is gone or does not read the answers that it asks for."""

    def refused(self, reason: str) -> None:
        """Handle the refusal of a peer that is not a member."""


class Service(Protocol):
    """A node's end of the connections of all its peers."""

    @property
    def address(self) -> str:
        """The address at which it listens, the port resolved."""

    def send(self, peer: PeerId, message: FromNode) -> None:
        """Queue a message: all messages to one peer of one tick of the loop leave together.

        Raises SerializationError if the message is too large for a frame.
        """

    def hold(self) -> None:
        """Have messages from now on wait for `flush`, not for the end of this tick."""

    def flush(self) -> None:
        """Send the messages held.

        Within one event loop their consequences may be called back before this returns, unless this is itself called
        from a callback.
        """

    def close(self) -> None:
        """Send the queued messages, for a short while, and disconnect all peers."""


class Publisher(Protocol):
    """Sends the same messages to every subscriber. One that subscribes late, or reads too slowly, may miss messages."""

    @property
    def address(self) -> str:
        """The address for subscribers, the port resolved."""

    def publish(self, message: OnBus) -> None:
        """Send a message to all current subscribers."""

    def close(self) -> None:
        """Send the last messages, for a short while, and stop publishing."""


class Subscriber(Protocol):
    """Receives from any number of publishers, also from those that start later, restart, or move with their names."""

    def subscribe(self, address: str) -> None:
        """Receive from the publisher at an address from now on. Raises ConnectionFailed for an invalid address.

        If it is subscribed to and not connected, its name is resolved again.
        """

    def unsubscribe(self, address: str) -> None:
        """Stop receiving from the publisher at an address. Nothing happens if it was not subscribed to."""

    def close(self) -> None:
        """Stop receiving."""


class Network(Protocol):
    """Opens the connections of an actor."""

    async def resolve(self, address: str) -> list[str]:
        """Return the address for each IP address of its host, best first. An IP address or memory:// stays as it is.

        Raises InvalidAddressError, UnknownHostError if there is no such host, ConnectionFailed if that is not certain.
        """

    def link(
        self,
        address: str,
        handler: LinkHandler,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        *,
        is_refusal_final: bool = False,
    ) -> Link:
        """Connect to a service, retrying until `connect_timeout` (seconds) is over; then the link is lost.

        With `is_refusal_final` it is lost at once if no process listens at any address of the service.
        """

    def serve(
        self, address: str, handler: ServiceHandler, most_waiting_nbytes: int = MOST_WAITING_NBYTES
    ) -> Service:
        """Listen at an address; port 0 is any free one. Raises OSError if that is impossible.

        A peer for which more than `most_waiting_nbytes` wait to be read is cut off: it counts as unreachable.
        """

    def publisher(self, address: str) -> Publisher:
        """Publish at an address; port 0 is any free one. Raises OSError if that is impossible."""

    def subscriber(self, handler: Callable[[list[OnBus]], None]) -> Subscriber:
        """Make a subscriber that passes bursts of messages to `handler`."""

    async def close(self) -> None:
        """Close everything that was opened. Takes half a second at most, if a peer does not read its last messages.

        All of it is closed at once, in the thread of the loop, which is the only one to use it.
        """
