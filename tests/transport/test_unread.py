"""Peers that ask and do not read: they cost a node no more than it allows, and other peers nothing."""

import asyncio
from collections.abc import Iterator

import pytest
import zmq

from handoff_actors.ids import PeerId
from handoff_actors.transport.service import MOST_QUEUED_MESSAGES, ZmqService
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.codec import FROM_NODE, decode, encode
from handoff_actors.wire.messages.values import Chunk, Gone
from tests.transport.recorders import ClientRecorder, ServiceRecorder

LOOPBACK = "tcp://127.0.0.1:0"
#: Each message leaves by itself.
DATA = memoryview(bytes(300_000))
LIMIT = 10_000_000
MANY = 4 * MOST_QUEUED_MESSAGES


@pytest.fixture
def raw_peer() -> Iterator["zmq.Socket[bytes]"]:
    """Reads when it is asked to, and hardly anything ahead."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvhwm = 1
        dealer.rcvbuf = 4096
        dealer.rcvtimeo = 20_000
        yield dealer


async def named(side: ServiceRecorder, raw_peer: "zmq.Socket[bytes]", address: str) -> PeerId:
    """The name by which a service knows it, once it has said something."""
    raw_peer.connect(address)
    raw_peer.send(encode([Gone(0)]))
    await side.until_messages(1)
    return side.bursts[0][0]


def chunk(number: int) -> Chunk:
    return Chunk(number, 0, len(DATA), DATA)


async def full(
    network: ZmqNetwork, side: ServiceRecorder, raw_peer: "zmq.Socket[bytes]"
) -> tuple[ZmqService, PeerId]:
    """A service that has sent a peer more than ZeroMQ queues, and less than it allows."""
    service = network.serve(LOOPBACK, side, 2 * MANY * len(DATA))
    assert isinstance(service, ZmqService)
    peer = await named(side, raw_peer, service.address)
    for number in range(MANY):
        service.send(peer, chunk(number))
    return service, peer


async def test_who_does_not_read_is_cut_off_and_others_go_on(
    zmq_network: ZmqNetwork, raw_peer: "zmq.Socket[bytes]"
) -> None:
    side, client = ServiceRecorder(), ClientRecorder()
    service = zmq_network.serve(LOOPBACK, side, LIMIT)
    assert isinstance(service, ZmqService)
    peer = await named(side, raw_peer, service.address)
    link = zmq_network.link(service.address, client)
    link.send(Gone(1))
    await side.until_messages(2)
    other = side.bursts[1][0]

    for number in range(1000):
        service.send(peer, chunk(number))
        if number % 10 == 0:
            service.send(other, Gone(number))
        # The same as between two requests: the message has been sent, and the loop serves others.
        await asyncio.sleep(0)
        waiting = service.waiting_nbytes(peer)
        assert waiting <= LIMIT + 2 * len(DATA)

    await side.until(lambda: side.unreachable_peers)
    await client.until_messages(100)
    assert set(side.unreachable_peers) == {peer}
    assert client.messages == [Gone(number) for number in range(0, 1000, 10)]


async def test_who_reads_late_gets_all_of_it_in_order(
    zmq_network: ZmqNetwork, raw_peer: "zmq.Socket[bytes]"
) -> None:
    side = ServiceRecorder()
    service, peer = await full(zmq_network, side, raw_peer)
    assert service.waiting_nbytes(peer) > 0

    heard = await asyncio.to_thread(receive, raw_peer, MANY)

    assert heard == list(range(MANY))
    assert service.waiting_nbytes(peer) == 0
    assert side.unreachable_peers == []


def receive(raw_peer: "zmq.Socket[bytes]", count: int) -> list[int]:
    numbers: list[int] = []
    while len(numbers) < count:
        frame, _piece = raw_peer.recv_multipart()
        [message] = decode(frame, FROM_NODE)
        assert isinstance(message, Chunk)
        numbers.append(message.request)
    return numbers


async def test_who_is_gone_keeps_nothing_waiting(
    zmq_network: ZmqNetwork, raw_peer: "zmq.Socket[bytes]"
) -> None:
    side = ServiceRecorder()
    service, peer = await full(zmq_network, side, raw_peer)

    raw_peer.close(0)
    await side.until(lambda: side.unreachable_peers)

    assert service.waiting_nbytes(peer) == 0
    assert side.unreachable_peers == [peer]
