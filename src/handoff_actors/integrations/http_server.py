"""Serve pages over HTTP on an event loop, and bound what clients can take: descriptors, memory and the loop's time.

The loop that a node runs on answers, so that a loop that stands still answers no probe. A client costs one descriptor and at
most `HEAD_NBYTES`. Each connection goes through three states: reading the head of its request; sending the answer; waiting
until the client closes its side, because closing first with unread bytes would reset the connection and could lose the
answer. It ends `DEADLINE_S` after it was accepted, whatever state it is in. Connections are accepted so slowly that all of
this takes a small part of the loop's time.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from handoff_actors.actors.driver import clock
from handoff_actors.integrations.http_request import END_OF_HEAD

#: Connections at a time. One more takes the place of the oldest: a scraper gets through while others hold theirs open.
CONNECTIONS: Final = 16
#: From accepting a connection to its end, in seconds.
DEADLINE_S: Final = 10.0
#: Bytes of a request line and its headers. Prometheus sends some 400.
HEAD_NBYTES: Final = 8192
#: Bytes that are read and dropped behind a head.
_MOST_DROPPED_NBYTES: Final = 1024 * 1024
#: The server waits this long, in seconds, when it could not accept a connection.
ACCEPTS_AGAIN_AFTER_S: Final = 0.1
#: After each second of work none is accepted for so many seconds.
_REST: Final = 4.0
#: Shorter rests are put together.
_LEAST_REST_S: Final = 0.002


class HttpServer:
    """Answers requests on the running loop from construction to `close`. It owns `listener`, a socket that listens.

    `answer` makes the response to the head of a request.
    """

    def __init__(
        self, listener: socket.socket, answer: Callable[[bytes], bytes], deadline_s: float = DEADLINE_S
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        #: In the order in which they were accepted.
        self._connections: dict[_HttpConnection, None] = {}
        #: None while the loop watches the listener.
        self._accepts_again: asyncio.TimerHandle | None = None
        self._rest_s = 0.0
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """End all connections and the listener."""
        if self._accepts_again is not None:
            self._accepts_again.cancel()
        else:
            self._loop.remove_reader(self._listener)
        for connection in [*self._connections]:
            self._end(connection)
        self._listener.close()

    def _accept(self) -> None:
        began_at = clock()
        if len(self._connections) == CONNECTIONS:
            oldest = next(iter(self._connections))
            # Whoever has sent a request is answered before losing its place.
            self._advance(oldest)
            self._end(oldest)
        try:
            channel, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # The process is out of descriptors, most likely. The listener stays readable: watching it would spin.
            self._rest(ACCEPTS_AGAIN_AFTER_S)
            return
        channel.setblocking(False)
        connection = _HttpConnection(channel)
        connection.timer = self._loop.call_later(self._deadline_s, self._end, connection)
        self._connections[connection] = None
        self._loop.add_reader(channel, self._advance, connection)
        self._count(began_at)
        if self._rest_s >= _LEAST_REST_S:
            self._rest(self._rest_s)
            self._rest_s = 0.0

    def _count(self, began_at: float) -> None:
        self._rest_s += _REST * (clock() - began_at)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._accepts_again = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._accepts_again = None
        self._loop.add_reader(self._listener, self._accept)

    def _advance(self, connection: "_HttpConnection") -> None:
        began_at = clock()
        try:
            if connection.unsent is None:
                self._read(connection)
            elif connection.unsent:
                self._send(connection)
            else:
                self._drop(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._end(connection)
        self._count(began_at)

    def _read(self, connection: "_HttpConnection") -> None:
        received = connection.channel.recv(HEAD_NBYTES - len(connection.head))
        if not received:
            self._end(connection)
            return
        connection.head += received
        if END_OF_HEAD in connection.head or len(connection.head) == HEAD_NBYTES:
            self._loop.remove_reader(connection.channel)
            connection.unsent = memoryview(self._answer(connection.head))
            self._loop.add_writer(connection.channel, self._advance, connection)
            # Now, and not at the next turn, as the connection may lose its place before that.
            self._send(connection)

    def _send(self, connection: "_HttpConnection") -> None:
        assert connection.unsent is not None
        connection.unsent = connection.unsent[connection.channel.send(connection.unsent) :]
        if not connection.unsent:
            self._loop.remove_writer(connection.channel)
            connection.channel.shutdown(socket.SHUT_WR)
            self._loop.add_reader(connection.channel, self._advance, connection)

    def _drop(self, connection: "_HttpConnection") -> None:
        dropped_nbytes = len(connection.channel.recv(HEAD_NBYTES))
        connection.dropped_nbytes += dropped_nbytes
        if not dropped_nbytes or connection.dropped_nbytes > _MOST_DROPPED_NBYTES:
            self._end(connection)

    def _end(self, connection: "_HttpConnection") -> None:
        # It may have ended while it was advanced.
        if connection not in self._connections:
            return
        del self._connections[connection]
        assert connection.timer is not None
        connection.timer.cancel()
        self._loop.remove_reader(connection.channel)
        self._loop.remove_writer(connection.channel)
        with suppress(OSError):
            connection.channel.close()


class _HttpConnection:
    """One client."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        #: Ends the connection.
        self.timer: asyncio.TimerHandle | None = None
        #: The bytes received of the request.
        self.head = b""
        #: The bytes of the answer still to be sent; None until the request's head is complete.
        self.unsent: memoryview | None = None
        #: The bytes received behind the head.
        self.dropped_nbytes = 0
