"""Nodes that can't reach one another, and apps that bring values from one to the other."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Literal

from handoff_actors.core.node.events import FetchInput
from handoff_actors.core.run.events import RelayBegun
from tests.simulation.symbols import StoredBytes

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.nodes import SimulatedNode
    from tests.simulation.runs import SimulatedRun

Answer = StoredBytes | Literal["input", "unreachable", "later"]

#: The share of worlds with such pairs, and of their pairs.
APART = 0.4
#: With faults, the share of values that an app can't bring either.
FAILS = 0.2


def part(cluster: "Cluster", names: Sequence[str], aside: Random, healed_after_s: float) -> None:
    """Let some pairs of nodes not meet, for a while or for ever."""
    pairs = {frozenset({one, other}) for one in names for other in names if one < other}
    cluster.apart |= {pair for pair in sorted(pairs, key=sorted) if aside.random() < 0.7}
    if aside.random() < 0.3:
        cluster.timeline.after(healed_after_s * aside.random(), cluster.apart.clear)


def relayed(cluster: "Cluster", node: "SimulatedNode", fetch: FetchInput) -> Answer:
    """What the app answers that sent the function: the value, or that it is gone, that it can't be had, or nothing yet."""
    link = node.links.get(fetch.peer)
    if link is None or not (link.is_up and link.app.is_alive):
        return "unreachable"
    if not link.path.is_clear:
        return "later"
    if cluster.has_faults and cluster.relay_random.random() < FAILS:
        cluster.faults["not even relayed"] += 1
        return "unreachable"
    run = link.app.runs[fetch.run]
    answers: list[Answer] = []
    for name in run.machine.view.holders(fetch.index):
        answers.append(_from(name, run, node, fetch))
        if isinstance(answers[-1], StoredBytes):
            cluster.faults["relayed"] += 1
            return answers[-1]
    return "later" if "later" in answers else "unreachable" if "unreachable" in answers else "input"


def _from(name: str, run: "SimulatedRun", node: "SimulatedNode", fetch: FetchInput) -> Answer:
    """What one holder gives the app."""
    source = run.app.links.get(name)
    if source is None or not (source.is_up and source.node.is_alive):
        return "unreachable"
    if not source.path.is_clear:
        return "later"
    value = source.node.stored(fetch.run, fetch.index, fetch.version)
    if value is None:
        return "input"
    run.handle(RelayBegun(fetch.index, name, node.name))
    return value
