"""What an actor sends and receives with, whatever carries it.

All of it is called from within a running asyncio loop, and every callback comes from that loop, never from within
the call that caused it. Messages of one sender to one receiver arrive in the order they were sent, each at most
once.
"""

from collections.abc import Callable
from typing import Final, Protocol

from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode

#: Seconds within which a link has to stand.
CONNECT_TIMEOUT_S: Final = 5.0
#: Bytes that wait for one peer of a service, beyond which it is cut off if not told otherwise.
MOST_WAITING_NBYTES: Final = 256 * 2**20


class LinkHandler(Protocol):
    """What happens on a link."""

    def received(self, messages: list[FromNode]) -> None:
        """Take what arrived in one burst."""

    def lost(self, reason: str) -> None:
        """Take note that the link is gone for good. At most once; never after `close()`."""

    def refused(self, reason: str) -> None:
        """Take note of the same where it is because the two sides do not hold the same cluster key."""


class Link(Protocol):
    """The client's end of one connection to a node's service."""

    @property
    def address(self) -> str:
        """What it is connected to."""

    @property
    def sent_bytes(self) -> int:
        """Bytes of all frames that have left."""

    @property
    def received_bytes(self) -> int:
        """Bytes of all frames that have arrived."""

    def send(self, message: ToNode) -> None:
        """Queue a message: what is sent in one tick of the loop leaves together.

        Before the connection stands messages wait for it; once the link is lost or closed they are dropped.
        Raises SerializationError if the message is too large for a frame.
        """

    def close(self) -> None:
        """Let what is queued leave, for a short while, and hang up."""


class ServiceHandler(Protocol):
    """What happens at a service."""

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        """Take what arrived from one peer in one burst."""

    def malformed(self, peer: PeerId, reason: str) -> None:
        """Take note that a peer said something that is not in the protocol. Its connection stays."""

    def unreachable(self, peer: PeerId) -> None:
        """Take note that messages to a peer were dropped: it has gone, or does not read what it asks for."""

    def refused(self, reason: str) -> None:
        """Take note that a stranger was not let in."""


class Service(Protocol):
    """A node's end of the connections of all its peers."""

    @property
    def address(self) -> str:
        """Where it listens, the port resolved."""

    def send(self, peer: PeerId, message: FromNode) -> None:
        """Queue a message: what is sent to one peer in one tick of the loop leaves together.

        Raises SerializationError if the message is too large for a frame.
        """

    def hold(self) -> None:
        """Let what is sent from now on wait for `flush`, not for the end of this tick."""

    def flush(self) -> None:
        """Let it leave. In one event loop this may call back what it leads to, unless it was itself called back."""

    def close(self) -> None:
        """Let what is queued leave, for a short while, and hang up on all peers."""


class Publisher(Protocol):
    """Says the same to every subscriber. A message may be missed: by who subscribes late, or reads too slowly."""

    @property
    def address(self) -> str:
        """Where subscribers connect, the port resolved."""

    def publish(self, message: OnBus) -> None:
        """Send a message to all who subscribe now."""

    def close(self) -> None:
        """Stop publishing."""


class Subscriber(Protocol):
    """Hears any number of publishers, also those that are not there yet or come back."""

    def subscribe(self, address: str) -> None:
        """Hear the publisher at an address from now on. Raises ConnectionFailed if it is no address at all."""

    def unsubscribe(self, address: str) -> None:
        """Hear it no more. Nothing happens if it was not subscribed to."""

    def close(self) -> None:
        """Hear nobody any more."""


class Network(Protocol):
    """What an actor opens its connections with."""

    def link(self, address: str, handler: LinkHandler, connect_timeout: float = CONNECT_TIMEOUT_S) -> Link:
        """Connect to a service, trying until `connect_timeout` (seconds) is over; then the link is lost."""

    def serve(
        self, address: str, handler: ServiceHandler, most_waiting_nbytes: int = MOST_WAITING_NBYTES
    ) -> Service:
        """Listen at an address; port 0 is any that is free. Raises OSError if that cannot be.

        A peer for which more than `most_waiting_nbytes` wait to be read is cut off: it counts as unreachable.
        """

    def publisher(self, address: str) -> Publisher:
        """Publish at an address; port 0 is any that is free. Raises OSError if that cannot be."""

    def subscriber(self, handler: Callable[[list[OnBus]], None]) -> Subscriber:
        """Hear what publishers say."""

    def close(self) -> None:
        """Close all that was opened. It takes half a second at most, while a peer that does not read is waited for."""
