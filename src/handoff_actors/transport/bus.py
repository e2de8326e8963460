"""The discovery bus over ZeroMQ: PUB sockets that nodes bind, and SUB sockets that each hear many of them.

PUB drops messages that a subscriber cannot take, and those published before its subscription has arrived. So every
message on the bus is a full picture, numbered and repeated, and never a command.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

import zmq

from handoff_actors.errors import ConnectionFailed, InvalidAddressError, RemoteProtocolError
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.link import LINGER_MS
from handoff_actors.transport.listeners import EVENTS, Listeners
from handoff_actors.transport.monitor import Monitor
from handoff_actors.transport.names.connector import RETRY_S
from handoff_actors.transport.names.name_subscription import NameSubscription
from handoff_actors.transport.names.resolver import Resolver, connect, has_name
from handoff_actors.transport.pump import Pump
from handoff_actors.wire.codec import ON_BUS, decode, encode
from handoff_actors.wire.messages.directions import OnBus

log = logging.getLogger(__name__)

_MONITORED: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
)


class ZmqPublisher:
    """A `Publisher` made of one bound PUB socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        listeners: Listeners,
        on_close: Callable[["ZmqPublisher"], None],
    ) -> None:
        """Listen at an address. Raises OSError."""
        self._listener = listeners.listener()
        self._monitor = Monitor(socket, EVENTS, self._monitored)
        try:
            self.address = listeners.bind(socket, address)
        except OSError:
            self._monitor.close()
            self._listener.close()
            raise
        self._socket = socket
        self._on_close = on_close

    def publish(self, message: OnBus) -> None:
        """See `Publisher.publish`."""
        if not self._socket.closed:
            self._socket.send(encode([message]), zmq.NOBLOCK)

    def close(self) -> None:
        """See `Publisher.close`."""
        if not self._socket.closed:
            self._monitor.close()
            self._listener.close()
            self._socket.close(LINGER_MS)
            self._on_close(self)

    def _monitored(self, event: int, value: int, _endpoint: str) -> None:
        self._listener.reported(event, value)


class ZmqSubscriber:
    """A `Subscriber` made of one SUB socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        handler: Callable[[list[OnBus]], None],
        resolver: Resolver,
        curve: Curve | None,
        on_close: Callable[["ZmqSubscriber"], None],
    ) -> None:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket = socket
        self._handler = handler
        self._on_close = on_close
        self._resolver = resolver
        #: By address; None: the host is an IP address, and ZeroMQ reconnects by itself.
        self._subscriptions: dict[str, NameSubscription | None] = {}
        #: Of the endpoints connected to, the number of subscriptions that lead there.
        self._endpoints: Counter[str] = Counter()
        #: The numbers of the keys that are shown there.
        self._keys: dict[str, int] = {}
        self._curve = curve
        #: None until there is a name, or a choice of keys.
        self._monitor: Monitor | None = None
        if curve is not None and curve.key_count > 1:
            self._monitor = Monitor(socket, _MONITORED, self._monitored)
        self._received: list[OnBus] = []
        self._pump = Pump(socket, self._accept, self._deliver)

    def subscribe(self, address: str) -> None:
        """See `Subscriber.subscribe`."""
        if self._socket.closed:
            return
        if address not in self._subscriptions:
            try:
                self._subscriptions[address] = self._begin(address)
            except InvalidAddressError as error:
                raise ConnectionFailed(address, f"not an address: {error.reason}") from error
        elif (subscription := self._subscriptions[address]) is not None:
            subscription.look_again()

    def unsubscribe(self, address: str) -> None:
        """See `Subscriber.unsubscribe`."""
        if self._socket.closed or address not in self._subscriptions:
            return
        subscription = self._subscriptions.pop(address)
        if subscription is None:
            self._disconnect(address)
        else:
            subscription.close()

    def close(self) -> None:
        """See `Subscriber.close`."""
        if self._socket.closed:
            return
        for subscription in self._subscriptions.values():
            if subscription is not None:
                subscription.close()
        if self._monitor is not None:
            self._monitor.close()
        self._pump.close(0)
        self._on_close(self)

    def _begin(self, address: str) -> NameSubscription | None:
        if not has_name(address):
            self._connect(address)
            return None
        if self._monitor is None:
            self._monitor = Monitor(self._socket, _MONITORED, self._monitored)
        return NameSubscription(address, self._resolver, self._connect, self._disconnect)

    def _connect(self, endpoint: str) -> None:
        self._endpoints[endpoint] += 1
        if self._endpoints[endpoint] == 1:
            self._connect_with_key(endpoint)

    def _connect_with_key(self, endpoint: str) -> None:
        if self._curve is not None:
            self._keys[endpoint] = self._curve.choose(self._socket, endpoint)
        connect(self._socket, endpoint)

    def _disconnect(self, endpoint: str) -> None:
        self._endpoints[endpoint] -= 1
        if self._endpoints[endpoint] == 0:
            del self._endpoints[endpoint]
            self._keys.pop(endpoint, None)
            self._end_connection(endpoint)

    def _end_connection(self, endpoint: str) -> None:
        # A connection that has just failed may be unknown to ZeroMQ.
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(endpoint)

    def _monitored(self, event: int, _value: int, endpoint: str) -> None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._hung_up(endpoint)
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED and self._curve is not None and endpoint in self._keys:
            self._curve.accepted(endpoint, self._keys[endpoint])
        for subscription in self._subscriptions.values():
            if subscription is not None and subscription.endpoint == endpoint:
                if event == zmq.EVENT_DISCONNECTED:
                    subscription.broken()
                else:
                    subscription.connected()

    def _hung_up(self, endpoint: str) -> None:
        """Try the next key, if there are several, where the publisher hangs up on this one. ZeroMQ would keep to it."""
        if self._curve is not None and self._curve.key_count > 1 and endpoint in self._keys:
            self._curve.hung_up(endpoint, self._keys[endpoint])
            self._end_connection(endpoint)
            asyncio.get_running_loop().call_later(RETRY_S, self._connect_again, endpoint)

    def _connect_again(self, endpoint: str) -> None:
        if endpoint in self._endpoints and not self._socket.closed:
            self._connect_with_key(endpoint)

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
