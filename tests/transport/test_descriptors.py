"""A process that has no descriptors left."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import psutil
import pytest

from handoff_actors.process.open_files import RESERVE, Reserve, with_reserve
from handoff_actors.transport import listeners
from handoff_actors.transport.zeromq import ZmqNetwork
from handoff_actors.wire.messages.values import Gone
from tests.transport.recorders import ClientRecorder, Recorder, ServiceRecorder, connected_pair

LOOPBACK = "tcp://127.0.0.1:0"


@pytest.fixture
def few() -> Iterator[None]:
    """Let this process have some hundred descriptors more than now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def all_taken(few: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ExitStack]]:
    """Takes all descriptors that are left, until the stack that it returns is closed."""
    monkeypatch.setattr(listeners, "LOOK_S", 0.02)
    with ExitStack() as taken:

        def take() -> ExitStack:
            try:
                while True:
                    taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            except OSError:
                return taken

        yield take


async def test_newcomers_wait_and_peers_go_on_without_descriptors(
    zmq_network: ZmqNetwork, all_taken: Callable[[], ExitStack], caplog: pytest.LogCaptureFixture
) -> None:
    pair = await connected_pair(zmq_network, LOOPBACK)
    reserved = RESERVE.size
    host, port = pair.service.address.removeprefix("tcp://").split(":")
    newcomers = [socket.socket() for _ in range(reserved)]
    for newcomer in newcomers:
        newcomer.setblocking(False)
    taken = all_taken()

    for newcomer in newcomers:
        newcomer.connect_ex((host, int(port)))
    await Recorder().until(lambda: caplog.messages, meanwhile=lambda: None)
    # The one that the reserve has given for the message; another thread of this process may have it by now.
    with suppress(OSError):
        taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
    before = sum(psutil.Process().cpu_times()[:2])
    for number in range(20):
        pair.link.send(Gone(number))
        await pair.service_side.until_messages(number + 1)
    spent = sum(psutil.Process().cpu_times()[:2]) - before
    assert spent < 0.5
    assert [message[:19] for message in caplog.messages] == ["out of descriptors:"]

    for newcomer in newcomers:
        newcomer.close()
    taken.close()
    later = ClientRecorder()
    link = zmq_network.link(pair.service.address, later)
    await later.until(lambda: link.is_connected, meanwhile=lambda: None)


async def test_a_link_for_which_there_is_no_descriptor_is_lost(
    zmq_network: ZmqNetwork, all_taken: Callable[[], ExitStack]
) -> None:
    service = zmq_network.serve(LOOPBACK, ServiceRecorder())
    first, second = ClientRecorder(), ClientRecorder()
    all_taken()

    by_reserve = zmq_network.link(service.address, first)
    RESERVE.give_up()
    taken = all_taken()
    lost = zmq_network.link(service.address, second)
    lost.send(Gone(1))
    zmq_network.link(service.address, second).close()
    await second.until(lambda: second.lost_reasons)

    assert second.lost_reasons == [
        "this process can open no connection: Too many open files; raise its limit (ulimit -n)"
    ]
    assert lost.is_closed
    taken.close()
    await first.until(lambda: by_reserve.is_connected or first.lost_reasons, meanwhile=lambda: None)


def test_own_work_takes_the_reserve_and_its_keepers_are_told(all_taken: Callable[[], ExitStack]) -> None:
    reserve, told = RESERVE, list[int]()
    assert reserve.hold(1, lambda: told.append(1))
    assert reserve.hold(2, lambda: told.append(2))
    taken = all_taken()

    opened = with_reserve(lambda: os.open(os.devnull, os.O_RDONLY))
    os.close(opened)
    all_taken()

    assert told == [1, 2]
    assert not reserve.hold(1, lambda: told.append(1))
    with pytest.raises(OSError, match="Too many open files"):
        with_reserve(lambda: os.open(os.devnull, os.O_RDONLY))
    taken.close()
    with pytest.raises(FileNotFoundError):
        with_reserve(lambda: os.open("/no such file", os.O_RDONLY))


def test_a_reserve_is_held_for_as_long_as_it_has_keepers() -> None:
    reserve = Reserve()
    process = psutil.Process()
    before = process.num_fds()

    reserve.hold(1, lambda: None)
    reserve.hold(2, lambda: None)
    reserve.drop(1)
    held = process.num_fds() - before
    reserve.drop(2)
    reserve.drop(2)

    assert held == reserve.size
    assert process.num_fds() == before
    assert not reserve.give_up()
