"""The discovery bus over ZeroMQ: PUB sockets that nodes bind, and SUB sockets that each hear many of them.

PUB drops messages that a subscriber cannot take, and those published before its subscription has arrived. So every
message on the bus is a full picture, numbered and repeated, and never a command.
"""

import contextlib
import logging
from collections.abc import Callable

import zmq

from handoff_actors.errors import ConnectionFailed, RemoteProtocolError
from handoff_actors.transport.link import connect
from handoff_actors.transport.pump import Pump
from handoff_actors.wire.codec import ON_BUS, decode, encode
from handoff_actors.wire.messages.directions import OnBus

log = logging.getLogger(__name__)


class ZmqPublisher:
    """A `Publisher` made of one bound PUB socket."""

    def __init__(
        self, socket: zmq.Socket[bytes], address: str, on_close: Callable[["ZmqPublisher"], None]
    ) -> None:
        self.address = address
        self._socket = socket
        self._on_close = on_close

    def publish(self, message: OnBus) -> None:
        """See `Publisher.publish`."""
        if not self._socket.closed:
            self._socket.send(encode([message]), zmq.NOBLOCK)

    def close(self) -> None:
        """See `Publisher.close`."""
        if not self._socket.closed:
            self._socket.close(0)
            self._on_close(self)


class ZmqSubscriber:
    """A `Subscriber` made of one SUB socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        handler: Callable[[list[OnBus]], None],
        on_close: Callable[["ZmqSubscriber"], None],
    ) -> None:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket = socket
        self._handler = handler
        self._on_close = on_close
        self._addresses: set[str] = set()
        self._received: list[OnBus] = []
        self._pump = Pump(socket, self._accept, self._deliver)

    def subscribe(self, address: str) -> None:
        """See `Subscriber.subscribe`."""
        if self._socket.closed or address in self._addresses:
            return
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        try:
            connect(self._socket, address)
        except zmq.ZMQError as error:
            raise ConnectionFailed(address, f"not an address: {error.strerror}") from error
        self._addresses.add(address)

    def unsubscribe(self, address: str) -> None:
        """See `Subscriber.unsubscribe`."""
        if self._socket.closed or address not in self._addresses:
            return
        self._addresses.remove(address)
        # A connection that has just failed may be unknown to ZeroMQ.
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(address)

    def close(self) -> None:
        """See `Subscriber.close`."""
        if not self._socket.closed:
            self._pump.close(0)
            self._on_close(self)

    def _accept(self, frames: list[bytes]) -> None:
        try:
            for frame in frames:
                self._received += decode(frame, ON_BUS)
        except RemoteProtocolError as error:
            # There is no peer to blame: a message on the bus does not say where it comes from.
            log.warning("malformed message on the bus", extra={"reason": str(error)})

    def _deliver(self) -> None:
        received, self._received = self._received, []
        if received and not self._socket.closed:
            self._handler(received)
