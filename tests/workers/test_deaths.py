"""Each end of a worker, the zygote or the node is reported once, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from handoff_actors.ids import WorkerId
from tests.workers import functions
from tests.workers.announcement import Announcement
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness, assert_ended, zygote_of

pytestmark = pytest.mark.processes

_APP = """
import asyncio, sys
from pathlib import Path
from tests.workers.pool_harness import SYNC, PoolHarness

async def main():
    harness = PoolHarness(Path(sys.argv[1]))
    await harness.pool.start()
    harness.pool.spawn(SYNC, is_async=False)
    await harness.until(lambda: SYNC in harness.pids)
    (harness.store / "value").write_bytes(b"x")
    print(harness.pids[SYNC], flush=True)
    {then}
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "args", "expected"),
    [
        (functions.exit_at_once, (3,), (None, 3)),
        (functions.read_address_zero, (), (signal.SIGSEGV, None)),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), (), (signal.SIGTERM, None)),
    ],
    ids=["exit", "segfault", "terminated"],
)
@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_worker_that_dies_is_reported_with_how(
    harness: PoolHarness, worker: Any, code: Any, args: Any, expected: tuple[int | None, int | None]
) -> None:
    harness.start(worker, code, *args)

    assert await harness.exit_of(worker) == expected


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_worker_whose_function_closes_its_channels_is_ended(harness: PoolHarness, worker: Any) -> None:
    harness.start(worker, lambda: os.closerange(3, 256))

    await harness.exit_of(worker)


async def test_death_of_one_worker_leaves_the_others(harness: PoolHarness) -> None:
    harness.start(SYNC, functions.exit_at_once, 3)
    await harness.exit_of(SYNC)

    assert await harness.call(ASYNC, functions.add, 1, 2) == 3


async def test_results_before_a_death_are_delivered_before_it(harness: PoolHarness) -> None:
    before = [harness.start(SYNC, functions.add, number, 1) for number in range(50)]
    harness.start(SYNC, functions.exit_at_once, 0)

    await harness.exit_of(SYNC)

    assert all(index in harness.done for index in before)


async def test_killed_worker_ends_though_it_ignores_signals(
    harness: PoolHarness, announcement: Announcement
) -> None:
    harness.start(SYNC, functions.announce_and_ignore_signals, announcement.path)
    await announcement.text()

    harness.pool.kill(SYNC)

    assert await harness.exit_of(SYNC) == (signal.SIGKILL, None)


async def test_killed_worker_takes_its_own_processes_with_it(
    harness: PoolHarness, announcement: Announcement
) -> None:
    harness.start(SYNC, functions.start_process_and_wait, announcement.path)
    child = psutil.Process(int(await announcement.text()))

    harness.pool.kill(SYNC)
    await harness.exit_of(SYNC)

    assert_ended(child)


async def test_kill_right_after_spawn_is_obeyed(harness: PoolHarness) -> None:
    harness.pool.spawn(WorkerId(9), is_async=False)
    harness.pool.kill(WorkerId(9))

    assert await harness.exit_of(9) == (signal.SIGKILL, None)


async def test_worker_killed_from_outside_is_replaced_by_the_next_spawn(harness: PoolHarness) -> None:
    await harness.until(lambda: SYNC in harness.pids)
    os.kill(harness.pids[SYNC], signal.SIGKILL)
    await harness.exit_of(SYNC)

    harness.pool.spawn(WorkerId(3), is_async=False)

    assert await harness.call(WorkerId(3), functions.add, 1, 2) == 3


async def test_zygotes_death_ends_its_workers_and_the_next_spawn_starts_another(
    harness: PoolHarness, announcement: Announcement
) -> None:
    await harness.until(lambda: len(harness.pids) == 2)
    harness.start(SYNC, functions.start_process_and_wait, announcement.path)
    child = psutil.Process(int(await announcement.text()))

    psutil.Process(harness.pids[SYNC]).parent().kill()

    assert await harness.exit_of(SYNC) == await harness.exit_of(ASYNC) == (signal.SIGKILL, None)
    assert_ended(child)
    harness.pool.spawn(WorkerId(3), is_async=False)
    assert await harness.call(WorkerId(3), functions.add, 1, 2) == 3


async def test_zygotes_death_before_it_was_ready_is_reported_for_each_worker(tmp_path: Path) -> None:
    harness = PoolHarness(tmp_path / "store")
    await harness.pool.start()
    for number in range(1, 40):
        harness.pool.spawn(WorkerId(number), is_async=bool(number % 2))

    zygote_of(harness.store).kill()

    await harness.until(lambda: len(harness.exits) == 39)
    await harness.pool.close()


async def test_no_worker_is_interrupted_by_the_terminal(harness: PoolHarness) -> None:
    await harness.until(lambda: SYNC in harness.pids)
    os.kill(harness.pids[SYNC], signal.SIGINT)

    assert await harness.call(SYNC, functions.add, 1, 2) == 3


async def test_close_leaves_no_descriptor_and_no_child(tmp_path: Path, announcement: Announcement) -> None:
    this = psutil.Process()
    descriptors, children = this.num_fds(), this.children(recursive=True)
    harness = PoolHarness(tmp_path / "store")
    await harness.pool.start()
    harness.pool.spawn(SYNC, is_async=False)
    harness.start(SYNC, functions.start_process_and_wait, announcement.path)
    child = psutil.Process(int(await announcement.text()))

    await harness.pool.close()

    assert (this.num_fds(), this.children(recursive=True)) == (descriptors, children)
    assert harness.exits == {SYNC: (signal.SIGKILL, None)}
    assert_ended(child)


async def test_store_that_is_not_empty_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    harness = PoolHarness(tmp_path)

    with pytest.raises(FileExistsError):
        await harness.pool.start()

    await harness.pool.close()
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    "then",
    ["", "import os; os.fork() or await_forever()"],
    ids=["alone", "with a fork of its own that lives on"],
)
def test_killed_node_leaves_no_worker_and_no_store(tmp_path: Path, then: str) -> None:
    then = then.replace("await_forever()", "__import__('time').sleep(600)")
    script = _APP.format(then=f"{then}\n    print('there', flush=True)")
    app = _run(script, tmp_path / "store")
    assert app.stdout is not None
    worker = psutil.Process(int(app.stdout.readline()))
    assert app.stdout.readline() == b"there\n"
    zygote = worker.parent()
    assert zygote is not None
    forks = [child for child in psutil.Process(app.pid).children() if child != zygote]

    app.kill()

    assert_ended(worker)
    assert_ended(zygote)
    assert not (tmp_path / "store").exists()
    for fork in forks:
        fork.kill()
    app.stdout.close()
    app.wait()


def test_script_from_standard_input_runs_its_own_functions_and_prints(tmp_path: Path) -> None:
    script = """
from concurrent.futures import ProcessPoolExecutor

class Point:
    def __init__(self, x):
        self.x = x

def grow(x):
    return x + 1

def work(point):
    print("printed by a worker")
    with ProcessPoolExecutor(2) as executor:
        return Point(sum(executor.map(grow, range(point.x))))

async def run(harness):
    point = await harness.call(SYNC, work, Point(3))
    assert isinstance(point, Point), point
    print("result", point.x)
    await harness.pool.close()
    raise SystemExit
""" + _APP.format(then="await run(harness)")

    app = _run(script, tmp_path / "store")
    output, _ = app.communicate(timeout=30)

    assert output.decode().split("\n")[1:] == ["printed by a worker", "result 6", ""]


def _run(script: str, store: Path) -> subprocess.Popen[bytes]:
    """Run a script as `python -` does."""
    app = subprocess.Popen(
        [sys.executable, "-", str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert app.stdin is not None
    app.stdin.write(script.encode())
    app.stdin.close()
    app.stdin = None
    return app
