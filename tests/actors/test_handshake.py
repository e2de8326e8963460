"""The client's side of the handshake, with nodes that answer and others that don't."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from handoff_actors.actors import handshake
from handoff_actors.actors.handshake import LinkFailure, open_link
from handoff_actors.transport.endpoint import Network
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Welcome
from tests.transport.recorders import ServiceRecorder


class Asking:
    """See NodeLinkListener."""

    def __init__(self) -> None:
        self.failures: list[LinkFailure] = []
        self.is_over = asyncio.Event()

    def welcomed(self, welcome: Welcome) -> None:
        self.is_over.set()

    def received(self, message: FromNode) -> None:
        pass

    def failed(self, failure: LinkFailure) -> None:
        self.failures.append(failure)
        self.is_over.set()


@pytest.fixture(params=["memory://n", "tcp://127.0.0.1:0"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Network, str]]:
    network = MemoryNetwork() if request.param.startswith("memory") else ZmqNetwork()
    yield network, request.param
    await network.close()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "WELCOME_S", 0.2)


async def until_given_up(network: Network, address: str) -> None:
    """Return once a link that is opened now has been given up, and so the time of earlier ones is over, too."""
    last = Asking()
    open_link(network, address, "app", last, within_s=0.1)
    await asyncio.wait_for(last.is_over.wait(), 10)


async def test_a_node_that_is_connected_and_does_not_answer_is_given_up(place: tuple[Network, str]) -> None:
    network, address = place
    node, asking = ServiceRecorder(), Asking()
    service = network.serve(address, node)

    link = open_link(network, service.address, "app", asking, within_s=0.1)
    await asyncio.wait_for(asking.is_over.wait(), 10)

    assert [failure.args[0] for failure in asking.failures] == [
        f"no node answered at {service.address}: connected, but its process did not answer within 0.2 s"
    ]
    assert link.is_closed
    assert node.messages


async def test_a_link_that_is_closed_before_the_answer_reports_nothing(place: tuple[Network, str]) -> None:
    network, address = place
    asking = Asking()
    service = network.serve(address, ServiceRecorder())

    open_link(network, service.address, "app", asking, within_s=0.1).close()
    await until_given_up(network, service.address)

    assert asking.failures == []


async def test_a_welcome_in_time_ends_the_waiting(place: tuple[Network, str]) -> None:
    network, address = place
    node, asking = ServiceRecorder(), Asking()
    service = network.serve(address, node)

    link = open_link(network, service.address, "app", asking, within_s=0.1)
    await node.until(lambda: node.messages)
    service.send(node.bursts[0][0], Welcome(PROTOCOL, [], 6.0))
    await asyncio.wait_for(asking.is_over.wait(), 10)
    await until_given_up(network, service.address)

    assert asking.failures == []
    assert not link.is_closed
