"""Joining, with nodes that answer, refuse, are silent or dead, and with names that have many addresses."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.actors import handshake, joining
from handoff_actors.actors.joining import Joining
from handoff_actors.ids import PeerId
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.members import Advert, Hello, Refused, Welcome

OWN = "tcp://own:7070"
INVALID = "tcp://invalid"


class NamedNetwork(MemoryNetwork):
    """A network whose names have the addresses that a test gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: dict[str, list[str]] = {}
        self.resolved = 0

    async def resolve(self, address: str) -> list[str]:
        self.resolved += 1
        found = self.addresses.get(address, [address])
        if address == INVALID:
            raise handoff.InvalidAddressError(address, "it has no port")
        if not found:
            raise handoff.ConnectionFailed(address, "the name has no address")
        return found


class Answering:
    """A service that answers Hello as it is told to. See ServiceHandler."""

    def __init__(self, network: MemoryNetwork, address: str, answer: Welcome | Refused | None) -> None:
        self.greetings = 0
        self._answer = answer
        self._service = network.serve(address, self)

    def received(self, peer: PeerId, messages: list[ToNode]) -> None:
        for message in messages:
            if isinstance(message, Hello):
                self.greetings += 1
                if self._answer is not None:
                    self._service.send(peer, self._answer)

    def malformed(self, peer: PeerId, reason: str) -> None:
        raise AssertionError(reason)

    def unreachable(self, peer: PeerId) -> None:
        pass

    def refused(self, reason: str) -> None:
        raise AssertionError(reason)

    def close(self) -> None:
        self._service.close()


class Cluster:
    """The nodes of a test, and one process that joins them."""

    def __init__(self) -> None:
        self.network = NamedNetwork()
        self.own = advert_of("own", OWN)
        self.present: set[str] = set()
        self.refusals: list[str] = []
        self.joining = Joining(
            self.network, "own", lambda: self.own, self.is_present, self.learn, self.refusals.append
        )

    def is_present(self, incarnation: str) -> bool:
        return incarnation in self.present

    def learn(self, welcome: Welcome) -> list[Advert]:
        self.present |= {advert.incarnation for advert in welcome.members}
        return []

    def node(self, address: str) -> Answering:
        return Answering(self.network, address, welcome(address))

    def silent_node(self, address: str) -> Answering:
        return Answering(self.network, address, None)

    def own_node(self, address: str) -> Answering:
        return Answering(self.network, address, Welcome(PROTOCOL, [self.own], 6.0))

    async def failure(self, *seeds: str, wait_s: float = 0.0) -> str:
        with pytest.raises(handoff.HandoffError) as raised:
            await self.joining.join(seeds, wait_s)
        return str(raised.value)


def advert_of(name: str, address: str) -> Advert:
    return Advert(
        name, name, 1, address, "b", {}, {}, 1, 0, 0, 0, leaving=False, view=0, version="1", python="3.11"
    )


def welcome(address: str) -> Welcome:
    return Welcome(PROTOCOL, [advert_of(f"node at {address}", address)], 6.0)


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    for module, name in ((joining, "CONNECT_S"), (handshake, "WELCOME_S"), (joining, "PAUSE_S")):
        monkeypatch.setattr(module, name, 0.1)
    made = Cluster()
    yield made
    made.joining.close()
    await made.network.close()


@pytest.fixture
def patient_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster whose silent and dead nodes are not given up within the time of a test."""
    monkeypatch.setattr(joining, "CONNECT_S", 600)
    return cluster


async def test_the_first_answer_is_enough_and_the_others_are_asked_on(patient_cluster: Cluster) -> None:
    cluster = patient_cluster
    silent = cluster.silent_node("tcp://silent:1")
    cluster.node("tcp://well:1")

    await cluster.joining.join(["tcp://dead:1", "tcp://silent:1", "tcp://well:1"])
    late = cluster.node("tcp://dead:1")

    assert silent.greetings == 1
    await until_present(cluster, "node at tcp://dead:1")
    assert late.greetings == 1


async def until_present(cluster: Cluster, incarnation: str) -> None:
    async with asyncio.timeout(10):
        while incarnation not in cluster.present:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)


async def test_an_error_lists_each_address_with_its_reason(cluster: Cluster) -> None:
    cluster.silent_node("tcp://10.0.0.2:1")
    cluster.network.addresses = {"tcp://some:1": ["tcp://10.0.0.1:1", "tcp://10.0.0.2:1"], "tcp://none:1": []}

    failure = await cluster.failure("tcp://some:1", "tcp://dead:1", "tcp://none:1")

    assert failure == (
        "no node answered at tcp://some:1: tcp://10.0.0.1:1: connection refused within 0.1 s; "
        "tcp://10.0.0.2:1: connected, but its process did not answer within 0.1 s; "
        "at tcp://dead:1: connection refused within 0.1 s; at tcp://none:1: the name has no address"
    )


async def test_an_error_lists_some_addresses_of_a_name_that_has_many(cluster: Cluster) -> None:
    cluster.network.addresses = {"tcp://many:1": [f"tcp://10.0.0.{number}:1" for number in range(100)]}

    failure = await cluster.failure("tcp://many:1")

    assert failure.count("connection refused") == 8
    assert failure.endswith("; and 24 more")


async def test_a_seed_that_is_no_address_is_an_error_that_says_so(cluster: Cluster) -> None:
    async with asyncio.timeout(10):
        failure = await cluster.failure(INVALID, wait_s=600)

    assert failure == f"'{INVALID}' is no address: it has no port"


async def test_a_refusal_says_more_than_silence(cluster: Cluster) -> None:
    Answering(cluster.network, "tcp://old:1", Refused("it is too old"))

    assert await cluster.failure("tcp://dead:1", "tcp://old:1") == "it is too old"


async def test_an_answer_counts_more_than_a_refusal(cluster: Cluster) -> None:
    Answering(cluster.network, "tcp://old:1", Refused("it is too old"))
    cluster.node("tcp://well:1")

    await cluster.joining.join(["tcp://old:1", "tcp://dead:1", "tcp://well:1"])

    assert cluster.present == {"node at tcp://well:1"}


async def test_only_the_own_node_is_no_cluster(cluster: Cluster) -> None:
    cluster.own_node("tcp://10.0.0.1:1")
    cluster.network.addresses = {"tcp://all:1": ["tcp://10.0.0.1:1"]}

    failure = await cluster.failure("tcp://all:1", OWN)

    assert failure == (
        "no node answered at tcp://all:1: only this node itself answers at tcp://10.0.0.1:1; "
        f"at {OWN}: only this node itself answers at {OWN}"
    )
    assert cluster.present == set()


async def test_all_addresses_of_a_name_are_asked_and_the_own_one_once(cluster: Cluster) -> None:
    own = cluster.own_node("tcp://10.0.0.1:1")
    others = [cluster.node(f"tcp://10.0.0.{number}:1") for number in (2, 3)]
    cluster.network.addresses = {"tcp://all:1": [f"tcp://10.0.0.{number}:1" for number in (1, 2, 3)]}

    await cluster.joining.join(["tcp://all:1"])
    await cluster.joining.ask("tcp://all:1").task
    await cluster.joining.ask("tcp://all:1").task

    assert cluster.present == {"node at tcp://10.0.0.2:1", "node at tcp://10.0.0.3:1"}
    assert [own.greetings, *(other.greetings for other in others)] == [1, 1, 1]
    assert cluster.network.resolved >= 2


async def test_a_node_that_is_no_member_any_more_is_asked_again(cluster: Cluster) -> None:
    node = cluster.node("tcp://10.0.0.1:1")
    await cluster.joining.ask("tcp://10.0.0.1:1").task
    cluster.present.clear()

    await cluster.joining.ask("tcp://10.0.0.1:1").task

    assert node.greetings == 2


async def test_seeds_that_come_late_are_waited_for_and_resolved_again(
    patient_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = patient_cluster
    cluster.network.addresses = {"tcp://all:1": []}
    cluster.node("tcp://10.0.0.1:1")

    with caplog.at_level(logging.INFO):
        joined = asyncio.ensure_future(cluster.joining.join(["tcp://all:1"], 60))
        async with asyncio.timeout(10):
            while cluster.network.resolved < 3:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
        cluster.network.addresses = {"tcp://all:1": ["tcp://10.0.0.1:1"]}
        await joined

    assert cluster.present == {"node at tcp://10.0.0.1:1"}
    assert [record.message for record in caplog.records] == ["waiting for seeds"]


async def test_seeds_that_do_not_come_are_waited_for_as_long_as_told(cluster: Cluster) -> None:
    cluster.network.addresses = {"tcp://all:1": []}
    began = asyncio.get_running_loop().time()

    await cluster.failure("tcp://all:1", wait_s=0.35)

    assert 0.3 < asyncio.get_running_loop().time() - began < 5
    assert cluster.network.resolved >= 3


async def test_a_refusal_is_not_waited_out(cluster: Cluster) -> None:
    Answering(cluster.network, "tcp://old:1", Refused("it is too old"))

    async with asyncio.timeout(10):
        assert await cluster.failure("tcp://old:1", wait_s=600) == "it is too old"


@pytest.mark.parametrize("ticks", [0, 1, 5])
async def test_the_end_of_the_process_ends_a_join(patient_cluster: Cluster, ticks: int) -> None:
    cluster = patient_cluster
    joined = asyncio.ensure_future(cluster.joining.join(["tcp://dead:1"], 600))
    for _ in range(ticks + 1):
        await asyncio.sleep(0)

    cluster.joining.close()

    with pytest.raises(handoff.ConnectionFailed):
        await asyncio.wait_for(joined, 10)


async def test_a_seed_that_refuses_again_and_again_is_logged_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing:
        is_closed = False

        def send(self, message: Any) -> None:
            pass

        def close(self) -> None:
            self.is_closed = True

    for _ in range(3):
        introduction = joining.Introduction("tcp://x:1", None, cluster.learn, cluster.joining._ended)
        introduction.link = Refusing()  # type: ignore[assignment]  # what a link is used for here
        introduction.failed(handoff.AuthenticationError("tcp://x:1", "another key"))

    assert [record.message for record in caplog.records] == ["introduction refused"]


@pytest.mark.parametrize("others", [[], ["tcp://good:1"], ["tcp://silent:1"]])
async def test_node_whose_name_is_in_use_is_told_so_whatever_other_seeds_say(
    cluster: Cluster, others: list[str]
) -> None:
    cluster.node("tcp://good:1")
    cluster.silent_node("tcp://silent:1")
    Answering(cluster.network, "tcp://taken:1", Refused("name own is in use", is_name_taken=True))

    assert await cluster.failure("tcp://taken:1", *others) == "name own is in use"
    assert cluster.refusals == ["name own is in use"]
