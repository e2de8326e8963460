"""The pages of a node: whether it lives, whether runs should use it, and its metrics."""

import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from wsgiref.types import WSGIApplication

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.integrations.http_request import Site, TextPage
from handoff_actors.integrations.http_server import HttpServer

LOOPBACK = "127.0.0.1"


def serve_pages(
    node: NodeActor, port: int, host: str, metrics: WSGIApplication | str
) -> tuple[str, Callable[[], None]]:
    """Serve /healthz, /readyz and /metrics of a node at http://HOST:PORT; port 0 is any free one. Raises OSError.

    `metrics` is the page, or the reason for which there is none. Returns the address, and a function that ends the server.
    Anyone who can reach the address can read the pages, which show no more than `handoff nodes`. Requests have to name the
    node by an IP address, `localhost`, `host`, this machine's host name or the name that the node advertises.
    """
    advertised = node.address.removeprefix("tcp://").rpartition(":")[0]
    texts: dict[str, TextPage] = {"/healthz": _alive, "/readyz": lambda: _readiness(node)}
    applications: Mapping[str, WSGIApplication] = {}
    if isinstance(metrics, str):
        texts["/metrics"] = lambda: (HTTPStatus.NOT_IMPLEMENTED, metrics)
    else:
        applications = {"/metrics": metrics, "/": metrics}
    listener = _listen(host, port)
    # Asked for now: the server owns the listener from here on.
    port = listener.getsockname()[1]
    server = HttpServer(listener, Site((host, socket.gethostname(), advertised), texts, applications).answer)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}", server.close


def _alive() -> tuple[HTTPStatus, str]:
    # The loop that the node runs on has come to this.
    return HTTPStatus.OK, "alive"


def _readiness(node: NodeActor) -> tuple[HTTPStatus, str]:
    state = node.advertised
    reason = "it is leaving" if state.leaving else state.out_of_use
    return (HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {reason}") if reason else (HTTPStatus.OK, "ready")


def _listen(host: str, port: int) -> socket.socket:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, dualstack_ipv6=dual)
