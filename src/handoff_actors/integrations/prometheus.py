"""The metrics of a node for Prometheus."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.logs.setup import dropped_lines
from handoff_actors.actors.node.protocol_errors import KINDS
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.process.open_files import most_open_files
from handoff_actors.wire.versions import VERSION

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    from handoff_actors.extras import how_to_install

    raise ImportError(f"metrics need prometheus_client: {how_to_install('prometheus')}") from error

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from prometheus_client import Metric


def metrics_page(node: NodeActor) -> "WSGIApplication":
    """Make the page with the metrics of a node. It is to be asked for on the node's loop."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node))
    return make_wsgi_app(registry)


class NodeCollector(Collector):
    """The metrics of one node, for any registry. They are to be collected in the thread of the node's loop.

    The node's load is the one that it last published to the cluster, at most 0.05 seconds after a change.
    """

    def __init__(self, node: NodeActor) -> None:
        self._node = node

    def collect(self) -> "Iterator[Metric]":
        """See Collector."""
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
        # One object that is never changed, so that all metrics are of the same moment.
        state = self._node.advertised
        yield _by_resource("handoff_capability", "Resources that the node offers.", state.capabilities)
        yield _by_resource("handoff_spare", "Resources that are not claimed.", state.spare)
        yield from self._gauges()
        yield from self._counters()

    def _gauges(self) -> "Iterator[Metric]":
        node, state = self._node, self._node.advertised
        members, suspects = node.member_counts()
        leaving = "1: the node drains; it finishes the functions that it has and takes no more."
        queued = "Functions that wait for a worker, for resources or for inputs."
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        for name, text, amount in (
            ("handoff_functions_running", "Functions that run.", state.running),
            ("handoff_functions_queued", queued, state.queued),
            ("handoff_workers", "Processes that run sync functions.", state.workers),
            ("handoff_stored_bytes", "Bytes of values in the node's store.", state.stored),
            ("handoff_leaving", leaving, int(state.leaving)),
            ("handoff_runs", "Runs that the node serves.", node.runs),
            ("handoff_members", "Other members of the cluster that the node knows.", members),
            ("handoff_suspects", "Those of which it has heard nothing for a while.", suspects),
            ("handoff_open_descriptors", "Descriptors that the node's own process has open.", descriptors),
            ("handoff_descriptor_limit", "The most that it may have open.", most_open_files()),
        ):
            yield GaugeMetricFamily(name, text, amount)

    def _counters(self) -> "Iterator[Metric]":
        metrics = self._node.metrics
        for name, text, count in (
            ("handoff_functions_done", "Attempts that succeeded.", metrics.done),
            ("handoff_functions_failed", "Attempts that failed.", metrics.failed),
            ("handoff_worker_deaths", "Workers that ended unasked.", metrics.worker_deaths),
            ("handoff_fetched_bytes", "Bytes of values fetched from other nodes.", metrics.fetched_nbytes),
            ("handoff_spilled_bytes", "Bytes of values moved to disk.", self._node.spilled_nbytes),
            ("handoff_log_lines_dropped", "Log lines that were not taken.", dropped_lines()),
        ):
            yield CounterMetricFamily(name, text, count)
        refusals = CounterMetricFamily(
            "handoff_refusals", "Refused connections and messages, by kind.", labels=["kind"]
        )
        for kind in KINDS:
            refusals.add_metric([kind], self._node.protocol_errors.counts[kind])
        yield refusals


def _by_resource(name: str, text: str, amounts: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["resource"])
    for kind, amount in amounts.items():
        family.add_metric([kind], amount)
    return family
