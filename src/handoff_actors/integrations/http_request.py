"""Parses one HTTP request and makes the answer to it, in memory."""

import ipaddress
import logging
import re
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Final
from wsgiref.types import WSGIApplication

from msgspec import Struct

log = logging.getLogger(__name__)

_METHODS: Final = ("GET", "HEAD")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
END_OF_HEAD: Final = b"\r\n\r\n"
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/\\,\s]+))(?::[0-9]*)?")

#: Gives the status and the text of a page.
TextPage = Callable[[], tuple[HTTPStatus, str]]


class Site(Struct, frozen=True):
    """The pages of a server, by path, and the host names that requests may be addressed to, besides `localhost` and any IP address."""

    names: Collection[str]
    texts: Mapping[str, TextPage]
    applications: Mapping[str, WSGIApplication]

    def answer(self, head: bytes) -> bytes:
        """Return the whole response to a request; `head` is its line and its headers, or as much of them as is admitted."""
        return _Request(head, self).answer()


class _Request(BaseHTTPRequestHandler):
    """One request, parsed and answered in memory."""

    # Also for a request that names no version, which the base class would take for HTTP/0.9, which has no headers.
    default_request_version = "HTTP/1.0"
    request_version = default_request_version
    command = ""

    def __init__(self, head: bytes, site: Site) -> None:
        # The base class would read from a socket, and block.
        self._head = head
        self._site = site
        self.rfile = BytesIO(head)
        self._answered = self.wfile = BytesIO()

    def answer(self) -> bytes:
        """Return the whole response."""
        self.raw_requestline = self.rfile.readline()
        if END_OF_HEAD not in self._head:
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
        elif not is_expected(hosts[0], self._site.names):
            self.send_error(
                HTTPStatus.MISDIRECTED_REQUEST,
                "The Host header names a host that this node isn't known as. Use the node's IP address or host name, "
                "or start the node with that name as --metrics-host or --advertise.",
            )
        elif self.command not in _METHODS:
            text = f"Use {' or '.join(_METHODS)}.\n".encode()
            self._respond(HTTPStatus.METHOD_NOT_ALLOWED, text, [_TEXT, ("Allow", ", ".join(_METHODS))])
        elif path in self._site.texts:
            status, page = self._site.texts[path]()
            self._respond(status, f"{page}\n".encode(), [_TEXT])
        elif path in self._site.applications:
            self._serve_application(self._site.applications[path], path, query)
        else:
            paths = sorted({*self._site.texts, *self._site.applications} - {"/"})
            self.send_error(HTTPStatus.NOT_FOUND, f"There are {', '.join(paths)}.")

    def _serve_application(self, application: WSGIApplication, path: str, query: str) -> None:
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
            body.writelines(application(environ, start_response))
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
