"""A node's end of the connections of all its peers, over ZeroMQ."""

import asyncio
from collections.abc import Callable
from typing import Final

import zmq

from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import ServiceHandler
from handoff_actors.transport.link import LINGER_MS
from handoff_actors.transport.monitor import FAILURES, Failure, Monitor
from handoff_actors.transport.outbox import Frames, Outbox
from handoff_actors.transport.pump import Pump
from handoff_actors.wire.codec import TO_NODE, decode, join
from handoff_actors.wire.messages import FromNode, ToNode

#: What a message from a peer consists of: the name that ZeroMQ knows it by, and our frame.
_FRAMES: Final = 2


class ZmqService:
    """A `Service` made of one bound ROUTER socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        address: str,
        handler: ServiceHandler,
        on_close: Callable[["ZmqService"], None],
    ) -> None:
        # Without it what cannot be delivered vanishes without a word.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.address = address
        self._handler = handler
        self._on_close = on_close
        self._is_closed = False
        self._received: dict[PeerId, list[ToNode]] = {}
        self._outbox = Outbox(self._transmit)
        self._monitor = Monitor(socket, FAILURES, self._refused)
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

    def close(self) -> None:
        """See `Service.close`."""
        if not self._is_closed:
            self._outbox.flush()
            self._is_closed = True
            self._monitor.close()
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
        received, self._received = self._received, {}
        for peer, messages in received.items():
            if not self._is_closed:
                self._handler.received(peer, messages)

    def _refused(self, event: int, value: int) -> None:
        self._handler.refused(Failure(event, value).told_by_server())

    def _transmit(self, peer: PeerId, frames: Frames) -> None:
        try:
            self._pump.send((peer, *frames))
        except zmq.ZMQError as error:
            # EAGAIN: the peer's queue is full. It has not read for so long that its lease must be over.
            if error.errno not in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                raise
            asyncio.get_running_loop().call_soon(self._unreachable, peer)

    def _unreachable(self, peer: PeerId) -> None:
        if not self._is_closed:
            self._handler.unreachable(peer)


def _payload(frames: list[bytes]) -> bytes:
    if len(frames) != _FRAMES:
        raise RemoteProtocolError(f"a message has {len(frames) - 1} frames instead of one")
    return frames[1]
