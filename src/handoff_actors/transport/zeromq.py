"""Opens links, services and the bus over ZeroMQ."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final, Protocol, TypeVar

import zmq

from handoff_actors.addresses import TCP
from handoff_actors.errors import reason_of
from handoff_actors.process.open_files import OUT_OF_DESCRIPTORS, with_reserve
from handoff_actors.transport.bus import ZmqPublisher, ZmqSubscriber
from handoff_actors.transport.curve import Authenticator, Curve, enforce_domain
from handoff_actors.transport.endpoint import (
    CONNECT_TIMEOUT_S,
    MOST_WAITING_NBYTES,
    Link,
    LinkHandler,
    Publisher,
    Service,
    ServiceHandler,
)
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.link import UnopenedLink, ZmqLink
from handoff_actors.transport.listeners import Listeners
from handoff_actors.transport.names.resolver import Resolver
from handoff_actors.transport.service import MOST_QUEUED_MESSAGES, ZmqService
from handoff_actors.transport.shared_ports import SharedPortPublisher, SharedPortService, share_port
from handoff_actors.wire.codec import MAX_FRAME_BYTES
from handoff_actors.wire.messages.directions import OnBus

log = logging.getLogger(__name__)

#: Frames that a socket queues per connection. Credits of the layers above bound the frames under way; a failure of these
#: would show here. The default of 1000 is less than a burst of small frames.
HIGH_WATER_MARK: Final = 100_000
#: ZMTP pings find half-open connections. They come from ZeroMQ's own thread, so they say nothing about the process.
HEARTBEAT_INTERVAL_MS: Final = 2_000
HEARTBEAT_TIMEOUT_MS: Final = 10_000
#: A peer that has connected and not shown by then that it is a member is cut off.
HANDSHAKE_TIMEOUT_MS: Final = 10_000
#: The kernel cuts off a connection whose other side does not read, after this time in which no byte could leave.
UNREAD_TIMEOUT_MS: Final = 30_000
#: Adverts are small, every member can publish, and the next advert makes up for one that is dropped.
MAX_BUS_FRAME_BYTES: Final = 2**16
BUS_HIGH_WATER_MARK: Final = 5_000
#: Seconds that `close()` waits for ZeroMQ at the utmost. More than any socket lingers.
CLOSE_LIMIT_S: Final = 2.0


class _Closable(Protocol):
    def close(self) -> None: ...


_Opened = TypeVar("_Opened", bound=_Closable)


class ZmqNetwork:
    """A `Network` of ZeroMQ sockets, with one context and one I/O thread of its own.

    With a key every connection is encrypted, and is made only between members that hold the same key, or one that either
    side also accepts. Without one, connections are made only between members that have none.
    """

    def __init__(self, key: ClusterKey | None = None, resolver: Resolver | None = None) -> None:
        # Before there is a context: making keys while one works has crashed libzmq (issue 4241).
        self._curve = None if key is None else Curve(key)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        # The default is to linger for ever.
        self._context.linger = 0
        self._opened: set[_Closable] = set()
        self._authenticator: Authenticator | None = None
        self._resolver = resolver or Resolver()
        self._listeners = Listeners()

    async def resolve(self, address: str) -> list[str]:
        """See `Network.resolve`."""
        return await self._resolver.resolve(address)

    def link(
        self,
        address: str,
        handler: LinkHandler,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        *,
        is_refusal_final: bool = False,
    ) -> Link:
        """See `Network.link`."""
        try:
            return with_reserve(partial(self._open_link, address, handler, connect_timeout, is_refusal_final))
        except OSError as error:
            return self._keep(UnopenedLink(address, handler, reason_of(error), self._opened.discard))

    def serve(
        self, address: str, handler: ServiceHandler, most_waiting_nbytes: int = MOST_WAITING_NBYTES
    ) -> Service:
        """See `Network.serve`."""
        descriptors = self._share_port(address)
        if not descriptors:
            return self._serve_one(0, None, address, most_waiting_nbytes, handler)
        return SharedPortService(
            handler,
            [
                partial(self._serve_one, number, descriptor, address, most_waiting_nbytes)
                for number, descriptor in enumerate(descriptors)
            ],
        )

    def publisher(self, address: str) -> Publisher:
        """See `Network.publisher`."""
        descriptors = self._share_port(address)
        if not descriptors:
            return self._publish_one(0, None, address)
        return SharedPortPublisher(
            [self._publish_one(number, one, address) for number, one in enumerate(descriptors)]
        )

    def _share_port(self, address: str) -> list[int]:
        """Return sockets that listen at an address, one for each key; none if there is one key, which needs no such."""
        if self._curve is None or self._curve.key_count == 1 or not address.startswith(TCP):
            return []
        return share_port(address, self._curve.key_count, self._listeners.backlog)

    def _serve_one(
        self,
        number: int,
        descriptor: int | None,
        address: str,
        most_waiting_nbytes: int,
        handler: ServiceHandler,
    ) -> ZmqService:
        socket = self._binding(zmq.ROUTER, number, descriptor)
        socket.setsockopt(zmq.SNDHWM, MOST_QUEUED_MESSAGES)
        socket.setsockopt(zmq.TCP_MAXRT, UNREAD_TIMEOUT_MS)
        try:
            service = ZmqService(
                socket, address, handler, most_waiting_nbytes, self._listeners, self._opened.discard
            )
        except OSError:
            socket.close(0)
            raise
        return self._keep(service)

    def _publish_one(self, number: int, descriptor: int | None, address: str) -> ZmqPublisher:
        socket = self._binding(zmq.PUB, number, descriptor)
        socket.setsockopt(zmq.SNDHWM, BUS_HIGH_WATER_MARK)
        try:
            publisher = ZmqPublisher(socket, address, self._listeners, self._opened.discard)
        except OSError:
            socket.close(0)
            raise
        return self._keep(publisher)

    def subscriber(self, handler: Callable[[list[OnBus]], None]) -> ZmqSubscriber:
        """See `Network.subscriber`."""
        socket = self._connecting(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, BUS_HIGH_WATER_MARK)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BUS_FRAME_BYTES)
        return self._keep(ZmqSubscriber(socket, handler, self._resolver, self._curve, self._opened.discard))

    async def close(self) -> None:
        """See `Network.close`."""
        for opened in list(self._opened):
            opened.close()
        # term() waits for what lingers, and has been seen to hang (libzmq issue 2586): an app must end regardless.
        terminator = threading.Thread(target=self._context.term, name="handoff-zmq-term", daemon=True)
        terminator.start()
        await asyncio.to_thread(terminator.join, CLOSE_LIMIT_S)
        if terminator.is_alive():
            log.warning("ZeroMQ did not close in time", extra={"limit_s": CLOSE_LIMIT_S})

    def _open_link(
        self, address: str, handler: LinkHandler, connect_timeout: float, is_refusal_final: bool
    ) -> ZmqLink:
        """Raise OSError if there are no descriptors for a link."""
        with ExitStack() as on_failure:
            try:
                socket = self._connecting(zmq.DEALER)
                on_failure.callback(socket.close, 0)
                link = ZmqLink(
                    socket,
                    address,
                    handler,
                    connect_timeout,
                    self._curve,
                    self._resolver,
                    self._opened.discard,
                    is_refusal_final=is_refusal_final,
                )
            except zmq.ZMQError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                raise OSError(error.errno, error.strerror) from error
            on_failure.pop_all()
        return self._keep(link)

    def _connecting(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._socket(kind)
        if self._curve is not None:
            self._curve.protect_client(socket)
        return socket

    def _binding(self, kind: int, number: int, descriptor: int | None) -> zmq.Socket[bytes]:
        """Make a socket for holders of the key of this number. With a descriptor, that is of a socket which listens already."""
        if self._authenticator is None:
            self._authenticator = self._keep(
                Authenticator(self._context.socket(zmq.ROUTER), self._curve, self._opened.discard)
            )
        socket = self._socket(kind)
        enforce_domain(socket)
        if self._curve is not None:
            self._curve.protect_server(socket, number)
        if descriptor is not None:
            socket.setsockopt(zmq.USE_FD, descriptor)
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set_hwm(HIGH_WATER_MARK)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_TIMEOUT_MS)
        return socket

    def _keep(self, opened: _Opened) -> _Opened:
        self._opened.add(opened)
        return opened
