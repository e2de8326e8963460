"""The client's end of one connection to a node's service, over ZeroMQ.

ZeroMQ would reconnect behind our back and hand messages queued for one life of a node to the next. So a link lives
exactly as long as one connection: ZeroMQ's own reconnecting is put off for ever, and nothing is handed to it before
the handshake is done. RECONNECT_IVL=-1 and IMMEDIATE=1 look made for that, but with either of them libzmq 4.3 drops
messages that have arrived and are not yet read when the connection ends. The socket's monitor reports the state of the
connection:

    connecting --HANDSHAKE_SUCCEEDED--> connected --DISCONNECTED--> lost
    connecting --CLOSED, DISCONNECTED--> connecting, to the next address, until the connect timeout
    connecting --HANDSHAKE_FAILED_PROTOCOL, connect timeout--> lost
    connecting --HANDSHAKE_FAILED_*, where the reason is another key--> refused

A server that can't read our part of the handshake hangs up, and its earlier messages may be lost. A server that is just
ending hangs up, too, so only many hang-ups mean that it holds another key. If we have several, the next is tried after each.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq

from handoff_actors.errors import InvalidAddressError, RemoteProtocolError
from handoff_actors.ids import PeerId
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.endpoint import LinkHandler
from handoff_actors.transport.monitor import FAILURES, HandshakeFailure, Monitor
from handoff_actors.transport.names.connector import Connector
from handoff_actors.transport.names.resolver import Resolver
from handoff_actors.transport.outbox import Frames, PeerOutbox
from handoff_actors.transport.pump import Pump
from handoff_actors.wire.codec import FROM_NODE, decode, join
from handoff_actors.wire.messages.directions import FromNode, ToNode

#: Milliseconds for which a closed socket may go on sending queued messages.
LINGER_MS: Final = 250

#: An hour: by then the socket of a lost connection is closed, and a connection that fails is tried again by us.
_NEVER_MS: Final = 3_600_000
_MONITORED: Final = (
    zmq.EVENT_CONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | FAILURES
)
#: The other side may hang up this often during the handshake: as often as there are tries in two seconds. A node
#: that also accepts another key hangs up on every second connection, whichever key is shown.
_MAX_HANG_UPS: Final = 20
#: A link has one receiver, whose name the outbox need not know.
_THE_SERVICE: Final = PeerId(b"")


class ZmqLink:
    """A `Link` made of one DEALER socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        handler: LinkHandler,
        connect_timeout: float,
        curve: Curve | None,
        resolver: Resolver,
        on_close: Callable[["ZmqLink"], None],
        *,
        is_refusal_final: bool = False,
    ) -> None:
        """Show the keys of `curve`; None: we have no key."""
        socket.setsockopt(zmq.RECONNECT_IVL, _NEVER_MS)
        self.address = address
        self.sent_bytes = self.received_bytes = 0
        self._socket = socket
        self._handler = handler
        self._on_close = on_close
        self.is_in_contact = False
        self.is_connected = False
        self.is_closed = False
        self._connect_timeout = connect_timeout
        self._no_connection = "no answer"
        self._is_refusal_final = is_refusal_final
        self._hang_ups = 0
        self._key_origin = None if curve is None else curve.origin
        self._received: list[FromNode] = []
        self._malformed: str | None = None
        self._backlog: deque[Frames] = deque()
        self._outbox = PeerOutbox(self._transmit)
        self._monitor = Monitor(socket, _MONITORED, self._monitored)
        self._pump = Pump(socket, self._accept, self._deliver, self._accept_piece)
        loop = asyncio.get_running_loop()
        self._connector = Connector(socket, address, resolver, curve)
        self._deadline: asyncio.Handle = loop.call_later(connect_timeout, self._give_up)
        try:
            self._connector.begin()
        except InvalidAddressError as error:
            self._deadline.cancel()
            self._deadline = loop.call_soon(self._lose, f"not an address: {error.reason}")

    def send(self, message: ToNode) -> None:
        """See `Link.send`."""
        if not self.is_closed:
            self._outbox.add(_THE_SERVICE, message)

    def close(self) -> None:
        """See `Link.close`. If the connection is not made yet, nothing is sent."""
        if not self.is_closed:
            self._outbox.flush()
            self._shut(LINGER_MS)

    # --- Connecting ---

    def _monitored(self, event: int, value: int, endpoint: str) -> None:
        if self._connector.is_past(endpoint):
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connector.key_accepted()
            self.is_connected = True
            self._stop_connecting()
            self._send_backlog()
        elif event == zmq.EVENT_CONNECTED:
            self.is_in_contact = True
            self._connector.accepted()
        elif event & FAILURES:
            self._handshake_failed(HandshakeFailure(event, value))
        elif self.is_connected:
            self._lose("the connection was closed by the other side, or broke")
        else:
            self.is_in_contact = False
            if self._hang_ups == 0:
                self._no_connection = "connection refused"
            if self._is_refusal_final and self._connector.is_last_of_round:
                self._lose(self._no_connection)
            else:
                self._connector.failed()

    def _handshake_failed(self, failure: HandshakeFailure) -> None:
        reason = failure.reason_for_client(self._key_origin)
        if failure.is_hang_up:
            # DISCONNECTED follows, and another try.
            self._hang_ups += 1
            self._no_connection = reason
            self._connector.hung_up()
        is_about_keys = failure.is_about_keys or self._hang_ups >= _MAX_HANG_UPS
        if failure.is_hang_up and not is_about_keys:
            return
        if self._connector.is_last_of_round:
            self._lose(reason, is_about_keys=is_about_keys)
        else:
            # Another address of the name may be the right one.
            self._connector.failed()

    def _give_up(self) -> None:
        unresolved = self._connector.unresolved
        self._lose(unresolved or f"{self._no_connection} within {self._connect_timeout:g} s")

    def _stop_connecting(self) -> None:
        self._deadline.cancel()
        self._connector.stop()

    def _lose(self, reason: str, *, is_about_keys: bool = False) -> None:
        try:
            # Messages that the other side sent before it went still count.
            self._pump.receive_rest()
        finally:
            if not self.is_closed:
                self._shut(0)
                (self._handler.refused if is_about_keys else self._handler.lost)(reason)

    def _shut(self, linger_ms: int) -> None:
        self.is_closed = True
        self._stop_connecting()
        self._backlog.clear()
        self._monitor.close()
        self._pump.close(linger_ms)
        self._on_close(self)

    # --- Receiving ---

    def _accept(self, frames: list[bytes]) -> None:
        self.received_bytes += sum(map(len, frames))
        if self._malformed is None:
            try:
                self._received += decode(_only(frames), FROM_NODE)
            except RemoteProtocolError as error:
                self._malformed = str(error)

    def _accept_piece(self, frames: list[bytes], piece: memoryview) -> None:
        self.received_bytes += len(frames[0]) + len(piece)
        if self._malformed is None:
            try:
                self._received += join(frames[0], piece, FROM_NODE)
            except RemoteProtocolError as error:
                self._malformed = str(error)

    def _deliver(self) -> None:
        received, self._received = self._received, []
        if received and not self.is_closed:
            self._handler.received(received)
        if self._malformed is not None and not self.is_closed:
            self._shut(0)
            self._handler.lost(self._malformed)

    # --- Sending ---

    def _transmit(self, _peer: PeerId, frames: Frames) -> None:
        if not self.is_closed:
            self._backlog.append(frames)
            # More than this one: the socket is full, and reports when it has room.
            if self.is_connected and len(self._backlog) == 1:
                self._send_backlog()

    def _send_backlog(self) -> None:
        while self._backlog and not self.is_closed:
            try:
                self._pump.send(self._backlog[0])
            except zmq.Again:
                self._pump.when_writable(self._send_backlog)
                return
            self.sent_bytes += sum(map(len, self._backlog.popleft()))


class UnopenedLink:
    """A `Link` for which there was no descriptor: lost from the start."""

    def __init__(
        self, address: str, handler: LinkHandler, reason: str, on_close: Callable[["UnopenedLink"], None]
    ) -> None:
        self.address = address
        self.sent_bytes = 0
        self.received_bytes = 0
        self.is_in_contact = False
        self.is_connected = False
        self.is_closed = False
        self._on_close = on_close
        self._loses = asyncio.get_running_loop().call_soon(self._lose, handler, reason)

    def send(self, message: ToNode) -> None:
        """See `Link.send`."""

    def close(self) -> None:
        """See `Link.close`."""
        self._loses.cancel()
        self.is_closed = True
        self._on_close(self)

    def _lose(self, handler: LinkHandler, reason: str) -> None:
        self.close()
        handler.lost(f"this process can open no connection: {reason}; raise its limit (ulimit -n)")


def _only(frames: list[bytes]) -> bytes:
    if len(frames) != 1:
        raise RemoteProtocolError(f"a message has {len(frames)} frames instead of one")
    return frames[0]
