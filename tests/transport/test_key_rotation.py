"""Replacing a cluster's key while its members run: the old one, the new one with the old, the new one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handoff_actors.errors import InvalidAddressError, InvalidKeyError
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.endpoint import Publisher
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.messages.members import Beat
from tests.transport.recorders import BusRecorder, ClientRecorder, ServiceRecorder
from tests.transport.test_contract import advert_of

LOOPBACK = "tcp://127.0.0.1:0"
OLD, NEW = ClusterKey.generate(), ClusterKey.generate()
STEPS = [OLD, NEW.accepting(OLD), NEW]
#: A member at the first step of each pair reaches one at the second.
REACHES = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.fixture
async def networks() -> AsyncIterator[list[ZmqNetwork]]:
    """One network for each step."""
    made = [ZmqNetwork(key) for key in STEPS]
    yield made
    for network in made:
        await network.close()


@pytest.mark.parametrize(("ours", "theirs"), REACHES)
async def test_members_of_adjacent_steps_reach_one_another(
    networks: list[ZmqNetwork], ours: int, theirs: int
) -> None:
    service_side, client_side, hearer = ServiceRecorder(), ClientRecorder(), BusRecorder()
    service, publisher = networks[theirs].serve(LOOPBACK, service_side), networks[theirs].publisher(LOOPBACK)

    networks[ours].link(service.address, client_side).send(Beat())
    networks[ours].subscriber(hearer).subscribe(publisher.address)
    await service_side.until_messages(1)
    await hearer.until(lambda: hearer.messages, meanwhile=lambda: publisher.publish(advert_of("a")))

    assert service_side.messages == [Beat()]
    assert client_side.refused_reasons == client_side.lost_reasons == []


@pytest.mark.parametrize(("ours", "theirs"), [(0, 2), (2, 0)])
async def test_members_without_each_others_key_are_strangers(
    networks: list[ZmqNetwork], ours: int, theirs: int
) -> None:
    service_side, client_side = ServiceRecorder(), ClientRecorder()
    service = networks[theirs].serve(LOOPBACK, service_side)

    async with asyncio.timeout(4):
        networks[ours].link(service.address, client_side, connect_timeout=60).send(Beat())
        await client_side.until(lambda: client_side.refused_reasons)

    assert service_side.messages == []


async def test_many_links_at_once_find_the_key_of_each_server(networks: list[ZmqNetwork]) -> None:
    """Each try that fails moves on from the key it has tried, and not from the one that another link has found meanwhile."""
    sides = [ServiceRecorder() for _ in range(4)]
    services = [networks[number % 3].serve(LOOPBACK, side) for number, side in enumerate(sides)]

    for _ in range(10):
        for service in services:
            networks[1].link(service.address, ClientRecorder()).send(Beat())

    for side in sides:
        await side.until_messages(10)


async def test_bus_of_a_member_that_comes_back_with_the_next_key_is_heard(
    networks: list[ZmqNetwork],
) -> None:
    hearer = BusRecorder()
    before = networks[1].publisher(LOOPBACK)
    networks[1].subscriber(hearer).subscribe(before.address)
    await hearer.until(lambda: hearer.messages, meanwhile=lambda: before.publish(advert_of("a")))
    before.close()
    hearer.messages.clear()

    after = await restarted(networks[2], before.address)
    await hearer.until(lambda: hearer.messages, meanwhile=lambda: after.publish(advert_of("b")))


async def restarted(network: ZmqNetwork, address: str) -> Publisher:
    # ZeroMQ gives the port back in a thread of its own.
    async with asyncio.timeout(5):
        while True:
            try:
                return network.publisher(address)
            except OSError:
                await asyncio.sleep(0)


async def test_stranger_is_refused_within_seconds_by_members_with_several_keys(
    networks: list[ZmqNetwork],
) -> None:
    stranger = ZmqNetwork(ClusterKey.generate())
    try:
        service_side, client_side = ServiceRecorder(), ClientRecorder()
        service = stranger.serve(LOOPBACK, service_side)
        async with asyncio.timeout(4):
            networks[1].link(service.address, client_side, connect_timeout=60)
            await client_side.until(lambda: client_side.refused_reasons)
    finally:
        await stranger.close()


async def test_port_that_is_shared_by_the_sockets_of_one_node_is_taken_for_others(
    networks: list[ZmqNetwork],
) -> None:
    service = networks[1].serve(LOOPBACK, ServiceRecorder())
    publisher = networks[1].publisher(LOOPBACK)

    for network in networks:
        for address in (service.address, publisher.address):
            with pytest.raises(OSError, match="cannot listen at"):
                network.serve(address, ServiceRecorder())
    with pytest.raises(InvalidAddressError, match="listens at an IP address"):
        networks[1].serve("tcp://lo:0", ServiceRecorder())


def test_key_itself_is_no_other_key() -> None:
    assert OLD.accepting(OLD).also_accepted is None


def test_another_key_needs_a_key_and_is_never_shown(tmp_path: Path) -> None:
    files = [str(tmp_path / str(number)) for number in range(2)]
    for file, key in zip(files, (OLD, NEW), strict=True):
        key.write_to(file)
    variables = {"HANDOFF_KEY_FILE": files[0], "HANDOFF_ALSO_ACCEPT": files[1]}

    chosen = Credentials.chosen(environment=variables)

    assert chosen.cluster_key == OLD
    assert chosen.cluster_key.also_accepted == NEW
    assert NEW.text()[9:] not in f"{chosen} {chosen.cluster_key!r}"
    for insecure in (False, True):
        with pytest.raises(InvalidKeyError, match="only beside the cluster's key") as caught:
            Credentials.chosen(environment={"HANDOFF_ALSO_ACCEPT": files[1]}, insecure=insecure)
        assert files[1] in str(caught.value)
