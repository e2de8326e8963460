"""The peers that are admitted, and those that are not, where there is a key."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import zmq
from zmq.utils import z85

from handoff_actors.transport.curve import ZAP_DOMAIN, Curve
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.members import Beat, Joined
from handoff_actors.wire.messages.values import Gone
from tests.transport.recorders import BusRecorder, ClientRecorder, ServiceRecorder, connected_pair
from tests.transport.test_contract import advert_of

LOOPBACK = "tcp://127.0.0.1:0"
KEY = ClusterKey.generate()

Networks = Callable[[ClusterKey | None], ZmqNetwork]


@pytest.fixture
async def networks() -> AsyncIterator[Networks]:
    """Makes networks by their keys."""
    made: list[ZmqNetwork] = []

    def network_with(key: ClusterKey | None) -> ZmqNetwork:
        made.append(ZmqNetwork(key))
        return made[-1]

    yield network_with
    for network in made:
        await network.close()


@pytest.mark.parametrize(
    ("theirs", "ours", "reason"),
    [
        (KEY, ClusterKey.generate(), "another key"),
        (KEY, None, "a key"),
        (None, KEY, "key"),
    ],
    ids=["another key", "we have none", "they have none"],
)
async def test_link_between_two_keys_is_refused_on_both_sides_in_seconds(
    networks: Networks, theirs: ClusterKey | None, ours: ClusterKey | None, reason: str
) -> None:
    service_side, client_side = ServiceRecorder(), ClientRecorder()
    service = networks(theirs).serve(LOOPBACK, service_side)

    async with asyncio.timeout(4):
        networks(ours).link(service.address, client_side, connect_timeout=60).send(Beat())
        await client_side.until(lambda: client_side.refused_reasons)
        await service_side.until(lambda: service_side.refused_reasons)

    assert reason in client_side.refused_reasons[0]
    assert len(client_side.refused_reasons) == 1
    assert client_side.lost_reasons == []
    assert service_side.messages == []


async def test_refused_links_leave_others_alone(networks: Networks) -> None:
    pair = await connected_pair(networks(KEY), LOOPBACK)
    stranger = ClientRecorder()

    networks(None).link(pair.service.address, stranger)
    await stranger.until(lambda: stranger.refused_reasons)
    pair.link.send(Gone(7))
    await pair.service_side.until_messages(1)

    assert pair.service_side.messages == [Gone(7)]


async def test_public_key_of_the_server_alone_lets_nobody_in(networks: Networks) -> None:
    """Knowing the server's public key, with a key pair of one's own, is not enough."""
    service_side = ServiceRecorder()
    service = networks(KEY).serve(LOOPBACK, service_side)
    public, secret = zmq.curve_keypair()

    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.curve_serverkey = Curve(KEY)._own.server_public
        stranger.curve_publickey, stranger.curve_secretkey = public, secret
        stranger.connect(service.address)
        stranger.send(encode([Beat()]))
        await service_side.until(lambda: service_side.refused_reasons)

    assert service_side.refused_reasons[0] == "its key is not the client's"
    assert service_side.messages == []


async def test_nobody_gets_in_where_the_authenticator_is_away(networks: Networks) -> None:
    network, service_side, client_side = networks(KEY), ServiceRecorder(), ClientRecorder()
    service = network.serve(LOOPBACK, service_side)
    assert network._authenticator is not None
    network._authenticator.close()

    networks(KEY).link(service.address, client_side, connect_timeout=1).send(Beat())
    await client_side.until(lambda: client_side.refused_reasons + client_side.lost_reasons)

    assert service_side.messages == []


@pytest.mark.parametrize("stranger_key", [None, ClusterKey.generate()], ids=["none", "another"])
async def test_bus_is_heard_with_its_key_only(networks: Networks, stranger_key: ClusterKey | None) -> None:
    member, stranger = BusRecorder(), BusRecorder()
    publisher = networks(KEY).publisher(LOOPBACK)
    networks(stranger_key).subscriber(stranger).subscribe(publisher.address)
    networks(KEY).subscriber(member).subscribe(publisher.address)

    await member.until(lambda: len(member.messages) > 20, meanwhile=lambda: publisher.publish(advert_of("a")))

    assert stranger.messages == []


async def test_stranger_who_publishes_is_not_heard(networks: Networks) -> None:
    hearer = BusRecorder()
    member, stranger = networks(KEY).publisher(LOOPBACK), networks(None).publisher(LOOPBACK)
    subscriber = networks(KEY).subscriber(hearer)
    subscriber.subscribe(stranger.address)
    subscriber.subscribe(member.address)

    def both_publish() -> None:
        stranger.publish(advert_of("stranger"))
        member.publish(advert_of("member"))

    await hearer.until(lambda: len(hearer.messages) > 20, meanwhile=both_publish)

    assert {message.advert.name for message in hearer.messages if isinstance(message, Joined)} == {"member"}


@pytest.mark.parametrize(
    ("domain", "mechanism", "is_admitted"),
    [
        (ZAP_DOMAIN, b"CURVE", True),
        (b"", b"CURVE", False),
        (ZAP_DOMAIN, b"NULL", False),
        (ZAP_DOMAIN, b"PLAIN", False),
    ],
)
def test_only_curve_in_our_domain_is_admitted(domain: bytes, mechanism: bytes, is_admitted: bool) -> None:
    curve = Curve(KEY)
    public = z85.decode(curve._own.client_public)

    assert curve.admits(domain, mechanism, [public]) is is_admitted
    assert not curve.admits(domain, mechanism, [])
    assert not curve.admits(domain, mechanism, [bytes(32)])
