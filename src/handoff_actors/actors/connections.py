"""A session's links to the nodes that it uses: one to each, opened when the node appears, opened anew when it breaks."""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from handoff_actors.core.run.events import NodeDown, NodeUp
from handoff_actors.errors import NodeLost
from handoff_actors.ids import Resources
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.interpreter import PYTHON
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Advert, Beat, Goodbye, Hello, Refused, Welcome
from handoff_actors.wire.versions import VERSION

log = logging.getLogger(__name__)

BEAT_S = 2.0
#: A broken link has so long to be made again before its node counts as dead.
RECONNECT_S = 1.0
CONNECT_TIMEOUT_S = 5.0
#: Nodes that have just died may still be told of: so long whoever joins waits for them, where others answer.
PATIENCE_S = 1.0


class ConnectionListener(Protocol):
    """Whoever works with the nodes."""

    def node_event(self, event: NodeUp | NodeDown) -> None:
        """A node can be used, has changed, or is gone."""

    def heard(self, name: str, message: FromNode) -> None:
        """A node has said something."""

    def unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """A node's link has broken and can't be made again."""

    def told_of(self, advert: Advert) -> None:
        """Another life of a node answers where an earlier one was."""


class _Connection(Struct):
    advert: Advert
    network: Network
    address: str
    link: Link | None = None
    #: It has been welcomed, and the audience knows.
    is_up: bool = False
    #: Nothing has been heard of it for a while.
    is_suspect: bool = False

    def hears_news(self, advert: Advert) -> bool:
        """Whether the advert is of this life of the node, and its latest."""
        return advert.incarnation == self.advert.incarnation and advert.seq > self.advert.seq


class Connections:
    """Every node that this session can use."""

    def __init__(self, name: str, listener: ConnectionListener) -> None:
        self._name = name
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connections: dict[str, _Connection] = {}
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(BEAT_S, self._beat)
        self._waiters: list[asyncio.Future[None]] = []

    # --- Members come and go ------------------------------------------------------------------------------------

    def add(self, advert: Advert, network: Network, address: str) -> None:
        """A node is there: connect to it at that address."""
        self.remove(advert.name, "another node has its name now")
        connection = _Connection(advert, network, address)
        self._connections[advert.name] = connection
        self._open(connection, CONNECT_TIMEOUT_S)

    def change(self, advert: Advert) -> None:
        """A node says something new of itself."""
        connection = self._connections.get(advert.name)
        if connection is not None and connection.hears_news(advert):
            connection.advert = advert
            self._tell_of(connection)
            self._wake_waiters()

    def suspect(self, name: str, *, is_suspect: bool) -> None:
        """Nothing has been heard of a node for a while, or it has spoken again."""
        connection = self._connections.get(name)
        if connection is not None:
            connection.is_suspect = is_suspect
            self._tell_of(connection)

    def remove(self, name: str, reason: str) -> None:
        """A node is gone."""
        connection = self._connections.pop(name, None)
        if connection is not None:
            if connection.link is not None:
                connection.link.close()
            self._went_down(connection, reason)

    # --- For the session ----------------------------------------------------------------------------------------

    def send(self, name: str, message: ToNode) -> None:
        """Say something to a node; dropped where there is no link."""
        connection = self._connections.get(name)
        if connection is not None and connection.link is not None:
            connection.link.send(message)

    def ups(self) -> list[NodeUp]:
        """Every node that can be used now, by name."""
        ups = [_node_up(connection) for connection in self._connections.values() if connection.is_up]
        return sorted(ups, key=lambda up: up.name)

    def adverts(self) -> list[Advert]:
        """What every node that can be used says of itself, by name."""
        adverts = [connection.advert for connection in self._connections.values() if connection.is_up]
        return sorted(adverts, key=lambda advert: advert.name)

    def received_bytes(self) -> int:
        """Bytes that have come over all links that there are."""
        links = (connection.link for connection in self._connections.values())
        return sum(link.received_bytes for link in links if link is not None)

    async def settled(self) -> None:
        """Wait until every node that is there now has been reached, or given up; for stragglers not long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while any(not connection.is_up for connection in self._connections.values()):
                    await self._next_change()
        await self.reached()

    async def reached(self) -> None:
        """Wait until some node can be used, or all have been given up."""
        while self._connections and not any(connection.is_up for connection in self._connections.values()):
            await self._next_change()

    async def until_offered(self, name: str, capabilities: Resources) -> None:
        """Wait until a node says that it offers just that. Raises NodeLost."""
        while (connection := self._connections.get(name)) is not None:
            if connection.advert.capabilities == capabilities:
                return
            await self._next_change()
        raise NodeLost(name, "it has gone")

    def close(self) -> None:
        """Say goodbye to all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in self._connections.values():
            if connection.link is not None:
                connection.link.send(Goodbye())
                connection.link.close()
        self._connections.clear()
        self._wake_waiters()

    # --- Links --------------------------------------------------------------------------------------------------

    def _open(self, connection: _Connection, within_s: float) -> None:
        handler = _ConnectionHandler(self, connection)
        connection.link = connection.network.link(connection.address, handler, within_s)
        connection.link.send(Hello(PROTOCOL, VERSION, PYTHON, self._name, None))

    def welcomed(self, connection: _Connection, advert: Advert) -> None:
        """A node answers, and says how it stands; what others have told of it may be old."""
        if advert.incarnation != connection.advert.incarnation:
            self._listener.told_of(advert)
            return
        if connection.hears_news(advert):
            connection.advert = advert
        connection.is_up = True
        self._tell_of(connection)
        self._wake_waiters()

    def heard(self, connection: _Connection, message: FromNode) -> None:
        """A node has said something."""
        self._listener.heard(connection.advert.name, message)

    def broke(self, connection: _Connection, reason: str) -> None:
        """A link is gone, and whatever was on it. Its node may be well, so a new one is tried."""
        advert = connection.advert
        if self._connections.get(advert.name) is not connection:
            return
        log.info("link broke", extra={"node": advert.name, "reason": reason})
        if connection.link is not None:
            connection.link.close()
        if connection.is_up:
            self._went_down(connection, reason)
            self._open(connection, RECONNECT_S)
            return
        connection.link = None
        del self._connections[advert.name]
        self._wake_waiters()
        self._listener.unreachable(advert.name, advert.incarnation, reason)

    def _went_down(self, connection: _Connection, reason: str) -> None:
        if connection.is_up:
            connection.is_up = False
            self._listener.node_event(NodeDown(connection.advert.name, reason))
        self._wake_waiters()

    def _tell_of(self, connection: _Connection) -> None:
        if connection.is_up:
            self._listener.node_event(_node_up(connection))

    def _beat(self) -> None:
        for connection in self._connections.values():
            if connection.link is not None:
                connection.link.send(Beat())
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    async def _next_change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _ConnectionHandler:
    def __init__(self, connections: Connections, connection: _Connection) -> None:
        self._connections = connections
        self._connection = connection

    def received(self, messages: list[FromNode]) -> None:
        """See LinkHandler."""
        for message in messages:
            match message:
                case Welcome(_, [own, *_]):
                    self._connections.welcomed(self._connection, own)
                case Refused(reason):
                    self._connections.broke(self._connection, reason)
                case _:
                    self._connections.heard(self._connection, message)

    def lost(self, reason: str) -> None:
        """See LinkHandler."""
        self._connections.broke(self._connection, reason)

    def refused(self, reason: str) -> None:
        """See LinkHandler."""
        self._connections.broke(self._connection, f"the two sides don't hold the same cluster key: {reason}")


def _node_up(connection: _Connection) -> NodeUp:
    advert = connection.advert
    return NodeUp(
        advert.name,
        advert.address,
        advert.capabilities,
        advert.spare,
        advert.workers,
        advert.leaving,
        connection.is_suspect,
        advert.python,
    )
