"""Whole clusters in one process: real sessions, nodes and workers over a `MemoryNetwork` in which things go wrong."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import handoff_actors as handoff
from handoff_actors.actors.member import Member
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.hosting import host_node
from handoff_actors.client.hub import Hub
from handoff_actors.display.options import DisplayOptions
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.endpoint import (
    CONNECT_TIMEOUT_S,
    MOST_WAITING_NBYTES,
    Link,
    LinkHandler,
    Publisher,
    Service,
    ServiceHandler,
    Subscriber,
)
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode
from handoff_actors.wire.messages.members import Left, Published, Welcome
from handoff_actors.wire.messages.runs import Assign, Close, Copy, Recall


class Ether:
    """The network between all places. Messages are encoded, as they would be between processes.

    Addresses look like those of TCP, since nodes believe no others of one another.
    """

    def __init__(self) -> None:
        self.memory = MemoryNetwork(encode=True)
        #: The place that serves at each address.
        self.places: dict[str, str] = {}
        #: Pairs of places between which nothing arrives until `join_again`; what was sent meanwhile arrives then.
        self._parted: set[frozenset[str]] = set()
        self._held: defaultdict[frozenset[str], list[Callable[[], None]]] = defaultdict(list)
        self._links: dict[FaultyLink, None] = {}
        self._ports = count(1)
        #: Places whose adverts nobody hears.
        self.mute: set[str] = set()

    def free(self, address: str) -> str:
        """Choose a port where none is named."""
        return address.removesuffix(":0") + f":{next(self._ports)}" if address.endswith(":0") else address

    def place(self, name: str) -> "Place":
        return Place(name, self)

    def part(self, one: str, other: str) -> None:
        self._parted.add(frozenset({one, other}))

    def join_again(self, one: str, other: str) -> None:
        pair = frozenset({one, other})
        self._parted.discard(pair)
        for arrive in self._held.pop(pair, ()):
            arrive()

    def are_parted(self, pair: frozenset[str]) -> bool:
        return pair in self._parted

    def pass_on(self, pair: frozenset[str], arrive: Callable[[], None]) -> None:
        if self.are_parted(pair):
            self._held[pair].append(arrive)
        else:
            arrive()

    def break_links(self, one: str, other: str) -> int:
        """Break every link between two places; the answer is how many there were."""
        broken = [link for link in self._links if link.pair == {one, other}]
        for link in broken:
            link.lose("the link was broken by a test")
        return len(broken)

    def add(self, link: "FaultyLink") -> None:
        self._links[link] = None

    def remove(self, link: "FaultyLink") -> None:
        self._links.pop(link, None)


class FaultyLink:
    """See Link and LinkHandler: it stands between the two."""

    def __init__(self, place: "Place", address: str, handler: LinkHandler, within_s: float) -> None:
        self.address = address
        self._place = place
        self._ether = place.ether
        self._handler = handler
        self._inner = self._ether.memory.link(address, self, within_s)
        self._is_up = False
        self._ether.add(self)

    @property
    def pair(self) -> frozenset[str]:
        return frozenset({self._place.name, self._ether.places.get(self.address, "")})

    @property
    def is_in_contact(self) -> bool:
        return self.is_connected

    @property
    def is_connected(self) -> bool:
        return self._inner.is_connected and not self._ether.are_parted(self.pair)

    @property
    def sent_bytes(self) -> int:
        return self._inner.sent_bytes

    @property
    def received_bytes(self) -> int:
        return self._inner.received_bytes

    @property
    def is_closed(self) -> bool:
        return self._inner.is_closed

    def send(self, message: ToNode) -> None:
        is_for_an_earlier_link = isinstance(message, Assign | Copy | Recall | Close) and not self._is_up
        assert not is_for_an_earlier_link, f"no run knows this link yet, and it is to carry {message}"
        self._ether.pass_on(self.pair, lambda: self._inner.send(message))

    def close(self) -> None:
        self._ether.remove(self)
        self._inner.close()

    def lose(self, reason: str) -> None:
        self._inner.lose(reason)

    def received(self, messages: list[FromNode]) -> None:
        self._ether.pass_on(self.pair, lambda: self._arrive(messages))

    def _arrive(self, messages: list[FromNode]) -> None:
        if self in self._ether._links:
            self._is_up |= any(isinstance(message, Welcome) for message in messages)
            self._handler.received(messages)

    def lost(self, reason: str) -> None:
        self._ether.remove(self)
        self._handler.lost(reason)

    def refused(self, reason: str) -> None:
        self._ether.remove(self)
        self._handler.refused(reason)


class Place:
    """The network as one process has it. See Network."""

    def __init__(self, name: str, ether: Ether) -> None:
        self.name = name
        self.ether = ether
        self._opened: list[FaultyLink | Service | Publisher | Subscriber] = []

    async def resolve(self, address: str) -> list[str]:
        return [address]

    def link(
        self,
        address: str,
        handler: LinkHandler,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        *,
        is_refusal_final: bool = False,
    ) -> Link:
        link = FaultyLink(self, address, handler, connect_timeout)
        self._opened.append(link)
        return link

    def serve(
        self, address: str, handler: ServiceHandler, most_waiting_nbytes: int = MOST_WAITING_NBYTES
    ) -> Service:
        service = self.ether.memory.serve(self.ether.free(address), handler, most_waiting_nbytes)
        self.ether.places[service.address] = self.name
        self._opened.append(service)
        return service

    def publisher(self, address: str) -> Publisher:
        publisher = self.ether.memory.publisher(self.ether.free(address))
        self._opened.append(publisher)
        return publisher

    def subscriber(self, handler: Callable[[list[OnBus]], None]) -> Subscriber:
        def heard(messages: list[OnBus]) -> None:
            handler([message for message in messages if not self._is_lost(message)])

        subscriber = self.ether.memory.subscriber(heard)
        self._opened.append(subscriber)
        return subscriber

    def _is_lost(self, message: OnBus) -> bool:
        name = message.name if isinstance(message, Left) else message.advert.name
        return name in self.ether.mute or (
            isinstance(message, Published) and self.ether.are_parted(frozenset({self.name, name}))
        )

    async def close(self) -> None:
        """Nothing: whoever has opened something closes it."""


class MemoryCluster:
    """Nodes n1, n2, ... and sessions, all in one process."""

    def __init__(self) -> None:
        self.ether = Ether()
        self.nodes: dict[str, NodeActor] = {}
        self._members: dict[str, Member] = {}
        self._scope = AsyncExitStack()

    async def start_node(
        self,
        name: str,
        seeds: Sequence[str] = (),
        cpu: float = 1,
        *,
        workers: int | None = None,
    ) -> NodeActor:
        place = self.ether.place(name)
        member = Member(name, open_network=lambda _: place)
        self._members[name] = member
        self._scope.push_async_callback(member.close)
        node = self.nodes[name] = await host_node(
            member,
            {"cpu": cpu} if cpu else {},
            name=name,
            workers=workers,
            listen="tcp://127.0.0.1:0",
            seeds=seeds,
        )
        return node

    async def kill(self, name: str) -> None:
        """End a node from one moment to the next: it says nothing any more."""
        self.ether.mute.add(name)
        del self.nodes[name]
        await self._members[name].close()

    def session(self, name: str = "app") -> handoff.Session:
        session = handoff.Session([node.address for node in self.nodes.values()])
        place = self.ether.place(name)
        session._hub = Hub(Credentials(), DisplayOptions(), (), open_network=lambda _: place)
        return session

    async def close(self) -> None:
        await self._scope.aclose()

    def check_that_nothing_is_left(self) -> None:
        for node in self.nodes.values():
            assert node.is_idle, f"{node.name} is not idle"
            assert node.advert().stored == 0


@asynccontextmanager
async def memory_cluster(size: int, cpu: float = 1) -> AsyncIterator[MemoryCluster]:
    """A cluster of so many nodes that all know one another."""
    cluster = MemoryCluster()
    try:
        for number in range(1, size + 1):
            await cluster.start_node(f"n{number}", [node.address for node in cluster.nodes.values()], cpu)
        yield cluster
    finally:
        await cluster.close()
