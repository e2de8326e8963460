"""A node's end of the connections of all its peers, over ZeroMQ.

ZeroMQ's limit for its queues counts messages, and a thousand of them may be a gigabyte. So it is given few at a time, and
messages that it does not take wait here, where bytes are counted: a peer that does not read is cut off before it costs
the node its memory.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq

from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import ServiceHandler
from handoff_actors.transport.link import LINGER_MS
from handoff_actors.transport.listeners import EVENTS, Listeners
from handoff_actors.transport.monitor import FAILURES, HandshakeFailure, Monitor
from handoff_actors.transport.outbox import Frames, PeerOutbox
from handoff_actors.transport.pump import Pump
from handoff_actors.wire.codec import TO_NODE, decode, join
from handoff_actors.wire.messages.directions import FromNode, ToNode

log = logging.getLogger(__name__)

#: Messages to one peer that ZeroMQ queues; most are of less than 256 KiB.
MOST_QUEUED_MESSAGES: Final = 64
#: Seconds after which a peer that had no room is tried again, unless the socket reports room earlier.
RETRY_S: Final = 0.02

#: The frames of a peer's message: ZeroMQ's name for the peer, and our frame.
_FRAMES: Final = 2


class ZmqService:
    """A `Service` made of one bound ROUTER socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        handler: ServiceHandler,
        most_waiting_nbytes: int,
        listeners: Listeners,
        on_close: Callable[["ZmqService"], None],
    ) -> None:
        """Listen at an address. Raises OSError."""
        # Without it undeliverable messages vanish without a word.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._listener = listeners.listener()
        self._monitor = Monitor(socket, FAILURES | EVENTS, self._monitored)
        try:
            self.address = listeners.bind(socket, address)
        except OSError:
            self._monitor.close()
            self._listener.close()
            raise
        self._handler = handler
        self._on_close = on_close
        self._is_closed = False
        self._received: dict[PeerId, list[ToNode]] = {}
        self._most_waiting_nbytes = most_waiting_nbytes
        #: Messages for which ZeroMQ has no room now.
        self._waiting: dict[PeerId, _Queue] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._outbox = PeerOutbox(self._transmit)
        self._pump = Pump(
            socket, self._accept, self._deliver, self._accept_piece, frames_before_piece=_FRAMES
        )

    def send(self, peer: PeerId, message: FromNode) -> None:
        """See `Service.send`."""
        if not self._is_closed:
            self._outbox.add(peer, message)

    def hold(self) -> None:
        """See `Service.hold`."""
        self._outbox.hold()

    def flush(self) -> None:
        """See `Service.flush`."""
        self._outbox.flush()

    def waiting_nbytes(self, peer: PeerId) -> int:
        """Return the bytes that wait for a peer to read, not counting those that ZeroMQ and the kernel have taken."""
        queue = self._waiting.get(peer)
        return 0 if queue is None else queue.nbytes

    def close(self) -> None:
        """See `Service.close`."""
        if not self._is_closed:
            self._outbox.flush()
            self._send_waiting()
            self._is_closed = True
            if self._retry is not None:
                self._retry.cancel()
            self._waiting.clear()
            self._monitor.close()
            self._listener.close()
            self._pump.close(LINGER_MS)
            self._on_close(self)

    def _accept(self, frames: list[bytes]) -> None:
        peer = PeerId(frames[0])
        try:
            messages = decode(_payload(frames), TO_NODE)
        except RemoteProtocolError as error:
            self._handler.malformed(peer, str(error))
        else:
            self._received.setdefault(peer, []).extend(messages)

    def _accept_piece(self, frames: list[bytes], piece: memoryview) -> None:
        peer = PeerId(frames[0])
        try:
            messages = join(_payload(frames), piece, TO_NODE)
        except RemoteProtocolError as error:
            self._handler.malformed(peer, str(error))
        else:
            self._received.setdefault(peer, []).extend(messages)

    def _deliver(self) -> None:
        # The socket has stirred, perhaps because a peer has read.
        if self._waiting:
            self._send_waiting()
        received, self._received = self._received, {}
        for peer, messages in received.items():
            if not self._is_closed:
                self._handler.received(peer, messages)

    def _monitored(self, event: int, value: int, _endpoint: str) -> None:
        if event & EVENTS:
            self._listener.reported(event, value)
            return
        self._handler.refused(HandshakeFailure(event, value).reason_for_server())

    def _transmit(self, peer: PeerId, frames: Frames) -> None:
        queue = self._waiting.get(peer)
        if queue is None:
            if self._is_sent(peer, frames):
                return
            queue = self._waiting[peer] = _Queue()
        elif queue.nbytes > self._most_waiting_nbytes:
            log.warning(
                "cut off a peer that does not read",
                extra={"peer": peer.hex(), "waiting_nbytes": queue.nbytes},
            )
            self._give_up(peer)
            return
        queue.add(frames)
        self._send_again_soon()

    def _is_sent(self, peer: PeerId, frames: Frames) -> bool:
        """True if ZeroMQ has taken a message, or its receiver is gone."""
        try:
            self._pump.send((peer, *frames))
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._give_up(peer)
        return True

    def _send_again(self) -> None:
        self._retry = None
        self._send_waiting()
        self._send_again_soon()

    def _send_again_soon(self) -> None:
        if self._waiting and self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._send_again)

    def _send_waiting(self) -> None:
        for peer, queue in list(self._waiting.items()):
            while queue.frames and self._is_sent(peer, queue.frames[0]):
                queue.drop_first()
            if not queue.frames:
                self._waiting.pop(peer, None)

    def _give_up(self, peer: PeerId) -> None:
        queue = self._waiting.pop(peer, None)
        if queue is not None:
            queue.frames.clear()
        self._loop.call_soon(self._unreachable, peer)

    def _unreachable(self, peer: PeerId) -> None:
        if not self._is_closed:
            self._handler.unreachable(peer)


class _Queue:
    """The messages that wait for one peer."""

    def __init__(self) -> None:
        self.frames: deque[Frames] = deque()
        self.nbytes = 0

    def add(self, frames: Frames) -> None:
        self.frames.append(frames)
        self.nbytes += sum(map(len, frames))

    def drop_first(self) -> None:
        # The peer may have been given up meanwhile.
        if self.frames:
            self.nbytes -= sum(map(len, self.frames.popleft()))


def _payload(frames: list[bytes]) -> bytes:
    if len(frames) != _FRAMES:
        raise RemoteProtocolError(f"a message has {len(frames) - 1} frames instead of one")
    return frames[1]
