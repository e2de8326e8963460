"""The links of an app to nodes: the real machine, and connections that are late, break and are cut off."""

from functools import partial
from typing import TYPE_CHECKING, assert_never

from handoff_actors.core.cluster.links import (
    CloseLink,
    LinkEffect,
    LinkEvent,
    LinkLost,
    LinksMachine,
    LinkWelcomed,
    OpenLink,
    RenewLeases,
    ReportMember,
    ReportUnreachable,
)
from handoff_actors.core.node.events import MessageFromPeer
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Advert, Beat, Goodbye, Refused
from tests.simulation.network import Channel, Clock, Path
from tests.simulation.nodes import LEASE_S, SimulatedNode

if TYPE_CHECKING:
    from handoff_actors.ids import PeerId
    from tests.simulation.apps import App
    from tests.simulation.cluster import Cluster

LINK_DELAY_S = 0.003
DUPLICATES = 0.03
#: A connection that is refused is tried again this soon.
RETRY_S = 0.1


class Link:
    """One connection to a node, from when the node has heard Hello until it is lost."""

    def __init__(
        self, number: int, name: str, node: SimulatedNode, path: Path, links: "Links", cluster: "Cluster"
    ) -> None:
        self.number = number
        #: That of the node, as far as the app knows: another one may have its address now.
        self.name = name
        self.node = node
        self.path = path
        self.peer: PeerId = cluster.new_peer()
        self.app = links.app
        self.is_up = True
        self._links = links
        self._cluster = cluster
        timeline, random = cluster.timeline, cluster.random
        delay_s = LINK_DELAY_S * random.choice((0.1, 1, 10))
        duplicates = DUPLICATES if cluster.has_faults else 0.0
        self.to_node: Channel[ToNode] = Channel(
            timeline, random, delay_s, self._at_node, duplicates, path.to_node
        )
        self.to_app: Channel[FromNode] = Channel(
            timeline, random, delay_s, partial(links.received, self), duplicates, path.to_app
        )

    def cut(self, *, notify_node: bool, notify_app: bool = True) -> None:
        """Lose the connection, with all that is on its way. A side that is not told finds out in other ways."""
        if not self.is_up:
            return
        self.is_up = False
        self.to_node.close()
        self.to_app.close()
        random, timeline = self._cluster.random, self._cluster.timeline
        if notify_node:
            timeline.after(random.random() * 0.2, self._notify_node)
        if notify_app:
            lost = LinkLost(self.number, "the connection was lost")
            timeline.after(random.random() * 0.2, lambda: self._links.feed(lost))

    def hang_up(self) -> None:
        """Have nothing more to do with it, as an app. What is on its way to the node may still arrive, and late."""
        self.is_up = False
        self.to_app.close()
        if self._cluster.random.random() < 0.5:
            self.to_node.close()
            self._notify_node()

    def _notify_node(self) -> None:
        self.path.to_node.pass_through(lambda: self.node.lost(self))

    def _at_node(self, message: ToNode) -> None:
        if self.peer in self.node.links:
            self.node.handle(MessageFromPeer(self.peer, message))
        elif self.node.is_alive:
            self._cluster.faults["late at the node"] += 1
            self.to_app.send(Refused("say Hello first"))


class Links:
    """All links of one app."""

    def __init__(self, app: "App", cluster: "Cluster") -> None:
        self.app = app
        self._cluster = cluster
        self._machine = LinksMachine(beat_s=LEASE_S / 3)
        #: By number, while they are wanted; None before the node has heard Hello.
        self._open: dict[int, Link | None] = {}

    @property
    def is_alive(self) -> bool:
        return self.app.is_alive

    @property
    def clock(self) -> Clock:
        return self.app.clock

    @property
    def lag_s(self) -> float:
        return 0.0

    def check(self) -> None:
        self._machine.check()

    # --- What the app asks --------------------------------------------------------------------------------------

    def feed(self, event: LinkEvent) -> None:
        if self.is_alive:
            self._cluster.drive(self, self._machine, partial(self._machine.handle, event), self._carry_out)

    def ups(self) -> list[NodeUp]:
        return self._machine.ups()

    def up(self) -> dict[str, Link]:
        """The links to nodes that can be used, by name."""
        links = {node.name: self.to(node.name) for node in self._machine.ups()}
        return {name: link for name, link in links.items() if link is not None}

    def to(self, name: str) -> Link | None:
        number = self._machine.link_to(name)
        return None if number is None else self._open[number]

    def die(self, *, politely: bool) -> None:
        for link in self._open.values():
            if link is None:
                continue
            if politely:
                link.to_node.send(Goodbye())
            else:
                link.cut(notify_node=False, notify_app=False)

    # --- What the machine decides -------------------------------------------------------------------------------

    def _carry_out(self, effect: LinkEffect) -> None:  # noqa: C901 - one table
        match effect:
            case NodeUp() | NodeDown():
                self.app.node_event(effect)
            case OpenLink():
                self._connect(effect)
            case CloseLink(number):
                link = self._open.pop(number)
                if link is not None:
                    self._cluster.faults["the app gave up a link"] += link.is_up and link.node.is_alive
                    link.hang_up()
            case RenewLeases(numbers):
                for number in numbers:
                    link = self._open[number]
                    if link is not None:
                        link.to_node.send(Beat())
            case ReportUnreachable(name, incarnation, reason):
                self.app.member_unreachable(name, incarnation, reason)
            case ReportMember(advert):
                self._cluster.faults["another life answered"] += 1
                self.app.member_reported(advert)
            case _:
                assert_never(effect)

    def _connect(self, wanted: OpenLink) -> None:
        self._open[wanted.link] = None
        self._try(wanted)
        self._cluster.timeline.after(wanted.within_s, lambda: self._time_is_up(wanted.link))

    def _try(self, wanted: OpenLink) -> None:
        path = self.app.path_to(wanted.address)
        say_hello = partial(self._say_hello, wanted, path)
        delay_s = self._cluster.random.random() * 0.05
        self._cluster.timeline.after(delay_s, lambda: path.to_node.pass_through(say_hello))

    def _say_hello(self, wanted: OpenLink, path: Path) -> None:
        node = self._cluster.node_at(wanted.address)
        if not self.is_alive or wanted.link not in self._open:
            return
        if not node.is_alive:
            # Another life may take its place in time.
            self._cluster.timeline.after(RETRY_S, lambda: self._try(wanted))
            return
        link = Link(wanted.link, wanted.name, node, path, self, self._cluster)
        node.connected(link)
        advert = self._cluster.advert_of(node)
        path.to_app.pass_through(lambda: self._welcomed(link, advert))

    def _welcomed(self, link: Link, advert: Advert) -> None:
        if not self.is_alive or self._open.get(link.number, link) is not None or not link.is_up:
            link.hang_up()
            return
        self._open[link.number] = link
        self.feed(LinkWelcomed(link.number, advert))

    def _time_is_up(self, number: int) -> None:
        if number in self._open and self._open[number] is None:
            self.feed(LinkLost(number, "it does not answer"))

    def received(self, link: Link, message: FromNode) -> None:
        """See NodeLinkListener."""
        if not self.is_alive or self._open.get(link.number) is not link:
            return
        if isinstance(message, Refused):
            self.feed(LinkLost(link.number, message.reason))
        else:
            self.app.message_received(link.name, message)
