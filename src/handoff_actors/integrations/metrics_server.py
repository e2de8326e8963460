"""Serve one page over HTTP and bound what clients can take: descriptors, memory and time.

A single thread serves every connection without blocking, so a client costs one descriptor, at most `HEAD_NBYTES` and no
thread. Each connection goes through three states: reading the head of its request; sending the answer; waiting until the
client closes its side, because closing first with unread bytes would reset the connection and could lose the answer. It
ends `DEADLINE_S` after it was accepted, whatever state it is in.
"""

import ipaddress
import logging
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Final
from wsgiref.types import WSGIApplication

log = logging.getLogger(__name__)

#: Connections at a time. One more takes the place of the oldest: a scraper gets through while others hold theirs open.
CONNECTIONS: Final = 16
#: From accepting a connection to its end, in seconds.
DEADLINE_S: Final = 10.0
#: Bytes of a request line and its headers. Prometheus sends some 400.
HEAD_NBYTES: Final = 8192
#: The server waits this long, in seconds, when it could not accept a connection.
ACCEPTS_AGAIN_AFTER_S: Final = 0.1

_PATHS: Final = ("/metrics", "/")
_METHODS: Final = ("GET", "HEAD")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_END_OF_HEAD: Final = b"\r\n\r\n"
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/\\,\s]+))(?::[0-9]*)?")


class MetricsServer:
    """A thread that answers requests from construction to `close`. It owns `listener`, a socket that listens.

    `page` is what is served. `names` are the host names that requests may be addressed to, besides `localhost` and any
    IP address.
    """

    def __init__(
        self,
        listener: socket.socket,
        page: WSGIApplication,
        names: Collection[str],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._listener = listener
        self._answer: Callable[[bytes], bytes] = lambda head: _Request(head, page, names).answer()
        self._deadline_s = deadline_s
        #: In the order in which they were accepted.
        self._connections: dict[_HttpConnection, None] = {}
        #: In monotonic seconds; None while the selector watches the listener.
        self._accepts_again_at: float | None = None
        with ExitStack() as closing:
            closing.enter_context(listener)
            self._selector = closing.enter_context(selectors.DefaultSelector())
            self._stop, self._stopped = socket.socketpair()
            closing.enter_context(self._stop)
            closing.enter_context(self._stopped)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
            self._selector.register(self._stopped, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
            self._thread.start()
            self._closing = closing.pop_all()

    def close(self) -> None:
        """End all connections, the thread and the listener."""
        self._stop.shutdown(socket.SHUT_WR)
        self._thread.join()
        self._closing.close()

    def _serve(self) -> None:
        while True:
            ready = {key.fileobj: key.data for key, _ in self._selector.select(self._wait_s())}
            if self._stopped in ready:
                break
            # Connections come before the listener: whoever has sent a request is answered before losing its place.
            for connection in filter(None, ready.values()):
                self._advance(connection)
            if self._listener in ready:
                self._accept()
            self._keep_time(time.monotonic())
        for connection in [*self._connections]:
            self._end(connection)

    def _wait_s(self) -> float | None:
        times = [connection.ends_at for connection in self._connections]
        if self._accepts_again_at is not None:
            times.append(self._accepts_again_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _keep_time(self, now: float) -> None:
        for connection in [*self._connections]:
            if now >= connection.ends_at:
                self._end(connection)
        if self._accepts_again_at is not None and now >= self._accepts_again_at:
            self._accepts_again_at = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        if len(self._connections) == CONNECTIONS:
            self._end(next(iter(self._connections)))
        try:
            channel, _ = self._listener.accept()
        except OSError:
            # The process is out of descriptors, most likely. The listener stays readable: watching it would spin.
            self._selector.unregister(self._listener)
            self._accepts_again_at = time.monotonic() + ACCEPTS_AGAIN_AFTER_S
            return
        channel.setblocking(False)
        connection = _HttpConnection(channel, time.monotonic() + self._deadline_s)
        self._connections[connection] = None
        self._selector.register(channel, selectors.EVENT_READ, connection)

    def _advance(self, connection: "_HttpConnection") -> None:
        try:
            if connection.unsent is None:
                self._read(connection)
            elif connection.unsent:
                self._send(connection)
            elif not connection.channel.recv(HEAD_NBYTES):
                self._end(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._end(connection)

    def _read(self, connection: "_HttpConnection") -> None:
        received = connection.channel.recv(HEAD_NBYTES - len(connection.head))
        if not received:
            self._end(connection)
            return
        connection.head += received
        if _END_OF_HEAD in connection.head or len(connection.head) == HEAD_NBYTES:
            connection.unsent = memoryview(self._answer(connection.head))
            self._selector.modify(connection.channel, selectors.EVENT_WRITE, connection)
            # Now, and not at the next turn, as the connection may lose its place before that.
            self._send(connection)

    def _send(self, connection: "_HttpConnection") -> None:
        assert connection.unsent is not None
        connection.unsent = connection.unsent[connection.channel.send(connection.unsent) :]
        if not connection.unsent:
            connection.channel.shutdown(socket.SHUT_WR)
            self._selector.modify(connection.channel, selectors.EVENT_READ, connection)

    def _end(self, connection: "_HttpConnection") -> None:
        del self._connections[connection]
        self._selector.unregister(connection.channel)
        connection.channel.close()


class _HttpConnection:
    """One client."""

    def __init__(self, channel: socket.socket, ends_at: float) -> None:
        self.channel = channel
        #: In monotonic seconds.
        self.ends_at = ends_at
        #: The bytes received of the request.
        self.head = b""
        #: The bytes of the answer still to be sent; None until the request's head is complete.
        self.unsent: memoryview | None = None


class _Request(BaseHTTPRequestHandler):
    """One request, parsed and answered in memory."""

    # Also for a request that names no version, which the base class would take for HTTP/0.9, which has no headers.
    default_request_version = "HTTP/1.0"
    request_version = default_request_version
    command = ""

    def __init__(self, head: bytes, page: WSGIApplication, names: Collection[str]) -> None:
        # The base class would read from a socket, and block.
        self._head = head
        self._page = page
        self._names = names
        self.rfile = BytesIO(head)
        self._answered = self.wfile = BytesIO()

    def answer(self) -> bytes:
        """Return the whole response."""
        self.raw_requestline = self.rfile.readline()
        if _END_OF_HEAD not in self._head:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self.parse_request():
            self._serve()
        elif not self._answered.tell():
            # The request line is empty, which the base class skips in silence.
            self.send_error(HTTPStatus.BAD_REQUEST)
        return self._answered.getvalue()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error in plain text; the base class would send HTML and name its version."""
        text = explain or message or HTTPStatus(code).phrase
        self._respond(code, f"{text}\n".encode(), [_TEXT])

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            self.send_error(HTTPStatus.BAD_REQUEST, "A request needs one Host header.")
        elif not is_expected(hosts[0], self._names):
            self.send_error(
                HTTPStatus.MISDIRECTED_REQUEST,
                "The Host header names a host that this node isn't known as. Use the node's IP address or host name, "
                "or start the node with that name as --metrics-host or --advertise.",
            )
        elif self.command not in _METHODS:
            text = f"Use {' or '.join(_METHODS)}.\n".encode()
            self._respond(HTTPStatus.METHOD_NOT_ALLOWED, text, [_TEXT, ("Allow", ", ".join(_METHODS))])
        elif path not in _PATHS:
            self.send_error(HTTPStatus.NOT_FOUND, "Metrics are at /metrics.")
        else:
            self._serve_page(path, query)

    def _serve_page(self, path: str, query: str) -> None:
        headers: list[tuple[str, str]] = []

        def start_response(
            _status: str, given: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            headers.extend(given)
            return body.write

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_ACCEPT": self.headers.get("Accept", ""),
            "HTTP_ACCEPT_ENCODING": self.headers.get("Accept-Encoding", ""),
        }
        body = BytesIO()
        try:
            body.writelines(self._page(environ, start_response))
        except Exception:
            # A malformed Accept header is enough: prometheus_client raises TypeError for `version=1.x`.
            log.debug("a request for metrics failed", exc_info=True)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            self._respond(HTTPStatus.OK, body.getvalue(), headers)

    def _respond(self, code: int, body: bytes, headers: Collection[tuple[str, str]]) -> None:
        self.send_response_only(code)
        for name, value in (
            ("Date", self.date_time_string()),
            *headers,
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def is_expected(host: str, names: Collection[str]) -> bool:
    """True if a Host header names an IP address, `localhost` or one of `names`, at any port.

    A web page can have its own name resolve to this machine (DNS rebinding), so that a browser lets it read the answer;
    its requests then carry that name. It can't do so with an address, which no name server resolves.
    """
    parts = _HOST.fullmatch(host.strip())
    if parts is None:
        return False
    name = (parts[1] or parts[2]).lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        known = {"localhost", *(name.lower().removesuffix(".") for name in names)} - {""}
        return name.removesuffix(".") in known
    return True
