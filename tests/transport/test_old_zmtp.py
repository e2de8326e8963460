"""Peers without a handshake: what they send never reaches us, with a key or without."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import zmq

from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.members import Beat
from handoff_actors.wire.messages.values import Gone
from tests.transport import zmtp
from tests.transport.recorders import connected_pair

LOOPBACK = "tcp://127.0.0.1:0"
FRAME = encode([Beat()])
HEADERS = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:7070\r\nContent-Type: text/plain\r\nContent-Length: 700\r\n\r\n"
)
ATTACKS = {
    "ZMTP 1.0": zmtp.of_zmtp_1([FRAME]),
    "ZMTP 2.0": zmtp.of_zmtp_2([FRAME]),
    "POST": HEADERS + zmtp.of_post([FRAME]),
}


@pytest.fixture(params=[None, ClusterKey.generate()], ids=["insecure", "key"])
async def network(request: pytest.FixtureRequest) -> AsyncIterator[ZmqNetwork]:
    made = ZmqNetwork(request.param)
    yield made
    await made.close()


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_bytes_of_a_peer_without_a_handshake_are_refused(network: ZmqNetwork, attack: bytes) -> None:
    pair = await connected_pair(network, LOOPBACK)

    with connect(pair.service.address) as stranger:
        stranger.sendall(attack)
        await asyncio.to_thread(until_hung_up, stranger)
    # Messages that had come in before this one would be delivered before it.
    pair.link.send(Gone(7))
    await pair.service_side.until_messages(1)

    assert pair.service_side.messages == [Gone(7)]
    assert pair.service_side.malformed_reasons == []


def until_hung_up(stranger: socket.socket) -> None:
    try:
        while stranger.recv(4096):
            pass
    except ConnectionResetError:
        # The node has not read all that the peer sent.
        pass


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_same_bytes_reach_whoever_has_no_zap_domain(attack: bytes) -> None:
    """Otherwise the test above would prove nothing."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.rcvtimeo = 10_000
        port = router.bind_to_random_port("tcp://127.0.0.1")

        with connect(f"tcp://127.0.0.1:{port}") as stranger:
            stranger.sendall(attack)
            heard = [router.recv_multipart()]
            while heard[-1][-1] != FRAME:
                heard.append(router.recv_multipart())

    assert heard[-1][-1] == FRAME
