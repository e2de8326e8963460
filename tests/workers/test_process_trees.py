"""Processes that functions have started end with their worker, wherever these have gone; nothing else ends with it."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from handoff_actors.ids import RunId, WorkerId
from handoff_actors.workers import process_trees
from tests.workers import trees
from tests.workers.announcement import Announcement
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness, zygote_of

pytestmark = pytest.mark.processes

kinds = pytest.mark.parametrize("kind", ["session", "daemon", "program", "generations", "successors", "bomb"])


@pytest.fixture
async def mark() -> AsyncIterator[str]:
    made = f"mark{secrets.token_hex(4)}"
    yield made
    for pid in trees.marked(made):
        os.kill(pid, signal.SIGKILL)


async def gone(mark: str) -> None:
    """Wait until no process has the mark."""
    async with asyncio.timeout(10):
        while trees.marked(mark):  # noqa: ASYNC110 - nothing tells of them
            await asyncio.sleep(0.01)


@kinds
async def test_processes_end_before_the_end_of_a_killed_worker_is_reported(
    harness: PoolHarness, announcement: Announcement, mark: str, kind: str
) -> None:
    harness.start(SYNC, trees.start_and_wait, kind, mark, announcement.path)
    await announcement.text()

    harness.pool.kill(SYNC)

    assert await harness.exit_of(SYNC) == (signal.SIGKILL, None)
    assert trees.marked(mark) == []


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_processes_end_with_a_worker_that_dies(harness: PoolHarness, mark: str, worker: Any) -> None:
    harness.start(worker, trees.start_and_exit, "daemon", mark)

    assert await harness.exit_of(worker) == (None, 3)
    assert trees.marked(mark) == []


@pytest.mark.parametrize("kind", ["session", "daemon"])
async def test_processes_of_a_function_that_has_returned_live_as_long_as_their_worker(
    harness: PoolHarness, mark: str, kind: str
) -> None:
    assert await harness.call(SYNC, trees.start_and_return, kind, mark) == 1
    assert len(trees.marked(mark)) == 1

    harness.pool.kill(SYNC)

    await harness.exit_of(SYNC)
    assert trees.marked(mark) == []


async def test_processes_of_a_coroutine_end_when_it_is_cancelled(
    harness: PoolHarness, announcement: Announcement, mark: str
) -> None:
    """Those of other coroutines of the same worker live on."""
    others = f"others{mark[-4:]}"
    assert await harness.call(ASYNC, trees.start_async_and_return, others) == 1
    index = harness.start(ASYNC, trees.start_async_and_wait, mark, announcement.path)
    await announcement.text()

    harness.pool.cancel(ASYNC, RunId(index), index, 1)
    await harness.end_of(index)

    await gone(mark)
    assert len(trees.marked(others)) == 1
    harness.pool.kill(ASYNC)
    await harness.exit_of(ASYNC)
    assert trees.marked(others) == []


async def test_processes_of_another_worker_live_on(
    harness: PoolHarness, announcement: Announcement, mark: str
) -> None:
    others = f"others{mark[-4:]}"
    harness.pool.spawn(WorkerId(3), is_async=False)
    await harness.call(WorkerId(3), trees.start_and_return, "daemon", others)
    harness.start(SYNC, trees.start_and_wait, "daemon", mark, announcement.path)
    await announcement.text()

    harness.pool.kill(SYNC)
    await harness.exit_of(SYNC)

    assert (len(trees.marked(mark)), len(trees.marked(others))) == (0, 1)
    await harness.pool.close()
    assert trees.marked(others) == []


async def test_function_that_waits_for_any_child_sees_its_own_only(harness: PoolHarness, mark: str) -> None:
    assert await harness.call(SYNC, trees.wait_for_all_children, mark) == (True, True)


@pytest.mark.parametrize("kind", ["session", "daemon", "successors"])
async def test_processes_end_though_the_zygote_is_killed(harness: PoolHarness, mark: str, kind: str) -> None:
    await harness.call(SYNC, trees.start_and_return, kind, mark)

    zygote_of(harness.store).kill()

    await harness.exit_of(SYNC)
    await gone(mark)


@pytest.mark.parametrize("kind", ["daemon", "bomb"])
async def test_closing_leaves_no_process(harness: PoolHarness, mark: str, kind: str) -> None:
    await harness.call(SYNC, trees.start_and_return, kind, mark)

    await harness.pool.close()

    assert trees.marked(mark) == []


async def test_processes_end_after_their_app_is_killed(tmp_path: Path, mark: str) -> None:
    script = f"""
import asyncio
from pathlib import Path
from tests.workers import trees
from tests.workers.pool_harness import SYNC, PoolHarness

async def main():
    harness = PoolHarness(Path({str(tmp_path / "store")!r}))
    await harness.pool.start()
    harness.pool.spawn(SYNC, is_async=False)
    await harness.call(SYNC, trees.start_and_return, "daemon", {mark!r})
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    app = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert app.stdout is not None
    assert await app.stdout.readline() == b"started\n"

    app.kill()

    await app.wait()
    await gone(mark)


def test_zygotes_are_known_by_their_tags() -> None:
    tree = process_trees.new_tree()

    assert process_trees.is_zygote(process_trees.tag_of_worker(tree, 0))
    assert not process_trees.is_zygote(process_trees.tag_of_worker(tree, 1))
    assert not process_trees.is_zygote(process_trees.tag_of(os.getpid()))
    assert process_trees.tag_of_worker(tree, 7) < 2**63
