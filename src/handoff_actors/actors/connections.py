"""A session's connections to the nodes that it uses: carries out the effects of a links machine."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, assert_never

from handoff_actors.actors.driver import Driver
from handoff_actors.actors.handshake import LinkFailure, open_link, text_of
from handoff_actors.core.cluster.links import (
    CloseLink,
    LinkEffect,
    LinkEvent,
    LinkLost,
    LinksMachine,
    LinkWelcomed,
    NodeAdded,
    NodeChanged,
    NodeEndAnnounced,
    NodeRemoved,
    NodeSuspected,
    OpenLink,
    RenewLeases,
    ReportMember,
    ReportUnreachable,
)
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.errors import NodeLost
from handoff_actors.ids import Resources
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Advert, Backlog, Beat, Goodbye, RunProgress, Welcome

log = logging.getLogger(__name__)

#: Once a node answers, a new session waits for others until none has answered for QUIET_S, and no longer than SETTLE_S: nodes
#: that have just died, or stand still, may still be reported.
QUIET_S = 0.25
SETTLE_S = 1.0
#: Nobody waits longer than this for the first node to answer. More than a link takes to be given up.
FIRST_S = 6.0
#: After a bug all links are made anew this soon. If it recurs, it does so no more often.
RESTART_S = 1.0


class ConnectionListener(Protocol):
    """The user of the nodes, told of their changes and their messages."""

    def node_event(self, event: NodeUp | NodeDown) -> None:
        """Take note that a node is usable, has changed, or is gone."""

    def message_received(self, name: str, message: FromNode) -> None:
        """Take a message from a node."""

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """Take note that a node's link has broken and can't be made again."""

    def member_reported(self, advert: Advert) -> None:
        """Take note of a node that answers at the address of another one, usually itself before a restart."""


class _Reachable(NamedTuple):
    advert: Advert
    network: Network
    address: str


class Connections:
    """The connections to all nodes that a session can use."""

    def __init__(
        self,
        name: str,
        listener: ConnectionListener,
        progress_of_runs: Callable[[], list[RunProgress]] = list,
        backlogs: Callable[[], list[Backlog]] = list,
    ) -> None:
        """Introduce this side by `name`; nodes are told the progress of its runs, and those that start others what waits."""
        self._name = name
        self._progress_of_runs = progress_of_runs
        self._backlogs = backlogs
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        #: The nodes by name. A node in this process is reached over memory, others over sockets.
        self._nodes: dict[str, _Reachable] = {}
        self._links: dict[int, Link] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._restart: asyncio.Handle | None = None
        self._machine = LinksMachine()
        self._driver: Driver[LinkEvent, LinkEffect] = Driver(self._machine, self._perform, self._crashed)

    # --- Changes of members -------------------------------------------------------------------------------------

    def add(self, advert: Advert, network: Network, address: str) -> None:
        """Connect to a new node, at an address of a network."""
        self._nodes[advert.name] = _Reachable(advert, network, address)
        self._feed(NodeAdded(advert, address))

    def change(self, advert: Advert) -> None:
        """Take a node's new advert."""
        self._feed(NodeChanged(advert))

    def suspect(self, name: str, *, is_suspect: bool) -> None:
        """Take note that a node has been silent for a while, or has been heard again."""
        self._feed(NodeSuspected(name, is_suspect))

    def remove(self, name: str, reason: str) -> None:
        """Close the link to a node that is gone."""
        self._nodes.pop(name, None)
        self._feed(NodeRemoved(name, reason))

    def leave(self, name: str, reason: str) -> None:
        """Close the link to a node that has said that it leaves, as soon as everything that it has said has come."""
        self._nodes.pop(name, None)
        self._feed(NodeEndAnnounced(name, reason))

    # --- For the session ----------------------------------------------------------------------------------------

    def send(self, name: str, message: ToNode) -> None:
        """Send a message to a node. The message is dropped while no link to it is up."""
        number = self._machine.link_to(name)
        link = None if number is None else self._links.get(number)
        if link is not None:
            link.send(message)

    def ups(self) -> list[NodeUp]:
        """All nodes that are usable now, by name."""
        return self._machine.ups()

    def adverts(self) -> list[Advert]:
        """The latest advert of every usable node, by name."""
        return self._machine.adverts()

    def received_bytes(self) -> int:
        """Bytes received over all present links."""
        return sum(link.received_bytes for link in self._links.values())

    async def wait_until_settled(self) -> None:
        """Wait until every node is connected, given up, or later than the others by QUIET_S."""
        await self.wait_for_any()
        end = self._loop.time() + SETTLE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S) as quiet:
                usable = len(self.ups())
                while not self._machine.is_settled:
                    await self._next_change()
                    if len(self.ups()) > usable:
                        usable = len(self.ups())
                        quiet.reschedule(min(end, self._loop.time() + QUIET_S))

    async def wait_for_any(self) -> None:
        """Wait until some node is usable, or all have been given up."""
        if not self._machine.is_connecting:
            # Each run asks, and a time limit costs a hundredth of a short one.
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                while self._machine.is_connecting:
                    await self._next_change()

    async def wait_until_offered(self, name: str, capabilities: Resources) -> None:
        """Wait until a node's advert has these capabilities. Raises NodeLost."""
        while (advert := self._machine.advert_of(name)) is not None:
            if advert.capabilities == capabilities:
                return
            await self._next_change()
        raise NodeLost(name, "it has gone")

    def close(self) -> None:
        """Send Goodbye to all nodes, and close all links."""
        self._driver.close()
        if self._restart is not None:
            self._restart.cancel()
        for link in self._links.values():
            link.send(Goodbye())
            link.close()
        self._links.clear()
        self._nodes.clear()
        self._machine = LinksMachine()
        self._wake_waiters()

    # --- Links --------------------------------------------------------------------------------------------------

    def _feed(self, event: LinkEvent) -> None:
        self._driver.feed(event)
        self._wake_waiters()

    def _perform(self, effect: LinkEffect) -> None:
        match effect:
            case NodeUp() | NodeDown():
                self._listener.node_event(effect)
            case OpenLink(number, name, address, within_s):
                listener = _NodeListener(self._feed, self._listener, name, number)
                network = self._nodes[name].network
                self._links[number] = open_link(network, address, self._name, listener, within_s)
            case CloseLink(number):
                self._links.pop(number).close()
            case RenewLeases(numbers, to_starters):
                self._beat(numbers, to_starters)
            case ReportUnreachable(name, incarnation, reason):
                del self._nodes[name]
                self._listener.member_unreachable(name, incarnation, reason)
            case ReportMember(advert):
                self._listener.member_reported(advert)
            case _:
                assert_never(effect)

    def _beat(self, numbers: Sequence[int], to_starters: Sequence[int]) -> None:
        beat = Beat(self._progress_of_runs())
        with_backlogs = Beat(beat.runs, self._backlogs()) if to_starters else beat
        for number in numbers:
            self._links[number].send(with_backlogs if number in to_starters else beat)

    def _crashed(self, error: Exception) -> LinksMachine:
        log.critical("bug in the connections: all are lost and made anew", exc_info=error)
        for link in self._links.values():
            link.close()
        self._links.clear()
        for node in list(self._nodes.values()):
            reason = "this process has met a bug of its own: see its log"
            self._listener.node_event(NodeDown(node.advert.name, reason))
        self._restart = self._loop.call_later(RESTART_S, self._begin_anew)
        self._machine = LinksMachine()
        return self._machine

    def _begin_anew(self) -> None:
        for node in list(self._nodes.values()):
            self._feed(NodeAdded(node.advert, node.address))

    async def _next_change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _NodeListener:
    """See NodeLinkListener."""

    def __init__(
        self, feed: Callable[[LinkEvent], None], listener: ConnectionListener, name: str, link: int
    ) -> None:
        self._feed = feed
        self._listener = listener
        self._name = name
        self._link = link

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener."""
        self._feed(LinkWelcomed(self._link, welcome.members[0]))

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener."""
        self._listener.message_received(self._name, message)

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        reason = text_of(failure)
        log.info("link broke", extra={"node": self._name, "reason": reason})
        self._feed(LinkLost(self._link, reason))
