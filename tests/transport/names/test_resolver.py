import asyncio
import socket
import subprocess
import sys
import threading
import time

import pytest

from handoff_actors.errors import ConnectionFailed, InvalidAddressError
from handoff_actors.transport.endpoint import UnknownHostError
from handoff_actors.transport.names import resolver
from handoff_actors.transport.names.resolver import MOST_SLOW_THREADS, MOST_THREADS, Resolver
from tests.transport.recorders import Recorder


class NameServer:
    """Answers what it knows, and about other names only once it is told to."""

    def __init__(self, **hosts: list[str] | OSError) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.speaks = threading.Event()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answer = self.hosts.get(host)
        if answer is None:
            self.speaks.wait()
            return ["10.0.0.9"]
        if isinstance(answer, OSError):
            raise answer
        return answer


async def all_answered(names: Resolver) -> None:
    await Recorder().until(lambda: not names._questions, meanwhile=lambda: None)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "LIMIT_S", 0.1)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://10.0.0.1:7070", ["tcp://10.0.0.1:7070"]),
        ("tcp://[FD00:0::1]:7070", ["tcp://[fd00::1]:7070"]),
        ("tcp://localhost:7070", ["tcp://127.0.0.1:7070", "tcp://[::1]:7070"]),
        ("ipc:///run/handoff", ["ipc:///run/handoff"]),
    ],
)
async def test_no_name_server_is_asked_for_what_is_no_name(address: str, expected: list[str]) -> None:
    server = NameServer()

    assert await Resolver(server).resolve(address) == expected
    assert server.asked == []


async def test_a_name_has_all_its_addresses_in_their_order() -> None:
    server = NameServer(n1=["fd00::1", "10.0.0.1", "0.0.0.0"])

    assert await Resolver(server).resolve("tcp://n1:7070") == ["tcp://[fd00::1]:7070", "tcp://10.0.0.1:7070"]


async def test_a_name_is_asked_for_anew_each_time_but_once_at_a_time() -> None:
    server = NameServer()
    names = Resolver(server)
    async with asyncio.TaskGroup() as tasks:
        several = [tasks.create_task(names.resolve(f"tcp://n1:{port}")) for port in range(1, 50)]
        await asyncio.sleep(0)
        server.speaks.set()
    server.hosts["n1"] = ["10.0.0.10"]

    assert several[7].result() == ["tcp://10.0.0.9:8"]
    assert await names.resolve("tcp://n1:1") == ["tcp://10.0.0.10:1"]
    assert server.asked == ["n1", "n1"]


@pytest.mark.parametrize(
    "answer",
    [socket.gaierror(socket.EAI_NONAME, "unknown"), socket.gaierror(socket.EAI_FAIL, "no"), ["0.0.0.0"], []],
)
async def test_a_name_that_is_unknown_is_told_from_one_that_can_not_be_asked_for(
    answer: list[str] | OSError,
) -> None:
    names = Resolver(NameServer(unknown=answer, later=socket.gaierror(socket.EAI_AGAIN, "try again")))

    with pytest.raises(UnknownHostError, match="unknown"):
        await names.resolve("tcp://unknown:7070")
    with pytest.raises(ConnectionFailed, match="later could not be resolved now") as failed:
        await names.resolve("tcp://later:7070")
    assert not isinstance(failed.value, UnknownHostError)
    with pytest.raises(InvalidAddressError):
        await names.resolve("tcp://later:0")


async def test_the_system_is_asked_by_default() -> None:
    with pytest.raises(ConnectionFailed, match="the name nobody"):
        await Resolver().resolve("tcp://nobody.invalid:7070")


@pytest.mark.usefixtures("soon")
async def test_a_silent_name_server_costs_the_limit_and_holds_up_no_other_name() -> None:
    server = NameServer(n1=["10.0.0.1"])
    names = Resolver(server)
    silent = [f"s{number}" for number in range(MOST_THREADS)]
    try:
        for _ in range(2):
            refused = await asyncio.gather(
                *(names.resolve(f"tcp://{name}:1") for name in silent[:-1]), return_exceptions=True
            )
            assert all("not resolved within" in str(error) for error in refused)
            assert await names.resolve("tcp://n1:1") == ["tcp://10.0.0.1:1"]
        # In flight still, so asked for once.
        assert sorted(set(server.asked)) == ["n1", *silent[:-1]]
    finally:
        server.speaks.set()


@pytest.mark.usefixtures("soon")
async def test_names_that_were_slow_wait_for_one_another_and_not_others_for_them() -> None:
    server = NameServer(n1=["10.0.0.1"])
    names = Resolver(server)
    silent = [f"s{number}" for number in range(MOST_THREADS)]
    await asyncio.gather(*(names.resolve(f"tcp://{name}:1") for name in silent), return_exceptions=True)
    server.speaks.set()
    await all_answered(names)
    server.speaks.clear()
    server.asked.clear()

    waiting = [names.look_up(f"tcp://{name}:1", lambda _: None) for name in silent]
    try:
        assert await names.resolve("tcp://n1:1") == ["tcp://10.0.0.1:1"]
        assert len(server.asked) == MOST_SLOW_THREADS + 1
    finally:
        server.speaks.set()
        for lookup in waiting:
            lookup.cancel()
    await all_answered(names)
    assert sorted(server.asked) == ["n1", *silent]


async def test_who_waits_no_longer_is_told_nothing() -> None:
    server = NameServer()
    names = Resolver(server)
    told: list[object] = []
    names.look_up("tcp://n1:1", told.append).cancel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await names.resolve("tcp://n1:1")
    server.speaks.set()

    await all_answered(names)
    assert told == []


def test_a_silent_name_server_holds_up_no_end_of_a_process() -> None:
    program = """
import asyncio, time
from handoff_actors.transport.names.resolver import Resolver
async def main():
    Resolver(lambda host: time.sleep(60)).look_up("tcp://n1:1", print)
    await asyncio.sleep(0.1)
asyncio.run(main())
"""
    began = time.monotonic()

    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)

    assert time.monotonic() - began < 10.0
