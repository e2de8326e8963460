"""How long a session waits for nodes that are silent while others answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from handoff_actors.actors import connections
from handoff_actors.actors.connections import Connections
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.ids import PeerId
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Advert, Hello, Welcome

LONG_S = 600.0


class Answering:
    """A node that answers Hello unless it is silent. See ServiceHandler."""

    def __init__(self, network: MemoryNetwork, name: str, *, is_silent: bool) -> None:
        self.advert = Advert(
            name, name, 1, "a", "b", {}, {}, 1, 0, 0, 0, leaving=False, view=0, version="1", python="3.11"
        )
        self._is_silent = is_silent
        self._service = network.serve(f"memory://{name}", self)

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        if isinstance(messages[0], Hello) and not self._is_silent:
            self._service.send(peer, Welcome(PROTOCOL, [self.advert], 6.0))

    def malformed(self, peer: PeerId, reason: str) -> None:
        raise AssertionError(reason)

    def unreachable(self, peer: PeerId) -> None:
        pass

    def refused(self, reason: str) -> None:
        raise AssertionError(reason)


class App:
    """See ConnectionListener."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.connections = Connections("app", self)

    def add(self, name: str, *, is_silent: bool = False) -> None:
        node = Answering(self.network, name, is_silent=is_silent)
        self.connections.add(node.advert, self.network, f"memory://{name}")

    def names(self) -> list[str]:
        return [up.name for up in self.connections.ups()]

    def node_event(self, event: NodeUp | NodeDown) -> None:
        pass

    def message_received(self, name: str, message: FromNode) -> None:
        raise AssertionError(message)

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        pass

    def member_reported(self, advert: Advert) -> None:
        raise AssertionError(advert)


@pytest.fixture
async def app() -> AsyncIterator[App]:
    made = App()
    yield made
    made.connections.close()
    await made.network.close()


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit ends, unless a test shortens it."""
    for name in ("QUIET_S", "SETTLE_S", "FIRST_S"):
        monkeypatch.setattr(connections, name, LONG_S)


async def test_all_nodes_that_answer_are_waited_for(app: App) -> None:
    for number in range(5):
        app.add(f"n{number}")

    await asyncio.wait_for(app.connections.wait_until_settled(), 10)

    assert app.names() == ["n0", "n1", "n2", "n3", "n4"]


async def test_a_node_that_is_silent_while_others_answer_is_waited_for_briefly(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "QUIET_S", 0.05)
    app.add("silent", is_silent=True)
    app.add("well")

    await asyncio.wait_for(app.connections.wait_until_settled(), 10)

    assert app.names() == ["well"]


async def test_a_suspect_node_is_not_waited_for(app: App) -> None:
    app.add("silent", is_silent=True)
    app.add("well")
    app.connections.suspect("silent", is_suspect=True)

    await asyncio.wait_for(app.connections.wait_until_settled(), 10)

    assert app.names() == ["well"]


async def test_the_first_answer_has_a_limit(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_S", 0.05)
    app.add("silent", is_silent=True)

    await asyncio.wait_for(app.connections.wait_for_any(), 10)

    assert app.names() == []
