import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from handoff_actors.actors.node.host.service_manager import ServiceManager


class Systemd:
    """The other end of a notification socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(10)
        self.variables = {"NOTIFY_SOCKET": address, "OTHER": "stays"}

    def read(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def is_silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    path = tmp_path / "notify"
    made = Systemd(str(path) if request.param == "path" else f"@handoff-test-{tmp_path}")
    yield made
    made.close()


async def test_start_service_and_end_are_told(systemd: Systemd) -> None:
    manager = ServiceManager(systemd.variables)

    manager.starting(60)
    manager.serving("tcp://10.0.0.1:7070")
    manager.stopping(30)

    assert systemd.read() == ["STATUS=starting", "EXTEND_TIMEOUT_USEC=70000000"]
    assert systemd.read() == ["READY=1", "STATUS=serves at tcp://10.0.0.1:7070"]
    assert systemd.read() == ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=40000000"]
    assert systemd.is_silent()
    assert systemd.variables == {"OTHER": "stays"}
    manager.close()
    manager.stopping(30)
    assert systemd.is_silent()


async def test_the_loop_gives_signs_of_life_until_the_end(systemd: Systemd) -> None:
    manager = ServiceManager(systemd.variables | {"WATCHDOG_USEC": "20000"})
    manager.serving("")
    systemd.read()

    for _ in range(3):
        assert await asyncio.to_thread(systemd.read) == ["WATCHDOG=1"]

    manager.close()


async def test_signs_of_life_of_another_process_are_not_given(systemd: Systemd) -> None:
    manager = ServiceManager(systemd.variables | {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"})
    manager.serving("")
    systemd.read()

    assert systemd.is_silent()
    manager.close()


@pytest.mark.parametrize("address", ["", "vsock:2:3", "/nowhere/notify", "relative"])
async def test_without_a_manager_nothing_happens(address: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "nonsense"})

    manager.starting(1)
    manager.serving("")
    manager.stopping(1)
    manager.close()


async def test_a_manager_that_does_not_read_holds_nobody_up(systemd: Systemd) -> None:
    manager = ServiceManager(systemd.variables)

    for _ in range(10_000):
        manager.starting(1)

    manager.close()
