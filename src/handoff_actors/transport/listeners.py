"""The listening sockets of a process, and the refusal of newcomers while it has no descriptors left.

libzmq tries to accept a waiting connection again and again, which keeps its I/O thread busy for as long as there is no
descriptor for it; and to close the listening socket would end all connections that came in through it. So the kernel is told
to drop what newcomers send, until there are descriptors again. Some are held in reserve from the start (`Reserve`): the
connections that wait by then take a part of them, and the node's own work goes on with the others.
"""

import asyncio
import errno
import logging
import os
import socket
import struct
from array import array
from contextlib import suppress
from typing import Final

import zmq

from handoff_actors.process.open_files import OUT_OF_DESCRIPTORS, RESERVE, most_open_files

log = logging.getLogger(__name__)

#: The events that a `Listener` has to be told.
EVENTS: Final = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPT_FAILED
#: Seconds between looks whether there are descriptors again, and between log lines about that.
LOOK_S: Final = 1.0
TELL_AGAIN_S: Final = 60.0
#: libzmq's own default for connections that wait to be accepted. Those of all listeners together must fit the reserve.
_MOST_WAITING: Final = 100
_SHORT: Final = OUT_OF_DESCRIPTORS | {errno.ENOBUFS, errno.ENOMEM}
#: From linux/filter.h and asm/socket.h. The program is one instruction, "return 0": keep no byte of any packet.
_ATTACH_FILTER: Final = 26
_DETACH_FILTER: Final = 27
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)


class Listeners:
    """All listening sockets of one process."""

    def __init__(self) -> None:
        self._open: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._tells_at = 0.0

    @property
    def backlog(self) -> int:
        """The most connections that wait to be accepted, at each socket."""
        return min(_MOST_WAITING, RESERVE.size // 3)

    def bind(self, socket: zmq.Socket[bytes], address: str) -> str:
        """Bind a socket, whose `EVENTS` are to be told to a `Listener` of this. Returns the actual address. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        if self._next_look is None and not RESERVE.hold(self, self._given_up):
            self._look_later()
        socket.setsockopt(zmq.IPV6, "[" in address)
        socket.setsockopt(zmq.BACKLOG, self.backlog)
        try:
            # ZeroMQ binds to interfaces and numbers, not to names.
            socket.bind(address.replace("tcp://localhost:", "tcp://127.0.0.1:"))
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"cannot listen at {address}: {error.strerror}") from error
        return socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def listener(self) -> "Listener":
        """Return the stand-in for one more socket that listens."""
        listener = Listener(self)
        self._open.add(listener)
        return listener

    def closed(self, listener: "Listener") -> None:
        """Take note that a socket listens no more."""
        self._open.discard(listener)
        if not self._open:
            RESERVE.drop(self)
            if self._next_look is not None:
                self._next_look.cancel()
                self._next_look = None

    def accept_failed(self, number: int) -> None:
        """Take note that a connection could not be accepted, for this reason."""
        if number in _SHORT and self._next_look is None:
            self._pause()
            RESERVE.give_up()

    def _given_up(self) -> None:
        """Called in any thread."""
        # The loop may have ended.
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._pause)

    def _pause(self) -> None:
        if self._next_look is not None or not self._open:
            return
        for listener in self._open:
            listener.pause()
        self._look_later()
        now = asyncio.get_running_loop().time()
        if now >= self._tells_at:
            self._tells_at = now + TELL_AGAIN_S
            log.error(
                "out of descriptors: newcomers get no answer until there are some again; raise the limit "
                "(LimitNOFILE= of the systemd unit, ulimit -n)",
                extra={"limit": most_open_files()},
            )

    def _look(self) -> None:
        if RESERVE.hold(self, self._given_up):
            self._next_look = None
            for listener in self._open:
                listener.resume()
        else:
            self._look_later()

    def _look_later(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(LOOK_S, self._look)


class Listener:
    """One listening socket. Its owner passes on what ZeroMQ reports of it."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._socket: socket.socket | None = None

    def reported(self, event: int, value: int) -> None:
        """Take an event of `EVENTS`."""
        if event == zmq.EVENT_ACCEPT_FAILED:
            self._listeners.accept_failed(value)
        else:
            # Without a descriptor for it, it just is never paused.
            with suppress(OSError):
                self._socket = socket.socket(fileno=os.dup(value))

    def pause(self) -> None:
        """Have the kernel drop what newcomers send."""
        program = array("B", _DROP_ALL)
        self._set(_ATTACH_FILTER, struct.pack("@HP", 1, program.buffer_info()[0]))

    def resume(self) -> None:
        """Let newcomers in again."""
        self._set(_DETACH_FILTER, struct.pack("i", 0))

    def close(self) -> None:
        """Forget the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._listeners.closed(self)

    def _set(self, option: int, value: bytes) -> None:
        # A kernel that can't, as some sandboxes have, has libzmq try on.
        with suppress(OSError):
            if self._socket is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, option, value)
