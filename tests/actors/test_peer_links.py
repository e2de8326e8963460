"""Links on which values are fetched: no fetch waits for a connection that is not to be had."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from handoff_actors.actors.fetcher import Fetcher, FetchFailure
from handoff_actors.actors.peer_links import PeerLinks
from handoff_actors.ids import RunId
from handoff_actors.store.files import Landing, MemoryLanding
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.wire.messages.members import Welcome
from tests.transport.recorders import ServiceRecorder

HERE, NOWHERE = "memory://here", "memory://nowhere"
RELAY = "app:1"


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    network = MemoryNetwork()
    yield network
    await network.close()


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_actors.actors.peer_links.PATIENCE_S", 0.05)


class Fetches:
    """What a node fetches: each request ends as a failure, which is noted, or is put to the relay."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.relayed: list[int] = []
        self.failures: list[FetchFailure] = []
        self.changed = asyncio.Event()
        self._fetcher = Fetcher(self._ask)
        self.links = PeerLinks(network, "n2", self._fetcher, has_relay=True)

    def fetch(self, address: str, relay: str = RELAY) -> None:
        near = [address] if self.links.can_ask(address) else []
        cut_off = [] if near else [address]
        self._fetcher.fetch(RunId(1), 0, 10, near, self._land, self._done, relay=relay, cut_off=cut_off)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.relayed) + len(self.failures) < count:
                await self.changed.wait()
                self.changed.clear()

    def _ask(self, holder: str, message: object) -> None:
        if holder == RELAY:
            self.relayed.append(1)
            self.changed.set()
        else:
            self.links.send(holder, message)  # type: ignore[arg-type]

    def _land(self, _: int, total: int) -> Landing:
        return MemoryLanding(total)

    def _done(self, landed: Landing | FetchFailure) -> None:
        assert isinstance(landed, FetchFailure)
        self.failures.append(landed)
        self.changed.set()


async def test_relay_is_asked_once_patience_ends_and_at_once_from_then_on(network: MemoryNetwork) -> None:
    fetches = Fetches(network)
    began = asyncio.get_running_loop().time()

    fetches.fetch(NOWHERE)
    await fetches.until(1)
    took_s = asyncio.get_running_loop().time() - began
    fetches.fetch(NOWHERE)

    assert took_s < 2.0
    assert len(fetches.relayed) == 2
    assert not fetches.links.can_ask(NOWHERE)
    fetches.links.close()


async def test_node_that_is_connected_and_busy_is_waited_for(
    network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handoff_actors.actors.peer_links.CONNECT_TIMEOUT_S", 0.3)
    service = ServiceRecorder()
    network.serve(HERE, service)
    fetches = Fetches(network)

    fetches.fetch(HERE, relay="")
    await fetches.until(1)

    (failure,) = fetches.failures
    assert failure == FetchFailure("unreachable", f"{HERE} can't be reached: no answer within 0.3 s")
    fetches.links.close()


async def test_address_that_answers_again_is_asked_again(
    network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handoff_actors.actors.peer_links.CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr("handoff_actors.core.cluster.routes.RETRY_S", 0.0)
    fetches = Fetches(network)
    fetches.fetch(HERE)
    await fetches.until(1)
    service = ServiceRecorder()
    served = network.serve(HERE, service)

    # Each look begins a try in the background, unless one is under way.
    assert not fetches.links.can_ask(HERE)
    await service.until(lambda: service.bursts)
    served.send(service.bursts[-1][0], Welcome(9, [], 15.0))
    async with asyncio.timeout(10):
        while not fetches.links.can_ask(HERE):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)

    fetches.fetch(HERE)
    assert len(fetches.relayed) == 1
    fetches.links.close()


async def test_nothing_more_is_expected_of_a_node_that_is_gone(network: MemoryNetwork) -> None:
    service = ServiceRecorder()
    network.serve(HERE, service)
    fetches = Fetches(network)
    fetches.fetch(HERE, relay="")

    fetches.links.drop(HERE, "the node is gone")
    fetches.links.drop(NOWHERE, "the node is gone")

    (failure,) = fetches.failures
    assert failure == FetchFailure("unreachable", f"{HERE} can't be reached: the node is gone")
    fetches.links.close()
