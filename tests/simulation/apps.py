"""An app: its links to nodes, what it knows of the members, and its runs, each with the real machine."""

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from handoff_actors.core.cluster.links import NodeAdded, NodeChanged, NodeRemoved, NodeSuspected
from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import (
    AdvertReceived,
    Introduce,
    MemberChanged,
    MemberDown,
    MembershipEffect,
    MembershipEvent,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
)
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.events import MessageFromNode, Release, RoomFreed
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Advert
from handoff_actors.wire.messages.runs import (
    Closed,
    Completed,
    Copied,
    Crashed,
    Failed,
    Recalled,
    Rejected,
    Stopped,
)
from tests.simulation.links import Link, Links
from tests.simulation.network import Clock, Path
from tests.simulation.runs import SimulatedRun

if TYPE_CHECKING:
    from handoff_actors.ids import RunId
    from tests.simulation.cluster import Cluster


#: Seconds until a node has heard an introduction.
ANSWERED_S = 0.02


class App:
    """One process that runs DAGs."""

    def __init__(self, name: str, cluster: "Cluster") -> None:
        self.name = name
        self.clock = Clock(cluster.timeline, cluster.random)
        self.lag_s = 0.0
        self.is_alive = True
        self.runs: dict[RunId, SimulatedRun] = {}
        #: By the address of the node.
        self._paths: defaultdict[str, Path] = defaultdict(Path)
        self.load = SessionLoad(salt=name)
        self._will_tell_of_room = False
        self._cluster = cluster
        self._membership = MembershipMachine()
        self._links = Links(self, cluster)

    # --- Members ------------------------------------------------------------------------------------------------

    def saw(self, advert: Advert) -> None:
        """Take note of an advert, as soon as nothing is in its way."""
        self._paths[advert.address].to_app.pass_through(lambda: self._feed(AdvertReceived(advert)))

    def check(self) -> None:
        self._membership.check()

    def _feed(self, event: MembershipEvent) -> None:
        if self.is_alive:
            handle = partial(self._membership.handle, event)
            self._cluster.drive(self, self._membership, handle, self._carry_out)

    def _carry_out(self, effect: MembershipEffect) -> None:
        match effect:
            case MemberUp(advert):
                self._links.feed(NodeAdded(advert, advert.address))
            case MemberChanged(advert):
                self._links.feed(NodeChanged(advert))
            case MemberSuspected(name, is_suspect):
                self._cluster.faults["suspected" if is_suspect else "cleared"] += self._is_working_with(name)
                self._links.feed(NodeSuspected(name, is_suspect))
            case MemberDown(name, _, reason):
                self._links.feed(NodeRemoved(name, reason))
            case Introduce(address):
                self._introduce(address)
            case _:
                pass

    def _introduce(self, address: str) -> None:
        """Ask the node at an address for its advert. Nobody answers where there is none."""
        path = self._paths[address]

        def ask() -> None:
            node = self._cluster.node_at(address)
            if node.is_alive:
                answer = AdvertReceived(self._cluster.answer_of(node), "answer")
                path.to_app.pass_through(lambda: self._feed(answer))

        self._cluster.timeline.after(ANSWERED_S, lambda: path.to_node.pass_through(ask))

    def _is_working_with(self, name: str) -> bool:
        return name in self.links and any(run.end is None for run in self.runs.values())

    # --- Links: see ConnectionListener --------------------------------------------------------------------------

    @property
    def links(self) -> dict[str, Link]:
        """The links to nodes that can be used, by name."""
        return self._links.up()

    def path_to(self, address: str) -> Path:
        return self._paths[address]

    def node_event(self, event: NodeUp | NodeDown) -> None:
        if self.load.take(event):
            for run in list(self.runs.values()):
                run.handle(event)
        self.tell_of_room()

    def tell_of_room(self) -> None:
        if not self._will_tell_of_room:
            self._will_tell_of_room = True
            self._cluster.timeline.after(0.0, self._tell_of_room)

    def _tell_of_room(self) -> None:
        self._will_tell_of_room = False
        for number in self.load.runs_to_tell():
            self.runs[number].handle(RoomFreed())

    def message_received(self, name: str, message: FromNode) -> None:
        match message:
            case (
                Completed(number)
                | Failed(number)
                | Recalled(number)
                | Copied(number)
                | Stopped(number)
                | Closed(number)
                | Rejected(number)
            ):
                run = self.runs[number]
                if isinstance(message, Failed):
                    run.count_failure(message)
                run.handle(MessageFromNode(name, message))
            case Crashed():
                for run in list(self.runs.values()):
                    run.handle(MessageFromNode(name, message))
            case _:
                pass

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        self._feed(MemberUnreachable(name, incarnation, reason))

    def member_reported(self, advert: Advert) -> None:
        self._feed(AdvertReceived(advert, "answer"))

    def send(self, name: str, message: ToNode) -> None:
        link = self._links.to(name)
        assert link is not None, f"a run talks to {name}, to which there is no link"
        link.to_node.send(message)

    # --- Runs ---------------------------------------------------------------------------------------------------

    def start(self, run: SimulatedRun) -> None:
        if not self.is_alive:
            return
        self.runs[run.number] = run
        run.start(self._links.ups())

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
        self._links.die(politely=politely)
