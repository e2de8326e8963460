"""Sends and receives the messages of a ZeroMQ socket within the event loop, driven by the socket's file descriptor.

The descriptor is edge-triggered: it becomes readable when something has changed, and whatever the socket does next,
a send too, may consume that signal. So EVENTS is read again after every turn and every send, and if there is more
to do another turn is scheduled; forgetting this once means a socket that sleeps on a full queue.
zmq.asyncio does the same once per message and costs several times as much.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Final

import zmq

from handoff_actors.wire.codec import PIECE_BYTES

#: Seconds that one socket may hold the loop before others get their turn.
TURN_S: Final = 0.003
#: Pieces of values that a pump delivers in one turn: each of 1 MiB takes up to 0.7 ms to be written to its store.
TURN_PIECES: Final = 2
_NOBLOCK: Final = int(zmq.NOBLOCK)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_MORE: Final = int(zmq.RCVMORE)


class Pump:
    """Reads a socket whenever it has messages, and reports when it has room for messages again.

    `accept` gets every message that arrives, as frames; `deliver` is called once after each burst of them. If given,
    `accept_piece` gets instead the messages that have one frame more than `frames_before_piece`; that frame is not copied.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        accept: Callable[[list[bytes]], None],
        deliver: Callable[[], None],
        accept_piece: Callable[[list[bytes], memoryview], None] | None = None,
        *,
        frames_before_piece: int = 1,
    ) -> None:
        self._socket = socket
        self._accept = accept
        self._accept_piece = accept_piece
        self._frames_before_piece = frames_before_piece
        self._deliver = deliver
        self._resume: Callable[[], None] | None = None
        self._next_turn: asyncio.Handle | None = None
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._descriptor, self._turn)
        # Events from before we looked give no signal any more.
        self._schedule()

    def send(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send one message, or raise zmq.Again if the socket has no room."""
        try:
            self._socket.send_multipart(frames, _NOBLOCK, copy=len(frames[-1]) < PIECE_BYTES)
        finally:
            self._look()

    def when_writable(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, as soon as the socket has room."""
        self._resume = resume
        self._look()

    def receive_rest(self) -> None:
        """Receive all messages that have arrived, however long it takes."""
        self._receive(math.inf, math.inf)

    def close(self, linger_ms: int) -> None:
        """Close the socket; queued messages are sent in the background for up to `linger_ms`."""
        self._is_closed = True
        self._loop.remove_reader(self._descriptor)
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._socket.close(linger_ms)

    def _turn(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        is_drained = False
        try:
            self._write_again()
            is_drained = self._receive(time.monotonic() + TURN_S, TURN_PIECES)
        finally:
            # Also when a handler raised: the signal for messages still in the socket will not come twice.
            if not is_drained or self._resume is not None:
                self._look()

    def _write_again(self) -> None:
        if self._resume is not None and self._events() & _POLLOUT:
            resume, self._resume = self._resume, None
            resume()

    def _receive(self, until: float, most_pieces: float) -> bool:
        """Receive messages; True if the socket said, as a look at its events would, that it has no more."""
        try:
            pieces = 0
            while not self._is_closed and pieces < most_pieces and time.monotonic() < until:
                pieces += self._receive_one()
        except zmq.Again:
            return True
        finally:
            self._deliver()
        return False

    def _receive_one(self) -> bool:
        """Receive one message; True if it is a piece of a value."""
        if self._accept_piece is None:
            self._accept(self._socket.recv_multipart(_NOBLOCK))
            return False
        socket = self._socket
        frames = [socket.recv(_NOBLOCK)]
        while has_more := socket.getsockopt(_MORE):
            if len(frames) == self._frames_before_piece:
                break
            frames.append(socket.recv(_NOBLOCK))
        if not has_more:
            self._accept(frames)
            return False
        piece = socket.recv(_NOBLOCK, copy=False)
        if piece.more:
            self._accept([*frames, piece.bytes, *socket.recv_multipart(_NOBLOCK)])
        else:
            self._accept_piece(frames, piece.buffer)
        return True

    def _look(self) -> None:
        if self._is_closed or self._next_turn is not None:
            return
        events = self._events()
        if events & _POLLIN or (self._resume is not None and events & _POLLOUT):
            self._schedule()

    def _events(self) -> int:
        return int(self._socket.getsockopt(zmq.EVENTS))

    def _schedule(self) -> None:
        self._next_turn = self._loop.call_soon(self._turn)
