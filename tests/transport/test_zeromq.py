"""Behaviour and faults that only ZeroMQ connections have."""

import asyncio
import signal
import socket
import threading
import time

import psutil
import pytest
import zmq

from handoff_actors.errors import ConnectionFailed
from handoff_actors.ids import RunId
from handoff_actors.transport import zeromq
from handoff_actors.transport.bus import ZmqPublisher
from handoff_actors.transport.link import ZmqLink
from handoff_actors.transport.zeromq import HEARTBEAT_TIMEOUT_MS, ZmqNetwork
from handoff_actors.wire.codec import PIECE_BYTES, encode
from handoff_actors.wire.messages.members import Beat
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone
from tests.transport.recorders import (
    BusRecorder,
    ClientRecorder,
    Recorder,
    Server,
    ServiceRecorder,
    connected_pair,
)

LOOPBACK = "tcp://127.0.0.1:0"
MEGABYTE = 2**20


async def test_killed_process_shows_as_lost_within_two_seconds(
    zmq_network: ZmqNetwork, server: Server
) -> None:
    client = ClientRecorder()
    zmq_network.link(server.address, client).send(Gone(1))
    await client.until_messages(1)

    killed_at = time.monotonic()
    server.process.kill()
    await client.until(lambda: client.lost_reasons)

    assert time.monotonic() - killed_at < 2.0
    assert client.lost_reasons == ["the connection was closed by the other side, or broke"]


async def test_stopped_process_is_not_lost_before_the_heartbeat_says_so(
    zmq_network: ZmqNetwork, server: Server
) -> None:
    client = ClientRecorder()
    link = zmq_network.link(server.address, client)
    link.send(Gone(1))
    await client.until_messages(1)

    server.process.send_signal(signal.SIGSTOP)
    link.send(Gone(2))
    asyncio.get_running_loop().call_later(1.0, server.process.send_signal, signal.SIGCONT)
    await client.until_messages(2)

    assert client.messages == [Gone(1), Gone(2)]
    assert client.lost_reasons == []
    assert HEARTBEAT_TIMEOUT_MS > 1000


async def test_hundred_thousand_messages_each_in_a_frame_arrive_in_order(
    zmq_network: ZmqNetwork, server: Server
) -> None:
    client = ClientRecorder()
    link = zmq_network.link(server.address, client)
    count = 100_000

    for number in range(count):
        link.send(Gone(number))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await client.until_messages(count)

    assert client.messages == [Gone(number) for number in range(count)]


async def test_large_values_pass_in_chunks(zmq_network: ZmqNetwork, server: Server) -> None:
    client = ClientRecorder()
    link = zmq_network.link(server.address, client)
    count = 200

    for number in range(count):
        link.send(Fetch(number, RunId(1), 1, number, MEGABYTE))
    await client.until_messages(count)

    offsets = [message.offset for message in client.messages if isinstance(message, Chunk)]
    assert offsets == list(range(count))
    assert all(
        message.data == bytes([message.offset % 251]) * MEGABYTE
        for message in client.messages
        if isinstance(message, Chunk)
    )
    assert link.received_bytes > count * MEGABYTE


async def test_large_and_small_messages_keep_their_order(zmq_network: ZmqNetwork) -> None:
    pair = await connected_pair(zmq_network, LOOPBACK)
    large = memoryview(bytes(PIECE_BYTES + 1))
    sent: list[Gone | Chunk] = [Gone(1), Chunk(2, 0, 0, large), Gone(3), Gone(4), Chunk(5, 0, 0, large)]

    for message in sent:
        pair.link.send(message)
    await pair.service_side.until_messages(len(sent))

    assert pair.service_side.messages == sent


async def test_full_socket_keeps_what_it_cannot_take_for_later(
    zmq_network: ZmqNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeromq, "HIGH_WATER_MARK", 2)
    service_side = ServiceRecorder()
    service = zmq_network.serve(LOOPBACK, service_side)
    link = zmq_network.link(service.address, ClientRecorder())
    assert isinstance(link, ZmqLink)
    link.send(Chunk(0, 0, 0, memoryview(b"")))
    await service_side.until_messages(1)
    count = 400

    for number in range(1, count):
        link.send(Chunk(number, 0, 0, memoryview(bytes(MEGABYTE // 2))))
    kept = len(link._backlog)
    await service_side.until_messages(count)

    assert kept > count // 2
    assert [message.request for message in service_side.messages if isinstance(message, Chunk)] == list(
        range(count)
    )


async def test_malformed_messages_are_reported_and_the_connection_stays(zmq_network: ZmqNetwork) -> None:
    service_side = ServiceRecorder()
    service = zmq_network.serve(LOOPBACK, service_side)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(service.address)

        dealer.send(b"\xc1")
        dealer.send_multipart([encode([Beat()]), encode([Beat()])])
        dealer.send_multipart([encode([Beat()]), b"a", b"b"])
        dealer.send(b"")
        dealer.send(encode([Beat()]))
        await service_side.until_messages(1)

    assert service_side.messages == [Beat()]
    assert [reason[:20] for reason in service_side.malformed_reasons] == [
        "a frame is malformed",
        "a second frame belon",
        "a message has 3 fram",
        "a frame is malformed",
    ]


async def test_malformed_answer_loses_the_link(zmq_network: ZmqNetwork) -> None:
    client = ClientRecorder()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        zmq_network.link(f"tcp://127.0.0.1:{port}", client).send(Beat())
        identity, _ = await asyncio.to_thread(router.recv_multipart)

        router.send_multipart([identity, encode([Gone(1)])])
        router.send_multipart([identity, b"a", b"b", b"c"])
        router.send_multipart([identity, encode([Gone(2)])])
        await client.until(lambda: client.lost_reasons)

    assert client.messages == [Gone(1)]
    assert client.lost_reasons == ["a message has 3 frames instead of one"]


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.1\r\nHost: there\r\nAccept: */*\r\n\r\n" * 20, b"\xff" * 500, b"\0" * 500]
)
async def test_whoever_does_not_speak_zeromq_changes_nothing(zmq_network: ZmqNetwork, noise: bytes) -> None:
    pair = await connected_pair(zmq_network, LOOPBACK)
    host, port = pair.service.address.removeprefix("tcp://").split(":")

    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(noise)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    pair.link.send(Gone(7))
    await pair.service_side.until_messages(1)

    assert pair.service_side.bursts == [(pair.peer, [Gone(7)])]
    assert pair.client_side.lost_reasons == []


async def test_link_to_a_web_server_is_lost_with_a_reason(zmq_network: ZmqNetwork) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" * 20)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    client = ClientRecorder()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as web_server:
        port = web_server.sockets[0].getsockname()[1]

        zmq_network.link(f"tcp://127.0.0.1:{port}", client, connect_timeout=0.5)
        await client.until(lambda: client.lost_reasons)

    assert len(client.lost_reasons) == 1


async def test_silent_listener_is_no_answer(zmq_network: ZmqNetwork) -> None:
    client = ClientRecorder()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        zmq_network.link(f"tcp://127.0.0.1:{port}", client, connect_timeout=0.2)
        await client.until(lambda: client.lost_reasons)

    assert client.lost_reasons == ["no answer within 0.2 s"]


async def test_host_that_takes_up_a_connection_is_in_contact_before_it_says_anything(
    zmq_network: ZmqNetwork,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        link = zmq_network.link(f"tcp://127.0.0.1:{port}", ClientRecorder())
        before = link.is_in_contact
        async with asyncio.timeout(5):
            while not link.is_in_contact:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
        nowhere = zmq_network.link("tcp://127.0.0.1:1", ClientRecorder())

        assert not before
        assert not nowhere.is_in_contact
        link.close()
        nowhere.close()


@pytest.mark.parametrize("address", ["memory://a", "nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:port", ""])
async def test_what_is_no_address_loses_the_link_and_fails_a_subscription(
    zmq_network: ZmqNetwork, address: str
) -> None:
    client = ClientRecorder()

    zmq_network.link(address, client)
    lost_within_the_call = list(client.lost_reasons)
    await client.until(lambda: client.lost_reasons)

    assert lost_within_the_call == []
    assert client.lost_reasons[0].startswith("not an address")
    with pytest.raises(ConnectionFailed):
        zmq_network.subscriber(BusRecorder()).subscribe(address)


async def test_names_and_ipv6_are_addresses(zmq_network: ZmqNetwork) -> None:
    for address in ("tcp://localhost:0", "tcp://[::1]:0"):
        pair = await connected_pair(zmq_network, address)
        pair.service.close()


async def test_malformed_message_on_the_bus_is_skipped(
    zmq_network: ZmqNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    hearer = BusRecorder()
    publisher = zmq_network.publisher(LOOPBACK)
    assert isinstance(publisher, ZmqPublisher)
    zmq_network.subscriber(hearer).subscribe(publisher.address)

    await hearer.until(lambda: caplog.records, meanwhile=lambda: publisher._socket.send(b"\xc1"))

    assert caplog.records[0].message == "malformed message on the bus"
    assert hearer.messages == []


async def test_loop_stays_fair_while_a_flood_arrives(zmq_network: ZmqNetwork) -> None:
    service_side = ServiceRecorder()
    service = zmq_network.serve(LOOPBACK, service_side)
    count = 50_000
    turns_of_others = 0

    def take_a_turn() -> None:
        nonlocal turns_of_others
        turns_of_others += 1
        asyncio.get_running_loop().call_soon(take_a_turn)

    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.set_hwm(0)
        dealer.connect(service.address)
        # The loop is held meanwhile, so that all of it arrives at once.
        for _ in range(count):
            dealer.send(encode([Beat()]))
        take_a_turn()
        await service_side.until_messages(count)

    assert len(service_side.bursts) > 5
    assert turns_of_others >= len(service_side.bursts)


async def open_everything(network: ZmqNetwork) -> None:
    pair = await connected_pair(network, LOOPBACK)
    # One frame that is not copied starts a thread of pyzmq's own, which stays.
    pair.link.send(Chunk(1, 0, 0, memoryview(bytes(PIECE_BYTES))))
    await pair.service_side.until_messages(1)
    hearer = BusRecorder()
    network.subscriber(hearer).subscribe(network.publisher(LOOPBACK).address)
    network.link("tcp://127.0.0.1:1", ClientRecorder()).send(Gone(1))


async def test_close_leaves_no_descriptor_and_no_thread() -> None:
    process = psutil.Process()
    warm_up = ZmqNetwork()
    await open_everything(warm_up)
    await warm_up.close()
    descriptors, threads = process.num_fds(), process.num_threads()

    for _ in range(5):
        network = ZmqNetwork()
        await open_everything(network)
        await network.close()

    # The system may count a thread for a moment after it has been joined, here and above.
    await Recorder().until(lambda: process.num_threads() <= threads, meanwhile=threading.enumerate)
    assert process.num_fds() == descriptors
    assert "handoff-zmq-term" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("closes_first", [True, False])
async def test_close_waits_half_a_second_at_most_for_who_does_not_read(
    server: Server, closes_first: bool
) -> None:
    network = ZmqNetwork()
    client = ClientRecorder()
    link = network.link(server.address, client)
    link.send(Gone(1))
    await client.until_messages(1)

    server.process.send_signal(signal.SIGSTOP)
    for number in range(100):
        link.send(Chunk(number, 0, 0, memoryview(bytes(MEGABYTE))))
    if closes_first:
        link.close()
    began = time.monotonic()
    await network.close()

    assert time.monotonic() - began < 0.5
    assert client.lost_reasons == []
