"""The interfaces of `endpoint` within one event loop: no sockets, no copies.

For tests, and for the link between a session and the node that its own process embeds. Messages sent in one tick are
delivered in the next, as the same objects; with `encode` as copies that have been through the codec.
"""

import asyncio
import errno
import itertools
from collections.abc import Callable
from functools import partial
from typing import Final

from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import (
    CONNECT_TIMEOUT_S,
    MOST_WAITING_NBYTES,
    LinkHandler,
    ServiceHandler,
)
from handoff_actors.transport.lane import DeliveryQueue, MessageLane
from handoff_actors.transport.memory_bus import MemoryPublisher, MemorySubscriber
from handoff_actors.wire import codec
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode

SCHEME: Final = "memory://"


class MemoryNetwork:
    """A `Network` whose members all live in one event loop. Addresses are memory://name, memory:// for any name."""

    def __init__(self, *, encode: bool = False) -> None:
        self._encode = encode
        self._numbers = itertools.count(1)
        self._deliveries = DeliveryQueue()
        self._links: list[MemoryLink] = []
        self._services: dict[str, MemoryService] = {}
        self._publishers: dict[str, MemoryPublisher] = {}
        self._subscribers: list[MemorySubscriber] = []

    async def resolve(self, address: str) -> list[str]:
        """See `Network.resolve`."""
        return [address]

    def link(
        self,
        address: str,
        handler: LinkHandler,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        *,
        is_refusal_final: bool = False,
    ) -> "MemoryLink":
        """See `Network.link`."""
        peer = PeerId(b"M%d" % next(self._numbers))
        link = MemoryLink(
            address, handler, peer, self._deliveries, encode=self._encode, on_close=self._links.remove
        )
        self._links.append(link)
        service = self._services.get(address)
        if service is None:
            link.wait(0.0 if is_refusal_final else connect_timeout)
        else:
            link.connect(service)
        return link

    def serve(
        self,
        address: str,
        handler: ServiceHandler,
        most_waiting_nbytes: int = MOST_WAITING_NBYTES,  # noqa: ARG002 - here every peer reads at once
    ) -> "MemoryService":
        """See `Network.serve`."""
        name = self._free(address, self._services)
        service = MemoryService(name, handler, self._deliveries, on_close=lambda: self._services.pop(name))
        self._services[name] = service
        for link in self._links:
            if link.address == name:
                link.connect(service)
        return service

    def publisher(self, address: str) -> "MemoryPublisher":
        """See `Network.publisher`."""
        name = self._free(address, self._publishers)
        publisher = MemoryPublisher(name, self._subscribers, on_close=lambda: self._publishers.pop(name))
        self._publishers[name] = publisher
        return publisher

    def subscriber(self, handler: Callable[[list[OnBus]], None]) -> "MemorySubscriber":
        """See `Network.subscriber`."""
        subscriber = MemorySubscriber(
            handler, self._deliveries, encode=self._encode, on_close=self._subscribers.remove
        )
        self._subscribers.append(subscriber)
        return subscriber

    async def close(self) -> None:
        """See `Network.close`."""
        for link in list(self._links):
            link.close()
        for service in list(self._services.values()):
            service.close()
        for publisher in list(self._publishers.values()):
            publisher.close()
        for subscriber in list(self._subscribers):
            subscriber.close()

    def _free(self, address: str, taken: "dict[str, MemoryService] | dict[str, MemoryPublisher]") -> str:
        name = f"{SCHEME}{next(self._numbers)}" if address == SCHEME else address
        if name in taken:
            raise OSError(errno.EADDRINUSE, f"cannot listen at {name}: address already in use")
        return name


class MemoryLink:
    """A `Link` to a service in the same event loop."""

    def __init__(
        self,
        address: str,
        handler: LinkHandler,
        peer: PeerId,
        deliveries: DeliveryQueue,
        *,
        encode: bool,
        on_close: Callable[["MemoryLink"], None],
    ) -> None:
        self.address = address
        self._handler = handler
        self._peer = peer
        self._on_close = on_close
        self._service: MemoryService | None = None
        self.is_closed = False
        self._deadline: asyncio.Handle | None = None
        self._to_service = MessageLane[ToNode](
            deliveries, self._deliver_to_service, codec.TO_NODE if encode else None
        )
        self._to_client = MessageLane[FromNode](
            deliveries, self._deliver_to_client, codec.FROM_NODE if encode else None
        )

    @property
    def is_in_contact(self) -> bool:
        """See `Link.is_in_contact`."""
        return self.is_connected

    @property
    def is_connected(self) -> bool:
        """See `Link.is_connected`."""
        return self._service is not None

    @property
    def sent_bytes(self) -> int:
        """See `Link.sent_bytes`. 0 unless messages are encoded."""
        return self._to_service.nbytes

    @property
    def received_bytes(self) -> int:
        """See `Link.received_bytes`. 0 unless messages are encoded."""
        return self._to_client.nbytes

    def send(self, message: ToNode) -> None:
        """See `Link.send`."""
        if not self.is_closed:
            self._to_service.add(message)

    def close(self) -> None:
        """See `Link.close`. If the connection is not made yet, nothing is sent."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._service is not None:
            self._service.disconnected(self._peer)
        self._on_close(self)

    def wait(self, connect_timeout: float) -> None:
        """Wait for a service at the address."""
        reason = f"connection refused within {connect_timeout:g} s"
        self._deadline = asyncio.get_running_loop().call_later(connect_timeout, self.lose, reason)

    def connect(self, service: "MemoryService") -> None:
        """Let messages pass."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._service = service
        service.connected(self._peer, self)
        self._to_service.open()
        self._to_client.open()

    def answer(self, message: FromNode) -> None:
        """Queue a message from the service."""
        self._to_client.add(message)

    def lose(self, reason: str) -> None:
        """Report to the client that the link is lost."""
        if not self.is_closed:
            self.close()
            self._handler.lost(reason)

    def _deliver_to_service(self, messages: list[ToNode]) -> None:
        if self._service is not None:
            self._service.deliver(self._peer, messages)

    def _deliver_to_client(self, messages: list[FromNode]) -> None:
        if not self.is_closed:
            self._handler.received(messages)
        elif self._service is not None:
            self._service.unreachable(self._peer)


class MemoryService:
    """A `Service` for links in the same event loop."""

    def __init__(
        self,
        address: str,
        handler: ServiceHandler,
        deliveries: DeliveryQueue,
        *,
        on_close: Callable[[], object],
    ) -> None:
        self.address = address
        self._handler = handler
        self._deliveries = deliveries
        self._on_close = on_close
        self._links: dict[PeerId, MemoryLink] = {}
        self._is_closed = False

    def send(self, peer: PeerId, message: FromNode) -> None:
        """See `Service.send`."""
        if self._is_closed:
            return
        link = self._links.get(peer)
        if link is None:
            self._deliveries.call(partial(self.unreachable, peer))
        else:
            link.answer(message)

    def hold(self) -> None:
        """See `Service.hold`."""
        self._deliveries.hold()

    def flush(self) -> None:
        """See `Service.flush`."""
        self._deliveries.flush()

    def close(self) -> None:
        """See `Service.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._on_close()
        for link in self._links.values():
            # Behind the messages queued for the client, which still arrive.
            self._deliveries.call(partial(link.lose, "the connection was closed by the other side, or broke"))

    def connected(self, peer: PeerId, link: MemoryLink) -> None:
        """Add a new peer."""
        self._links[peer] = link

    def disconnected(self, peer: PeerId) -> None:
        """Remove a peer that is gone."""
        del self._links[peer]

    def deliver(self, peer: PeerId, messages: list[ToNode]) -> None:
        """Pass a peer's messages to the handler."""
        if not self._is_closed:
            self._handler.received(peer, messages)

    def unreachable(self, peer: PeerId) -> None:
        """Report a message that could not be delivered."""
        if not self._is_closed:
            self._handler.unreachable(peer)
