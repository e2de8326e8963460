"""The metrics of a node for Prometheus, over HTTP."""

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.integrations.metrics_server import MetricsServer
from handoff_actors.interpreter import PYTHON
from handoff_actors.wire.versions import VERSION

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    from handoff_actors.extras import how_to_install

    raise ImportError(f"metrics need prometheus_client: {how_to_install('prometheus')}") from error

if TYPE_CHECKING:
    from prometheus_client import Metric

LOOPBACK = "127.0.0.1"


def serve_metrics(node: NodeActor, port: int, host: str = LOOPBACK) -> tuple[str, Callable[[], None]]:
    """Serve the metrics of a node at http://HOST:PORT/metrics; port 0 is any free one. Raises OSError.

    Returns the address, and a function that ends the server. Anyone who can reach the address can read the metrics,
    which show no more than `handoff nodes`. Requests have to name the node by an IP address, `localhost`, `host`, this
    machine's host name or the name that the node advertises.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node))
    advertised = node.address.removeprefix("tcp://").rpartition(":")[0]
    names = (host, socket.gethostname(), advertised)
    listener = _listen(host, port)
    # Asked for now: the server owns the listener from here on.
    port = listener.getsockname()[1]
    server = MetricsServer(listener, make_wsgi_app(registry), names)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/metrics", server.close


def _listen(host: str, port: int) -> socket.socket:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, dualstack_ipv6=dual)


class NodeCollector(Collector):
    """The metrics of one node, for any registry. They may be collected in any thread.

    The node's state is the one that it last published to the cluster, at most 0.05 seconds after a change.
    """

    def __init__(self, node: NodeActor) -> None:
        self._node = node

    def collect(self) -> "Iterator[Metric]":
        """See Collector."""
        # One object that is never changed, so that all metrics are of the same moment.
        state = self._node.advertised
        yield InfoMetricFamily(
            "handoff_node",
            "The node.",
            {
                "name": self._node.name,
                "incarnation": self._node.incarnation,
                "version": VERSION,
                "python": PYTHON,
            },
        )
        yield _by_resource("handoff_capability", "Resources that the node offers.", state.capabilities)
        yield _by_resource("handoff_spare", "Resources that are not claimed.", state.spare)
        for name, text, amount in (
            ("handoff_functions_running", "Functions that run.", state.running),
            (
                "handoff_functions_queued",
                "Functions that wait for a worker, for resources or for inputs.",
                state.queued,
            ),
            ("handoff_workers", "Processes that run sync functions.", state.workers),
            ("handoff_stored_bytes", "Bytes of values in the node's store.", state.stored),
            (
                "handoff_leaving",
                "1: the node drains; it finishes the functions that it has and takes no more.",
                int(state.leaving),
            ),
        ):
            yield GaugeMetricFamily(name, text, amount)
        metrics = self._node.metrics
        for name, text, count in (
            ("handoff_functions_done", "Attempts that succeeded.", metrics.done),
            ("handoff_functions_failed", "Attempts that failed.", metrics.failed),
            ("handoff_worker_deaths", "Workers that ended unasked.", metrics.worker_deaths),
            ("handoff_fetched_bytes", "Bytes of values fetched from other nodes.", metrics.fetched_nbytes),
        ):
            yield CounterMetricFamily(name, text, count)


def _by_resource(name: str, text: str, amounts: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["resource"])
    for resource, amount in amounts.items():
        family.add_metric([resource], amount)
    return family
