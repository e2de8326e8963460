"""Apps that are killed, or whose event loop is held up, and what that means for nodes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors.actors.node.actor import LEASE_S
from tests.daemons import Daemon, environment
from tests.faults import functions
from tests.faults.conftest import OpenSession, StartNode
from tests.faults.observing import Observer, until, until_empty

pytestmark = pytest.mark.processes

BLOCKED_S = 10.0
SLACK_S = 5.0


@pytest.fixture
def node(start_node: StartNode) -> Daemon:
    return start_node("n1")


@pytest.fixture
def app(node: Daemon, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An app in a process of its own, one of whose functions runs, and will for ever."""
    started, gate = str(tmp_path / "started"), str(tmp_path / "gate")
    variables = environment(PYTHONPATH=os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "tests.faults.lonely_app", node.address, started, gate]
    with subprocess.Popen(command, env=variables) as process:
        node.wait_until(lambda: Path(started).exists())
        yield process
        process.kill()


async def test_node_of_a_killed_app_is_empty_when_the_lease_ends(
    node: Daemon, app: subprocess.Popen[bytes], tmp_path: Path, open_session: OpenSession
) -> None:
    worker = psutil.Process(int((tmp_path / "started").read_text()))
    async with open_session(node) as session:
        await until(session, lambda: any(advert.running for advert in session._hub._connections.adverts()))
        stored_before = node.stored()
        app.kill()
        killed_at = time.monotonic()

        await until_empty(session, node)

        took_s = time.monotonic() - killed_at
    assert stored_before != []
    assert took_s < LEASE_S + SLACK_S
    assert not worker.is_running()


def work_for_both() -> handoff.DAG:
    dag = handoff.DAG().add_functions(
        handoff.Function(number, [], functions.hold, extra_args=[0.5], cost={"cpu": 1})
        for number in range(12)
    )
    return dag.add_function(handoff.Function("length", list(range(12)), functions.measure))


async def run_held_up_for(
    seconds: float, session: handoff.Session, seen: Observer, *nodes: Daemon
) -> handoff.Run:
    """A run whose app does nothing for this many seconds after the first function has been sent."""
    await until(session, lambda: len(session._hub._connections.ups()) == len(nodes))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(work_for_both(), on_event=seen))
        await seen.until("assigned", 0)

        time.sleep(seconds)  # noqa: ASYNC251 - as an app does that computes in its event loop

        run = await running
    await run.release()
    await until_empty(session, *nodes)
    return run


async def test_app_that_is_held_up_for_ten_seconds_loses_nothing(
    node: Daemon, start_node: StartNode, open_session: OpenSession
) -> None:
    other = start_node("n2", "--join", node.address)
    seen = Observer()
    async with open_session(node) as session:
        run = await run_held_up_for(BLOCKED_S, session, seen, node, other)

    assert run.results["length"] == 12 * functions.LARGE
    assert set(seen.kinds()) <= {"assigned", "completed", "recalled"}


async def test_app_that_is_held_up_for_longer_than_its_lease_still_gets_right_results(
    node: Daemon, start_node: StartNode, open_session: OpenSession
) -> None:
    other = start_node("n2", "--join", node.address)
    seen = Observer()
    async with open_session(node) as session:
        run = await run_held_up_for(LEASE_S + 1.0, session, seen, node, other)

    assert run.results["length"] == 12 * functions.LARGE
    assert seen.kinds()["lost"] > 0, "the lease had not ended"
