"""An app: its links to nodes, what it knows of the members, and its runs, each with the real machine."""

from collections import defaultdict
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from handoff_actors.core.cluster.membership import (
    AdvertReceived,
    MemberChanged,
    MemberDown,
    MembershipEffect,
    MembershipEvent,
    MembershipMachine,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
)
from handoff_actors.core.node.events import MessageFromPeer
from handoff_actors.core.run.events import MessageFromNode, NodeDown, NodeUp, Release, RunEvent
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Advert, Beat, Goodbye, Refused
from handoff_actors.wire.messages.runs import Closed, Completed, Copied, Failed, Recalled
from tests.simulation.network import Channel, Clock, Path
from tests.simulation.nodes import LEASE_S, SimulatedNode
from tests.simulation.runs import SimulatedRun

if TYPE_CHECKING:
    from random import Random

    from handoff_actors.ids import PeerId, RunId
    from tests.simulation.cluster import Cluster

LINK_DELAY_S = 0.003
DUPLICATES = 0.03
#: A link has so long to come about, and so long when it broke before.
CONNECT_TIMEOUT_S = 5.0
RECONNECT_S = 1.0


class Link:
    """One connection of an app to a node, from when the node has welcomed it until it is lost."""

    def __init__(self, app: "App", node: SimulatedNode, path: Path, cluster: "Cluster") -> None:
        self.app = app
        self.node = node
        self.path = path
        self.peer: PeerId = cluster.new_peer()
        self._cluster = cluster
        self.is_up = True
        timeline, random = cluster.timeline, cluster.random
        delay_s = LINK_DELAY_S * random.choice((0.1, 1, 10))
        duplicates = DUPLICATES if cluster.has_faults else 0.0
        self.to_node: Channel[ToNode] = Channel(
            timeline, random, delay_s, self._at_node, duplicates, path.to_node
        )
        self.to_app: Channel[FromNode] = Channel(
            timeline, random, delay_s, self._at_app, duplicates, path.to_app
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
            timeline.after(random.random() * 0.2, self._tell_node)
        if tell_app:
            timeline.after(random.random() * 0.2, lambda: self.app.lost(self))

    def hang_up(self) -> None:
        """Have nothing more to do with it, as an app. What is on its way to the node may still arrive, and late."""
        self.is_up = False
        self.to_app.close()
        if self._cluster.random.random() < 0.5:
            self.to_node.close()
            self._tell_node()

    def _tell_node(self) -> None:
        self.path.to_node.pass_through(lambda: self.node.lost(self))

    def _at_node(self, message: ToNode) -> None:
        if self.peer in self.node.links:
            self.node.handle(MessageFromPeer(self.peer, message))
        elif self.node.is_alive:
            self._cluster.faults["late at the node"] += 1
            self.to_app.send(Refused("say Hello first"))

    def _at_app(self, message: FromNode) -> None:
        self.app.heard(self, message)


class App:
    """One process that runs DAGs."""

    def __init__(self, name: str, cluster: "Cluster") -> None:
        self.name = name
        self.clock = Clock(cluster.timeline, cluster.random)
        self.lag_s = 0.0
        self.is_alive = True
        self.runs: dict[RunId, SimulatedRun] = {}
        self.links: dict[str, Link] = {}
        #: By the address of the node.
        self.paths: defaultdict[str, Path] = defaultdict(Path)
        self._cluster = cluster
        self._random: Random = cluster.random
        self._membership = MembershipMachine()
        self._members: dict[str, Advert] = {}
        self._suspects: set[str] = set()
        self._numbers = count(1)
        #: Members to which there is no link yet, each with the number of the try.
        self._connecting: dict[str, int] = {}

    # --- Members ------------------------------------------------------------------------------------------------

    def saw(self, advert: Advert) -> None:
        """Take note of an advert, as soon as nothing is in its way."""
        self.paths[advert.address].to_app.pass_through(lambda: self._feed(AdvertReceived(advert)))

    def check(self) -> None:
        self._membership.check()

    def _feed(self, event: MembershipEvent) -> None:
        if self.is_alive:
            handle = partial(self._membership.handle, event)
            self._cluster.drive(self, self._membership, handle, self._carry_out)

    def _carry_out(self, effect: MembershipEffect) -> None:
        match effect:
            case MemberUp(advert):
                self._members[advert.name] = advert
                self._connect(advert, CONNECT_TIMEOUT_S)
            case MemberChanged(advert):
                self._members[advert.name] = advert
                self._tell_runs_of(advert.name)
            case MemberSuspected(name, is_suspect):
                (self._suspects.add if is_suspect else self._suspects.discard)(name)
                self._cluster.faults["suspected" if is_suspect else "cleared"] += self._is_working_with(name)
                self._tell_runs_of(name)
            case MemberDown(name, _, reason):
                del self._members[name]
                self._suspects.discard(name)
                self._connecting.pop(name, None)
                self._give_up(name, reason)
            case _:
                pass

    def _is_working_with(self, name: str) -> bool:
        return name in self.links and any(run.end is None for run in self.runs.values())

    # --- Links --------------------------------------------------------------------------------------------------

    def _connect(self, advert: Advert, within_s: float) -> None:
        number = self._connecting[advert.name] = next(self._numbers)
        path, after = self.paths[advert.address], self._cluster.timeline.after
        say_hello = partial(self._say_hello, advert, number)
        after(self._random.random() * 0.05, lambda: path.to_node.pass_through(say_hello))
        after(within_s, lambda: self._unreachable(advert, number))

    def _say_hello(self, advert: Advert, number: int) -> None:
        node, path = self._cluster.node_at(advert.address), self.paths[advert.address]
        if not (node.is_alive and self.is_alive):
            path.to_app.pass_through(lambda: self._unreachable(advert, number))
            return
        link = Link(self, node, path, self._cluster)
        node.connected(link)
        path.to_app.pass_through(lambda: self._welcomed(link, number))

    def _welcomed(self, link: Link, number: int) -> None:
        name = link.node.name
        if not self.is_alive or self._connecting.get(name) != number or not link.is_up:
            link.hang_up()
            return
        del self._connecting[name]
        self.links[name] = link
        self._tell_runs_of(name)

    def _unreachable(self, advert: Advert, number: int) -> None:
        if self._connecting.get(advert.name) == number:
            self._feed(MemberUnreachable(advert.name, advert.incarnation, "it does not answer"))

    def _give_up(self, name: str, reason: str) -> None:
        link = self.links.pop(name, None)
        if link is not None:
            self._cluster.faults["the app gave up a link"] += link.node.is_alive
            link.hang_up()
            self._tell_runs(NodeDown(name, reason))

    def lost(self, link: Link) -> None:
        """A link is gone. Its node may be well, so another is tried."""
        name = link.node.name
        if self.is_alive and self.links.get(name) is link:
            link.hang_up()
            del self.links[name]
            self._connect(self._members[name], RECONNECT_S)
            self._tell_runs(NodeDown(name, "the connection was lost"))

    def heard(self, link: Link, message: FromNode) -> None:
        if not self.is_alive or self.links.get(link.node.name) is not link:
            return
        match message:
            case Completed(number) | Failed(number) | Recalled(number) | Copied(number) | Closed(number):
                run = self.runs[number]
                if isinstance(message, Failed):
                    run.count_failure(message)
                run.handle(MessageFromNode(link.node.name, message))
            case Refused():
                self.lost(link)
            case _:
                pass

    def beat(self) -> None:
        """Renew the leases, again and again."""
        if self.is_alive and self._cluster.goes_on:
            for link in self.links.values():
                link.to_node.send(Beat())
            self._cluster.timeline.at(self.clock.when(self.clock.now + LEASE_S / 3), self.beat)

    def send(self, name: str, message: ToNode) -> None:
        link = self.links.get(name)
        assert link is not None, f"a run talks to {name}, to which there is no link"
        link.to_node.send(message)

    # --- Runs ---------------------------------------------------------------------------------------------------

    def start(self, run: SimulatedRun) -> None:
        if not self.is_alive:
            return
        self.runs[run.number] = run
        run.start([self._node_up(name) for name in self.links])

    def cancel(self) -> None:
        for run in self.runs.values():
            if run.end is None:
                run.cancel()
                return

    def let_go(self) -> None:
        for run in self.runs.values():
            run.handle(Release())

    def die(self, *, politely: bool) -> None:
        self.is_alive = False
        for link in list(self.links.values()):
            if politely:
                link.to_node.send(Goodbye())
            else:
                link.cut(tell_node=False, tell_app=False)

    def _tell_runs_of(self, name: str) -> None:
        if name in self.links:
            self._tell_runs(self._node_up(name))

    def _node_up(self, name: str) -> NodeUp:
        advert = self._members[name]
        return NodeUp(
            name,
            advert.address,
            advert.capabilities,
            advert.spare,
            advert.workers,
            advert.leaving,
            name in self._suspects,
            advert.python,
        )

    def _tell_runs(self, event: RunEvent) -> None:
        for run in list(self.runs.values()):
            run.handle(event)
