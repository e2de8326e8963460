"""Several listening sockets at one port, one for each key that those who connect may hold.

A CurveZMQ server has one key pair, so a node that also accepts another key serves at two sockets. The kernel chooses the
socket for each connection. A client that gets the one of the other key is hung up on, and tries again a moment later.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from handoff_actors.addresses import TcpAddress, split_address
from handoff_actors.errors import InvalidAddressError
from handoff_actors.ids import PeerId
from handoff_actors.lru import LruCache
from handoff_actors.transport.endpoint import Publisher, Service, ServiceHandler
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode

#: More peers than a node has at a time.
_MOST_PEERS: Final = 100_000


def share_port(address: str, count: int, backlog: int) -> list[int]:
    """Return descriptors of this many sockets that listen at one address; port 0 is any free one.

    Raises OSError if the address is taken, or can't be listened at; InvalidAddressError for the name of an interface.
    """
    place = split_address(address)
    host = {"*": "0.0.0.0", "localhost": "127.0.0.1"}.get(place.host, place.host)  # noqa: S104 - the user's choice
    if not TcpAddress(host, place.port).is_literal:
        raise InvalidAddressError(address, "a node that also accepts another key listens at an IP address")
    with ExitStack() as on_failure:
        if place.port:
            # Sockets of any process of this user's can share a port, so that two nodes would not notice one another.
            _bound(host, place.port, is_shared=False).close()
        first = on_failure.enter_context(_bound(host, place.port, is_shared=True))
        port: int = first.getsockname()[1]
        others = [on_failure.enter_context(_bound(host, port, is_shared=True)) for _ in range(count - 1)]
        for listener in (first, *others):
            listener.listen(backlog)
        on_failure.pop_all()
        return [listener.detach() for listener in (first, *others)]


def _bound(host: str, port: int, *, is_shared: bool) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setblocking(False)
        made.bind((host, port))
    except OSError as error:
        made.close()
        number = error.errno or errno.EADDRNOTAVAIL
        where = TcpAddress(host, port)
        raise OSError(number, f"cannot listen at {where}: {os.strerror(number)}") from error
    return made


class SharedPortService:
    """A `Service` whose peers may hold any of several keys."""

    def __init__(
        self, handler: ServiceHandler, openers: Sequence[Callable[[ServiceHandler], Service]]
    ) -> None:
        """Open a service for each key."""
        self._handler = handler
        #: The service that a peer has come through.
        self._service_of: LruCache[PeerId, Service] = LruCache(_MOST_PEERS)
        self._services: list[Service] = []
        for opener in openers:
            entrance = _Entrance(handler, self._came)
            entrance.service = opener(entrance)
            self._services.append(entrance.service)

    @property
    def address(self) -> str:
        """See `Service.address`."""
        return self._services[0].address

    def send(self, peer: PeerId, message: FromNode) -> None:
        """See `Service.send`."""
        service = self._service_of.get(peer)
        if service is not None:
            service.send(peer, message)

    def hold(self) -> None:
        """See `Service.hold`."""
        for service in self._services:
            service.hold()

    def flush(self) -> None:
        """See `Service.flush`."""
        for service in self._services:
            service.flush()

    def close(self) -> None:
        """See `Service.close`."""
        for service in self._services:
            service.close()

    def _came(self, peer: PeerId, service: Service) -> None:
        self._service_of.put(peer, service)


class _Entrance:
    """The handler of one of the services. See ServiceHandler."""

    service: Service

    def __init__(self, handler: ServiceHandler, came: Callable[[PeerId, Service], None]) -> None:
        self._handler = handler
        self._came = came

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        """See ServiceHandler."""
        self._came(peer, self.service)
        self._handler.received(peer, messages)

    def malformed(self, peer: PeerId, reason: str) -> None:
        """See ServiceHandler."""
        self._came(peer, self.service)
        self._handler.malformed(peer, reason)

    def unreachable(self, peer: PeerId) -> None:
        """See ServiceHandler."""
        self._handler.unreachable(peer)

    def refused(self, reason: str) -> None:
        """See ServiceHandler. Holders of the other key come here, too, before they get to its socket."""
        if not reason.startswith("it holds another key"):
            self._handler.refused(reason)


class SharedPortPublisher:
    """A `Publisher` whose subscribers may hold any of several keys."""

    def __init__(self, publishers: Sequence[Publisher]) -> None:
        self._publishers = publishers

    @property
    def address(self) -> str:
        """See `Publisher.address`."""
        return self._publishers[0].address

    def publish(self, message: OnBus) -> None:
        """See `Publisher.publish`."""
        for publisher in self._publishers:
            publisher.publish(message)

    def close(self) -> None:
        """See `Publisher.close`."""
        for publisher in self._publishers:
            publisher.close()
