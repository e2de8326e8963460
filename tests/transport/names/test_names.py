"""Links and subscriptions to hosts that are names, and not IP addresses."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from handoff_actors.transport.endpoint import Publisher
from handoff_actors.transport.names import name_subscription
from handoff_actors.transport.names.resolver import Resolver
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.messages.values import Gone
from tests.transport.recorders import BusRecorder, ClientRecorder, ServiceRecorder
from tests.transport.test_contract import advert_of

LOOPBACKS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


class Names:
    """A network whose names lead where a test says."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[str]] = {}
        self.ends = threading.Event()
        self.network = ZmqNetwork(resolver=Resolver(self._ask))

    def _ask(self, host: str) -> list[str]:
        if host not in self.hosts:
            self.ends.wait()
            raise OSError
        return self.hosts[host]


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    names = Names()
    yield names
    names.ends.set()
    await names.network.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_subscription, "TRY_S", 0.3)
    monkeypatch.setattr(name_subscription, "RECONNECT_S", 0.05)
    monkeypatch.setattr(name_subscription, "PAUSES_S", (0.05, 0.1))


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port at which 127.0.0.2 neither accepts nor refuses, as a host that is gone."""
    with contextlib.ExitStack() as closing:
        mute = closing.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        address = mute.getsockname()
        for _ in range(4):
            waiting = closing.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(address)
        yield address[1]


async def test_a_link_reaches_a_service_at_ipv6_addresses_alone(names: Names) -> None:
    service = names.network.serve("tcp://[::1]:0", ServiceRecorder())
    names.hosts["n1"] = ["::1"]

    await answers(names, f"tcp://n1:{port_of(service.address)}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_localhost_is_where_a_service_at_localhost_listens(names: Names, host: str) -> None:
    service = names.network.serve(f"tcp://{host}:0", ServiceRecorder())

    await answers(names, f"tcp://localhost:{port_of(service.address)}")


async def test_a_link_tries_the_next_address_where_one_refuses(names: Names) -> None:
    service = names.network.serve("tcp://127.0.0.3:0", ServiceRecorder())
    names.hosts["n1"] = ["::1", *LOOPBACKS]

    assert await answers(names, f"tcp://n1:{port_of(service.address)}") < 0.4


async def test_a_link_tries_the_next_address_where_one_is_dead(names: Names, mute_port: int) -> None:
    names.network.serve(f"tcp://127.0.0.3:{mute_port}", ServiceRecorder())
    names.hosts["n1"] = ["127.0.0.2", "127.0.0.3"]

    assert await answers(names, f"tcp://n1:{mute_port}") < 2.0


async def test_a_link_tries_the_next_address_where_something_else_answers(names: Names) -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        other.setblocking(False)
        port = other.getsockname()[1]
        names.network.serve(f"tcp://127.0.0.3:{port}", ServiceRecorder())
        names.hosts["n1"] = ["127.0.0.2", "127.0.0.3"]
        speaking = asyncio.create_task(speak_http(other))

        await answers(names, f"tcp://n1:{port}")

        await speaking


async def test_a_link_waits_for_a_service_under_its_name_wherever_that_leads_by_then(names: Names) -> None:
    names.hosts["n1"] = ["127.0.0.1"]
    client = ClientRecorder()
    port = free_port()
    link = names.network.link(f"tcp://n1:{port}", client)
    link.send(Gone(1))
    await asyncio.sleep(0.2)

    service_side = ServiceRecorder()
    names.hosts["n1"] = ["127.0.0.3"]
    names.network.serve(f"tcp://127.0.0.3:{port}", service_side)
    await service_side.until_messages(1)

    assert client.lost_reasons == []


async def test_a_silent_name_server_stops_neither_the_loop_nor_other_links(names: Names) -> None:
    service = names.network.serve("tcp://127.0.0.1:0", ServiceRecorder())
    silent = ClientRecorder()
    subscriber = names.network.subscriber(BusRecorder())
    for number in range(20):
        names.network.link(f"tcp://silent{number}:1", silent, 0.5)
        subscriber.subscribe(f"tcp://silent{number}:2")

    assert await answers(names, service.address) < 0.4
    await silent.until(lambda: len(silent.lost_reasons) == 20)
    assert set(silent.lost_reasons) == {"its name was not resolved in time"}


async def test_a_closed_link_connects_to_no_name(names: Names) -> None:
    client = ClientRecorder()
    names.network.link("tcp://n1:1", client).close()
    names.hosts["n1"] = LOOPBACKS
    names.ends.set()

    await answers(names, names.network.serve("tcp://127.0.0.1:0", ServiceRecorder()).address)
    assert client.lost_reasons == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("host", ["127.0.0.3", "[::1]"])
async def test_a_subscriber_tries_each_address_of_a_name(names: Names, host: str) -> None:
    publisher = names.network.publisher(f"tcp://{host}:0")
    names.hosts["n1"] = ["127.0.0.2", host.strip("[]")]
    heard = BusRecorder()
    names.network.subscriber(heard).subscribe(f"tcp://n1:{port_of(publisher.address)}")

    await heard.until(lambda: heard.messages, meanwhile=lambda: publisher.publish(advert_of("n1")))


@pytest.mark.usefixtures("quick")
async def test_a_subscriber_follows_a_name_that_moves(names: Names) -> None:
    first = names.network.publisher("tcp://127.0.0.2:0")
    port = port_of(first.address)
    names.hosts["n1"] = ["127.0.0.2"]
    heard = BusRecorder()
    subscriber = names.network.subscriber(heard)
    subscriber.subscribe(f"tcp://n1:{port}")
    await heard.until(lambda: heard.messages, meanwhile=lambda: first.publish(advert_of("n1")))

    first.close()
    names.hosts["n1"] = ["127.0.0.3"]
    second = names.network.publisher(f"tcp://127.0.0.3:{port}")
    heard.messages.clear()
    await heard.until(lambda: heard.messages, meanwhile=lambda: second.publish(advert_of("n1")))
    subscriber.unsubscribe(f"tcp://n1:{port}")
    subscriber.close()


@pytest.mark.usefixtures("quick")
async def test_a_subscriber_hears_a_publisher_that_starts_anew_at_the_same_address(names: Names) -> None:
    first = names.network.publisher("tcp://127.0.0.2:0")
    names.hosts["n1"] = ["127.0.0.2"]
    heard = BusRecorder()
    names.network.subscriber(heard).subscribe(f"tcp://n1:{port_of(first.address)}")
    await heard.until(lambda: heard.messages, meanwhile=lambda: first.publish(advert_of("n1")))

    first.close()
    second = await bound_again(lambda: names.network.publisher(first.address))
    heard.messages.clear()
    await heard.until(lambda: heard.messages, meanwhile=lambda: second.publish(advert_of("n1")))


async def test_a_name_and_its_address_are_left_one_by_one(names: Names) -> None:
    publisher = names.network.publisher("tcp://127.0.0.2:0")
    by_name = f"tcp://n1:{port_of(publisher.address)}"
    names.hosts["n1"] = ["127.0.0.2"]
    heard = BusRecorder()
    subscriber = names.network.subscriber(heard)
    for address in (by_name, publisher.address, by_name):
        subscriber.subscribe(address)
    await heard.until(lambda: heard.messages, meanwhile=lambda: publisher.publish(advert_of("n1")))

    subscriber.unsubscribe(by_name)
    heard.messages.clear()
    await heard.until(lambda: heard.messages, meanwhile=lambda: publisher.publish(advert_of("n1")))


async def answers(names: Names, address: str) -> float:
    """Wait until a link is connected, and return the seconds that it took."""
    client, began = ClientRecorder(), time.monotonic()
    link = names.network.link(address, client)
    await client.until(
        lambda: link.is_connected or client.lost_reasons or client.refused_reasons, meanwhile=lambda: None
    )
    assert client.lost_reasons == client.refused_reasons == []
    link.close()
    return time.monotonic() - began


async def speak_http(server: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    accepted, _ = await loop.sock_accept(server)
    with accepted:
        await loop.sock_sendall(
            accepted, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + bytes(64)
        )
        await loop.sock_recv(accepted, 1024)


async def bound_again(bind: Callable[[], Publisher]) -> Publisher:
    while True:
        try:
            return bind()
        except OSError:
            await asyncio.sleep(0.01)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def free_port() -> int:
    with socket.create_server(("", 0)) as taken:
        return int(taken.getsockname()[1])
