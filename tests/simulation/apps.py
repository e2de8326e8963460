"""An app: its links to nodes, what it knows of the members, and its runs, each with the real machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from handoff_actors.core.node_events import Received
from handoff_actors.core.run_events import Heard, LetGo, NodeDown, NodeUp, RunEvent
from handoff_actors.wire.messages import (
    Beat,
    Closed,
    Completed,
    Copied,
    Failed,
    FromNode,
    Goodbye,
    Recalled,
    ToNode,
)
from simulation.network import Channel
from simulation.nodes import LEASE_S, SimulatedNode
from simulation.runs import SimulatedRun

if TYPE_CHECKING:
    from random import Random

    from handoff_actors.ids import PeerId, RunId
    from simulation.cluster import Cluster

LINK_DELAY_S = 0.003
DUPLICATES = 0.03


class Link:
    """One connection of an app to a node, from when it is welcomed until it is lost."""

    def __init__(self, app: "App", node: SimulatedNode, cluster: "Cluster") -> None:
        self.app = app
        self.node = node
        self.peer: PeerId = cluster.new_peer()
        self._cluster = cluster
        self.is_up = True
        delay_s = LINK_DELAY_S * cluster.random.choice((0.1, 1, 10))
        duplicates = DUPLICATES if cluster.has_faults else 0.0
        self.to_node: Channel[ToNode] = Channel(
            cluster.timeline, cluster.random, delay_s, self._at_node, duplicates
        )
        self.to_app: Channel[FromNode] = Channel(
            cluster.timeline, cluster.random, delay_s, self._at_app, duplicates
        )

    def cut(self, *, tell_node: bool, tell_app: bool = True) -> None:
        """Lose the connection, with all that is on its way. A side that is not told finds out in other ways."""
        if not self.is_up:
            return
        self.is_up = False
        self.to_node.close()
        self.to_app.close()
        random, timeline = self._cluster.random, self._cluster.timeline
        if tell_node:
            timeline.after(random.random() * 0.2, lambda: self.node.lost(self))
        if tell_app:
            timeline.after(random.random() * 0.2, lambda: self.app.lost(self))

    def _at_node(self, message: ToNode) -> None:
        self.node.handle(Received(self.peer, message))

    def _at_app(self, message: FromNode) -> None:
        self.app.heard(self, message)


@dataclass(frozen=True)
class Sighting:
    """What an app knows of a node."""

    seq: int
    node_up: NodeUp


class App:
    """One process that runs DAGs."""

    def __init__(self, name: str, cluster: "Cluster") -> None:
        self.name = name
        self.is_alive = True
        self.runs: dict[RunId, SimulatedRun] = {}
        self._cluster = cluster
        self._random: Random = cluster.random
        self.links: dict[str, Link] = {}
        self._connecting: set[str] = set()
        self._sightings: dict[str, Sighting] = {}

    # --- Members and links --------------------------------------------------------------------------------------

    def saw(self, node: SimulatedNode, seq: int, node_up: NodeUp) -> None:
        """Take note of an advert."""
        known = self._sightings.get(node.address)
        if not self.is_alive or (known is not None and known.seq >= seq):
            return
        self._sightings[node.address] = Sighting(seq, node_up)
        link = self.links.get(node.name)
        if link is not None and link.node is node:
            self._tell_runs(node_up)
        elif link is None and node.address not in self._connecting:
            self._connecting.add(node.address)
            self._cluster.timeline.after(self._random.random() * 0.05, lambda: self._connect(node))

    def _connect(self, node: SimulatedNode) -> None:
        self._connecting.discard(node.address)
        if not (node.is_alive and self.is_alive) or node.name in self.links:
            return
        link = self.links[node.name] = Link(self, node, self._cluster)
        node.connected(link)
        self._tell_runs(self._sightings[node.address].node_up)

    def lost(self, link: Link) -> None:
        if self.links.get(link.node.name) is link:
            del self.links[link.node.name]
            self._tell_runs(NodeDown(link.node.name, "the connection was lost"))

    def heard(self, link: Link, message: FromNode) -> None:
        if not self.is_alive or self.links.get(link.node.name) is not link:
            return
        match message:
            case Completed(number) | Failed(number) | Recalled(number) | Copied(number) | Closed(number):
                run = self.runs[number]
                if isinstance(message, Failed):
                    run.count_failure(message)
                run.handle(Heard(link.node.name, message))
            case _:
                pass

    def beat(self) -> None:
        """Renew the leases, again and again."""
        if self.is_alive and self._cluster.goes_on:
            for link in self.links.values():
                link.to_node.send(Beat())
            self._cluster.timeline.after(LEASE_S / 3, self.beat)

    def send(self, name: str, message: ToNode) -> None:
        link = self.links.get(name)
        assert link is not None, f"a run talks to {name}, to which there is no link"
        link.to_node.send(message)

    # --- Runs ---------------------------------------------------------------------------------------------------

    def start(self, run: SimulatedRun) -> None:
        if not self.is_alive:
            return
        self.runs[run.number] = run
        run.start([self._sightings[link.node.address].node_up for link in self.links.values()])

    def cancel(self) -> None:
        for run in self.runs.values():
            if run.end is None:
                run.cancel()
                return

    def let_go(self) -> None:
        for run in self.runs.values():
            run.handle(LetGo())

    def die(self, *, politely: bool) -> None:
        self.is_alive = False
        for link in list(self.links.values()):
            if politely:
                link.to_node.send(Goodbye())
            else:
                link.cut(tell_node=False, tell_app=False)

    def _tell_runs(self, event: RunEvent) -> None:
        for run in list(self.runs.values()):
            run.handle(event)
