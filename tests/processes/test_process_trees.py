"""Functions with a time limit, and nodes that functions have started, leave no process and no file."""

import asyncio
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import handoff_actors as handoff
from tests.processes.app import App, single
from tests.workers import trees
from tests.workers.announcement import Announcement
from tests.workers.functions import announce
from tests.workers.pool_harness import assert_ended

pytestmark = pytest.mark.processes


async def test_time_limit_ends_processes_in_sessions_of_their_own(app: App) -> None:
    mark = f"mark{secrets.token_hex(4)}"

    with pytest.raises(handoff.FunctionFailed) as failed:
        await app.run(single(start_all_and_sleep, mark, max_retries=0, timeout=1.5))

    assert failed.value.kind == "timeout"
    assert trees.marked(mark) == []


def start_all_and_sleep(mark: str) -> None:
    for kind in ("session", "daemon", "program"):
        trees.start(kind, mark)
    time.sleep(600)


def run_a_node_and_sleep(path: str, directory: str) -> None:
    outer = str(os.getpid())

    def begin() -> None:
        announce(path, outer)
        time.sleep(600)

    async def main() -> None:
        async with handoff.Session(seeds=(), local_node={"cpu": 1}, progress=False) as session:
            await session.execute_distributed(single(begin))

    tempfile.tempdir = directory
    asyncio.run(main())


def run_a_cluster_and_sleep(path: str, directory: str) -> None:
    os.environ["TMPDIR"] = directory
    with handoff.LocalCluster(nodes=1) as cluster:
        announce(path, str(os.getpid()))
        time.sleep(600)
        assert cluster


@pytest.mark.parametrize("code", [run_a_node_and_sleep, run_a_cluster_and_sleep])
async def test_cancelled_function_takes_the_node_along_that_it_has_started(
    app: App, announcement: Announcement, code: Callable[..., None], tmp_path: Path
) -> None:
    directory = tmp_path / "of the node"
    directory.mkdir()
    running = asyncio.create_task(app.call(code, announcement.path, str(directory)))
    worker = psutil.Process(int(await announcement.text()))
    started = worker.children(recursive=True)
    assert len(started) > 1
    assert list(directory.iterdir()) != []

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    for process in (worker, *started):
        assert_ended(process)
    assert list(directory.iterdir()) == []


def leave_semaphores(path: str) -> None:
    """Hold what multiprocessing has in shared memory, until the worker is killed."""
    context = multiprocessing.get_context("spawn")
    held: list[Any] = [context.Lock(), context.Semaphore(2)]
    tracker: Any = sys.modules["multiprocessing.resource_tracker"]
    names = [f"sem.{one._semlock.name.removeprefix('/')}" for one in held]
    Path(path).write_text(f"{tracker._resource_tracker._pid} {' '.join(names)}", encoding="utf-8")
    time.sleep(600)


async def test_killed_function_leaves_no_semaphores(app: App, tmp_path: Path) -> None:
    with pytest.raises(handoff.FunctionFailed):
        await app.run(single(leave_semaphores, str(tmp_path / "held"), timeout=1.5, max_retries=0))

    tracker, *held = (tmp_path / "held").read_text(encoding="utf-8").split()
    # It removes them when it sees the end of the worker.
    with suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(int(tracker)).wait, 10)
    assert held
    assert shared_memory_of(held) == []


def shared_memory_of(names: list[str]) -> list[str]:
    return [name for name in names if Path("/dev/shm", name).exists()]
