"""Handlers that keep what they are given, and wait for it."""

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import Link, Network, Service
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode
from handoff_actors.wire.messages.members import Left
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

LIMIT_S = 20.0
NUDGE_S = 0.01
SERVER_SCRIPT = Path(__file__).with_name("echo_server.py")


@dataclass
class Server:
    address: str
    process: subprocess.Popen[str]


class Recorder:
    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def until(
        self, is_so: Callable[[], object], *, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Wait for a condition; what `meanwhile` does is done again and again until it holds."""
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                self._changed.clear()
                if meanwhile is None:
                    await self._changed.wait()
                else:
                    meanwhile()
                    await self._change_within(NUDGE_S)

    async def _change_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return


class ClientRecorder(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.bursts: list[list[FromNode]] = []
        self.lost_reasons: list[str] = []
        self.refused_reasons: list[str] = []

    @property
    def messages(self) -> list[FromNode]:
        return [message for burst in self.bursts for message in burst]

    async def until_messages(self, count: int) -> None:
        await self.until(lambda: sum(map(len, self.bursts)) >= count)

    def received(self, messages: list[FromNode]) -> None:
        self.bursts.append(messages)
        self.changed()

    def lost(self, reason: str) -> None:
        self.lost_reasons.append(reason)
        self.changed()

    def refused(self, reason: str) -> None:
        self.refused_reasons.append(reason)
        self.changed()


class ServiceRecorder(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.bursts: list[tuple[PeerId, list[ToNode]]] = []
        self.malformed_reasons: list[str] = []
        self.unreachable_peers: list[PeerId] = []
        self.refused_reasons: list[str] = []

    @property
    def messages(self) -> list[ToNode]:
        return [message for _, burst in self.bursts for message in burst]

    async def until_messages(self, count: int) -> None:
        await self.until(lambda: sum(len(messages) for _, messages in self.bursts) >= count)

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        self.bursts.append((peer, messages))
        self.changed()

    def malformed(self, peer: PeerId, reason: str) -> None:
        self.malformed_reasons.append(reason)
        self.changed()

    def unreachable(self, peer: PeerId) -> None:
        self.unreachable_peers.append(peer)
        self.changed()

    def refused(self, reason: str) -> None:
        self.refused_reasons.append(reason)
        self.changed()


class BusRecorder(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[OnBus] = []

    def names(self) -> set[str]:
        """The names of the nodes whose adverts have come."""
        return {message.advert.name for message in self.messages if not isinstance(message, Left)}

    def __call__(self, messages: list[OnBus]) -> None:
        self.messages += messages
        self.changed()


@dataclass
class Pair:
    """A service, and a link to it on which one message has passed each way."""

    service: Service
    service_side: ServiceRecorder
    link: Link
    client_side: ClientRecorder
    peer: PeerId = field(default=PeerId(b""))


async def connected_pair(network: Network, address: str) -> Pair:
    service_side, client_side = ServiceRecorder(), ClientRecorder()
    service = network.serve(address, service_side)
    link = network.link(service.address, client_side)
    pair = Pair(service, service_side, link, client_side)
    link.send(Gone(0))
    await service_side.until(lambda: service_side.bursts)
    pair.peer = service_side.bursts[0][0]
    service.send(pair.peer, Gone(0))
    await client_side.until(lambda: client_side.bursts)
    service_side.bursts.clear()
    client_side.bursts.clear()
    return pair


class EchoService:
    """Answers a `Fetch` with a `Chunk` of the length asked for, and anything else with itself."""

    service: Service

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        for message in messages:
            match message:
                case Fetch(request, _, _, offset, length):
                    data = memoryview(bytes([offset % 251]) * length)
                    self.service.send(peer, Chunk(request, offset, length, data))
                case Gone() | Chunk():
                    self.service.send(peer, message)
                case _:
                    raise AssertionError(message)

    def malformed(self, peer: PeerId, reason: str) -> None:
        raise AssertionError(reason)

    def unreachable(self, peer: PeerId) -> None:
        """A client that has gone needs no answer."""

    def refused(self, reason: str) -> None:
        raise AssertionError(reason)
