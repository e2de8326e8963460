"""Outgoing messages: all messages of one tick of the event loop to one peer, as one frame."""

import asyncio
from collections.abc import Callable
from typing import Final

from handoff_actors.ids import PeerId
from handoff_actors.wire.codec import FrameBuilder, split
from handoff_actors.wire.messages.directions import FromNode, ToNode

#: A frame of messages, and perhaps a piece of a value.
Frames = tuple[bytearray] | tuple[bytearray, memoryview]

#: A batch this long leaves at once: more would only wait, and make the receiver's decoder hold its loop.
FULL_BATCH_BYTES: Final = 256 * 1024


class PeerOutbox:
    """Collects messages by peer and hands each peer's frame to `transmit` at the end of the tick."""

    def __init__(self, transmit: Callable[[PeerId, Frames], None]) -> None:
        self._transmit = transmit
        self._batches: dict[PeerId, FrameBuilder] = {}
        self._scheduled: asyncio.Handle | None = None
        self._is_held = False

    def hold(self) -> None:
        """Have messages from now on wait for `flush`, and not for the end of the tick."""
        self._is_held = True

    def add(self, peer: PeerId, message: FromNode | ToNode) -> None:
        """Queue a message. A batch that is long by now leaves at once, and so does a large piece of a value."""
        pieces = split(message)
        if pieces is not None:
            self._send_batch(peer)
            self._transmit(peer, pieces)
            return
        batch = self._batches.get(peer) or FrameBuilder()
        batch.add(message)
        self._batches[peer] = batch
        if batch.nbytes >= FULL_BATCH_BYTES:
            self._send_batch(peer)
        elif self._scheduled is None and not self._is_held:
            self._scheduled = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Transmit all queued messages."""
        self._is_held = False
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        batches, self._batches = self._batches, {}
        for peer, batch in batches.items():
            self._transmit(peer, (batch.frame(),))

    def _send_batch(self, peer: PeerId) -> None:
        batch = self._batches.pop(peer, None)
        if batch is not None:
            self._transmit(peer, (batch.frame(),))
