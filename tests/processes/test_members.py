"""Nodes that leave, are killed and come back, and nodes of one name, with real processes."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
import zmq

import handoff_actors as handoff
from tests.daemons import HANDOFF, Daemon, Daemons, environment

pytestmark = pytest.mark.processes

#: Less than a member may be silent.
AT_ONCE_S = 3.0
#: The first pauses between tries of an address that a node has left, and a start.
SOON_S = 8.0
SET_BACK = "tests.processes.clock_set_back"


def seen_by(daemon: Daemon) -> dict[str, str]:
    """The members that a node shows, and their addresses."""
    command = [*HANDOFF, "nodes", "--join", daemon.address, "--json"]
    shown = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    return {node["name"]: node["address"] for node in json.loads(shown)}


def seconds_until(holds: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() < begun + 20.0
    return time.monotonic() - begun


def test_node_that_leaves_is_gone_at_once_and_the_first_one_is_found_when_it_is_back(
    daemons: Daemons,
) -> None:
    first, leaving, other = daemons.cluster(3, "--cpu", "1")
    assert leaving.terminate() == 0
    gone_after_s = seconds_until(lambda: list(seen_by(first)) == ["n1", "n3"])
    # One that has only just joined may not have heard it, and learns it from the first.
    seconds_until(lambda: list(seen_by(other)) == ["n1", "n3"])

    first.terminate()
    # As it was started: without seeds.
    back = daemons.start("--name", "n1", "--cpu", "1", "--listen", first.address)

    assert gone_after_s < AT_ONCE_S
    other.wait_for_log("it has left")
    both = {"n1": back.address, "n3": other.address}
    assert seconds_until(lambda: seen_by(back) == both) < SOON_S


@pytest.mark.parametrize(("module", "is_at_same_address"), [("handoff_actors.cli", False), (SET_BACK, True)])
def test_node_that_was_killed_takes_its_name_at_once(
    daemons: Daemons, module: str, is_at_same_address: bool
) -> None:
    first, killed = daemons.cluster(2, "--cpu", "1")
    killed.kill()
    listen = ("--listen", killed.address) if is_at_same_address else ()
    begun = time.monotonic()
    again = daemons.start("--name", "n2", "--cpu", "1", "--join", first.address, *listen, module=module)

    assert seconds_until(lambda: seen_by(first) == {"n1": first.address, "n2": again.address}) < AT_ONCE_S
    assert time.monotonic() < begun + 2 * AT_ONCE_S
    assert again.process.poll() is None


def test_node_of_a_name_that_is_in_use_ends_and_says_where(daemons: Daemons) -> None:
    first, second = daemons.cluster(2, "--cpu", "1")
    command = [*HANDOFF, "node", "--name", "n2", "--listen", "tcp://127.0.0.1:0", "--join", first.address]

    ended = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=15
    )

    assert ended.returncode == 1
    assert f"name n2 is in use by the node at {second.address}" in ended.stderr
    assert seen_by(first) == {"n1": first.address, "n2": second.address}


def test_of_two_nodes_of_one_name_that_meet_the_earlier_one_ends(daemons: Daemons) -> None:
    earlier, later = (daemons.start("--name", "twin", "--cpu", "1") for _ in range(2))
    between = daemons.start(
        "--name", "between", "--cpu", "1", "--join", earlier.address, "--join", later.address
    )

    assert earlier.wait() == 1
    assert f"its name is in use by the node at {later.address}" in earlier.log()
    assert seconds_until(lambda: seen_by(between).get("twin") == later.address) < SOON_S


async def test_node_of_an_app_is_gone_when_its_session_closes(daemons: Daemons) -> None:
    first = daemons.start("--name", "n1", "--cpu", "1")
    async with handoff.Session(seeds=[first.address]) as session:
        await session.register_local_node({"cpu": 1}, name="embedded", listen="tcp://127.0.0.1:0")
        async with asyncio.timeout(10):
            while sorted(await asyncio.to_thread(seen_by, first)) != ["embedded", "n1"]:
                pass

    assert seconds_until(lambda: list(seen_by(first)) == ["n1"]) < AT_ONCE_S


async def test_sockets_are_closed_in_the_thread_that_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two threads that use one socket at the same time crash libzmq, and the process with it.
    closed_in: list[int] = []
    close = zmq.Socket.close

    def seen(socket: zmq.Socket[bytes], linger: int | None = None) -> None:
        closed_in.append(threading.get_ident())
        close(socket, linger)

    monkeypatch.setattr(zmq.Socket, "close", seen)
    async with handoff.Session() as session:
        # A member that others can connect to has one more socket, at which they show their keys.
        await session.register_local_node({"cpu": 1}, listen="tcp://127.0.0.1:0")

    assert set(closed_in) == {threading.get_ident()}
