"""The contract of every network, independent of its transport."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from handoff_actors.ids import PeerId
from handoff_actors.transport.endpoint import Network
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, Beat, Joined
from handoff_actors.wire.messages.values import Gone
from tests.transport.recorders import BusRecorder, ClientRecorder, ServiceRecorder, connected_pair


@dataclass
class Place:
    network: Network
    address: str
    other_address: str
    free_address: str
    #: "" where an address that is taken is one.
    unusable_address: str = ""


@pytest.fixture(params=["memory", "memory-encoded", "tcp", "tcp-with-key", "ipc"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    kind = request.param
    network = network_of(kind)
    if kind in {"tcp", "tcp-with-key"}:
        yield Place(network, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", f"tcp://127.0.0.1:{free_port()}")
    elif kind == "ipc":
        folder = f"ipc://{tmp_path}/"
        yield Place(network, folder + "a", folder + "b", folder + "c", folder + "no/such/folder")
    else:
        yield Place(network, "memory://a", "memory://b", "memory://c")
    await network.close()


def network_of(kind: str) -> Network:
    match kind:
        case "tcp" | "ipc":
            return ZmqNetwork()
        case "tcp-with-key":
            return ZmqNetwork(ClusterKey.generate())
        case _:
            return MemoryNetwork(encode=kind == "memory-encoded")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def advert_of(name: str) -> Joined:
    return Joined(
        Advert(name, "i", 1, "a", "b", {}, {}, 1, 0, 0, 0, leaving=False, view=0, version="1", python="3.11")
    )


async def test_messages_arrive_in_order_and_once_both_ways(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)
    sent = [Gone(number) for number in range(5000)]

    for message in sent:
        pair.link.send(message)
        pair.service.send(pair.peer, message)
    await pair.service_side.until_messages(len(sent))
    await pair.client_side.until_messages(len(sent))

    assert pair.service_side.messages == sent
    assert pair.client_side.messages == sent


async def test_what_one_tick_sends_arrives_in_one_burst(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)
    sent = [Gone(number) for number in range(10)]

    for message in sent:
        pair.link.send(message)
        pair.service.send(pair.peer, message)
    await pair.service_side.until(lambda: pair.service_side.bursts)
    await pair.client_side.until(lambda: pair.client_side.bursts)

    assert pair.service_side.bursts == [(pair.peer, sent)]
    assert pair.client_side.bursts == [sent]


async def test_what_is_held_leaves_with_the_flush(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)

    pair.service.hold()
    for number in range(5):
        pair.service.send(pair.peer, Gone(number))
        # A tick of the loop, at the end of which it would leave.
        await asyncio.sleep(0)
    pair.service.flush()
    await pair.client_side.until_messages(5)

    assert pair.client_side.bursts == [[Gone(number) for number in range(5)]]


async def test_after_a_flush_messages_leave_as_before(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)
    pair.service.hold()
    pair.service.flush()
    pair.service.flush()

    pair.service.send(pair.peer, Gone(1))
    await pair.client_side.until_messages(1)
    pair.link.send(Gone(2))
    await pair.service_side.until_messages(1)


async def test_answers_go_to_who_asked(place: Place) -> None:
    service_side = ServiceRecorder()
    service = place.network.serve(place.address, service_side)
    clients = [ClientRecorder() for _ in range(3)]
    for number, client in enumerate(clients):
        place.network.link(service.address, client).send(Gone(number))
    await service_side.until(lambda: len(service_side.bursts) == len(clients))

    for peer, messages in service_side.bursts:
        for message in messages:
            assert isinstance(message, Gone)
            service.send(peer, message)
    for client in clients:
        await client.until_messages(1)

    assert [client.messages for client in clients] == [[Gone(0)], [Gone(1)], [Gone(2)]]


async def test_link_waits_for_a_service_that_comes_later(place: Place) -> None:
    client, service_side = ClientRecorder(), ServiceRecorder()
    link = place.network.link(place.free_address, client)
    link.send(Beat())
    # Another link's failure shows that this one, too, has been tried in vain.
    place.network.link(place.free_address, client, connect_timeout=0.15)
    await client.until(lambda: client.lost_reasons)

    place.network.serve(place.free_address, service_side)
    await service_side.until(lambda: service_side.bursts)

    assert service_side.messages == [Beat()]


async def test_link_to_nobody_is_lost_when_its_time_is_over(place: Place) -> None:
    client = ClientRecorder()

    place.network.link(place.free_address, client, connect_timeout=0.15)
    await client.until(lambda: client.lost_reasons)

    assert client.lost_reasons == ["connection refused within 0.15 s"]


async def test_link_for_which_a_refusal_is_final_is_lost_long_before_its_time_is_over(place: Place) -> None:
    client = ClientRecorder()

    place.network.link(place.free_address, client, connect_timeout=60.0, is_refusal_final=True)
    await client.until(lambda: client.lost_reasons)

    assert client.lost_reasons[0].startswith("connection refused")


async def test_end_of_a_service_shows_as_a_lost_link_after_its_last_words(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)

    pair.service.send(pair.peer, Gone(7))
    pair.service.close()
    await pair.client_side.until(lambda: pair.client_side.lost_reasons)

    assert pair.client_side.messages == [Gone(7)]
    assert pair.client_side.lost_reasons == ["the connection was closed by the other side, or broke"]


async def test_what_was_sent_before_close_still_arrives(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)

    pair.link.send(Gone(7))
    pair.link.close()
    await pair.service_side.until(lambda: pair.service_side.bursts)

    assert pair.service_side.messages == [Gone(7)]


async def test_closed_link_hears_nothing_any_more(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)
    other = ClientRecorder()
    place.network.link(pair.service.address, other).send(Beat())
    await pair.service_side.until(lambda: pair.service_side.bursts)

    pair.service.send(pair.peer, Gone(7))
    pair.link.close()
    pair.service.close()
    await other.until(lambda: other.lost_reasons)

    assert pair.client_side.bursts == []
    assert pair.client_side.lost_reasons == []


async def test_closed_ends_ignore_what_is_sent(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)
    publisher = place.network.publisher(place.other_address)

    for end in (pair.link, pair.service, publisher):
        end.close()
        end.close()
    pair.link.send(Gone(7))
    pair.service.send(pair.peer, Gone(7))
    publisher.publish(advert_of("a"))
    await place.network.close()
    await asyncio.sleep(0)

    assert pair.service_side.bursts == []
    assert pair.service_side.unreachable_peers == []


async def test_peer_that_was_never_there_is_unreachable(place: Place) -> None:
    service_side = ServiceRecorder()
    service = place.network.serve(place.address, service_side)
    stranger = PeerId(b"stranger")

    service.send(stranger, Gone(7))
    seen_within_the_call = list(service_side.unreachable_peers)
    await service_side.until(lambda: service_side.unreachable_peers)

    assert seen_within_the_call == []
    assert service_side.unreachable_peers == [stranger]


async def test_peer_that_has_left_becomes_unreachable(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)

    pair.link.close()
    await pair.service_side.until(
        lambda: pair.service_side.unreachable_peers, meanwhile=lambda: pair.service.send(pair.peer, Gone(7))
    )

    assert set(pair.service_side.unreachable_peers) == {pair.peer}


async def test_address_that_cannot_be_bound_is_an_os_error(place: Place) -> None:
    service = place.network.serve(place.address, ServiceRecorder())

    with pytest.raises(OSError, match="cannot listen at"):
        place.network.serve(place.unusable_address or service.address, ServiceRecorder())


async def test_handler_that_raises_loses_only_its_burst(place: Place) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    pair = await connected_pair(place.network, place.address)
    received = pair.client_side.received

    def fail_once(messages: list[FromNode]) -> None:
        pair.client_side.received = received  # type: ignore[method-assign]
        raise ZeroDivisionError

    pair.client_side.received = fail_once  # type: ignore[method-assign]
    await pair.client_side.until(
        lambda: pair.client_side.bursts, meanwhile=lambda: pair.service.send(pair.peer, Gone(7))
    )

    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert pair.client_side.lost_reasons == []


async def test_handler_may_close_its_own_end(place: Place) -> None:
    pair = await connected_pair(place.network, place.address)
    received = pair.service_side.received

    def close_at_once(peer: PeerId, messages: list[object]) -> None:
        received(peer, messages)  # type: ignore[arg-type]
        pair.service.close()

    pair.service_side.received = close_at_once  # type: ignore[assignment,method-assign]
    pair.link.send(Gone(1))
    await pair.client_side.until(lambda: pair.client_side.lost_reasons)

    assert pair.service_side.messages == [Gone(1)]


async def test_subscriber_hears_every_publisher_that_it_asked_for(place: Place) -> None:
    hearer = BusRecorder()
    subscriber = place.network.subscriber(hearer)
    publishers = [place.network.publisher(address) for address in (place.address, place.other_address)]
    for publisher in publishers:
        subscriber.subscribe(publisher.address)
        subscriber.subscribe(publisher.address)

    def publish() -> None:
        publishers[0].publish(advert_of("a"))
        publishers[1].publish(advert_of("b"))

    await hearer.until(lambda: {"a", "b"} <= hearer.names(), meanwhile=publish)


async def test_subscriber_hears_no_more_of_whom_it_left(place: Place) -> None:
    hearer = BusRecorder()
    subscriber = place.network.subscriber(hearer)
    left, kept = (place.network.publisher(address) for address in (place.address, place.other_address))
    subscriber.subscribe(left.address)
    await hearer.until(lambda: hearer.messages, meanwhile=lambda: left.publish(advert_of("left")))

    subscriber.unsubscribe(left.address)
    subscriber.unsubscribe(left.address)
    subscriber.subscribe(kept.address)
    hearer.messages.clear()

    def publish() -> None:
        left.publish(advert_of("late"))
        kept.publish(advert_of("kept"))

    await hearer.until(lambda: advert_of("kept") in hearer.messages, meanwhile=publish)

    assert advert_of("late") not in hearer.messages


async def test_subscription_may_come_before_the_publisher(place: Place) -> None:
    hearer = BusRecorder()
    place.network.subscriber(hearer).subscribe(place.free_address)

    publisher = place.network.publisher(place.free_address)
    await hearer.until(lambda: hearer.messages, meanwhile=lambda: publisher.publish(advert_of("a")))

    assert hearer.messages[0] == advert_of("a")
