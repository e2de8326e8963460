"""SIGINT is an exception of the function that runs, or ends what it has started, and never harms the worker."""

import _thread
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from handoff_actors.ids import WorkerId
from tests.workers.announcement import Announcement
from tests.workers.functions import announce
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template

pytestmark = pytest.mark.processes

both = pytest.mark.parametrize("worker", [SYNC, ASYNC])


def interrupt_a_program() -> tuple[int, bool]:
    started = time.monotonic()
    with subprocess.Popen(["sleep", "20"]) as program:
        program.send_signal(signal.SIGINT)
    return program.returncode, time.monotonic() - started < 10


def interrupt_a_fork() -> int:
    child = os.fork()
    if child == 0:
        try:
            signal.pause()
        except KeyboardInterrupt:
            os._exit(5)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        # It may not have come to the pause yet.
        os.kill(child, signal.SIGINT)
        time.sleep(0.01)
    return 5


async def await_for_long(seconds: float = 20) -> None:
    await asyncio.sleep(seconds)


async def interrupt_while_waiting() -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    await await_for_long()


async def interrupt_while_waiting_and_return() -> str:
    try:
        await interrupt_while_waiting()
    except (asyncio.CancelledError, KeyboardInterrupt):
        # On a busy machine it may not have come to wait yet.
        return "interrupted"
    return "slept"


def interrupt_while_sleeping() -> str:
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(20)
    except KeyboardInterrupt:
        return "interrupted"
    return "slept"


#: Handled by workers: recalls, and signals that all processes of a node get.
OWN = {signal.SIGIO, signal.SIGTERM, signal.SIGHUP}


def handlers() -> dict[str, str]:
    """Return the handler of each signal."""
    numbers = signal.valid_signals() - OWN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return {str(int(number)): str(signal.getsignal(number)) for number in numbers - {signal.SIGINT}}


@contextmanager
def ignored(*numbers: int) -> Iterator[None]:
    """Ignore signals in this process."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@both
async def test_function_may_interrupt_what_it_has_started(harness: PoolHarness, worker: Any) -> None:
    assert await harness.call(worker, interrupt_a_program) == (-signal.SIGINT, True)
    assert await harness.call(worker, interrupt_a_fork) == 5


@both
@pytest.mark.parametrize(
    "code",
    [_thread.interrupt_main, lambda: os.kill(os.getpid(), signal.SIGINT)],
    ids=["interrupt_main", "kill"],
)
async def test_interrupt_is_the_functions_exception_and_the_worker_goes_on(
    harness: PoolHarness, worker: Any, code: Any
) -> None:
    assert isinstance(await harness.error_of(worker, code), KeyboardInterrupt)

    assert [kind for kind, _, _ in harness.failed.values()] == ["exception"]
    assert await harness.call(worker, os.getpid) == harness.pids[worker]


async def test_function_may_catch_its_interrupt(harness: PoolHarness) -> None:
    assert await harness.call(SYNC, interrupt_while_sleeping) == "interrupted"
    assert await harness.call(ASYNC, interrupt_while_waiting_and_return) == "interrupted"


@both
async def test_waiting_coroutine_is_interrupted(harness: PoolHarness, worker: Any) -> None:
    assert isinstance(await harness.error_of(worker, interrupt_while_waiting), KeyboardInterrupt)


async def test_one_of_several_waiting_coroutines_is_not_interrupted(
    harness: PoolHarness, announcement: Announcement
) -> None:
    async def begin_to_wait(path: str) -> str:
        # By now both wait.
        asyncio.get_running_loop().call_later(0.02, announce, path)
        await asyncio.sleep(0.2)
        return "waited"

    others = [
        harness.start(ASYNC, await_for_long, 0.2),
        harness.start(ASYNC, begin_to_wait, announcement.path),
    ]
    await announcement.text()

    os.kill(harness.pids[ASYNC], signal.SIGINT)

    for index in others:
        await harness.end_of(index)
    assert harness.failed == {}


async def test_interrupt_of_an_own_task_ends_only_what_awaits_it(harness: PoolHarness) -> None:
    async def interrupt_in_a_task() -> None:
        async def interrupt() -> None:
            _thread.interrupt_main()

        await asyncio.create_task(interrupt())

    other = harness.start(ASYNC, await_for_long, 0.2)

    assert isinstance(await harness.error_of(ASYNC, interrupt_in_a_task), KeyboardInterrupt)
    await harness.end_of(other)
    assert other in harness.done


@both
async def test_interrupts_at_any_time_lose_no_message(harness: PoolHarness, worker: Any) -> None:
    await harness.until(lambda: worker in harness.pids)
    pid, stop = harness.pids[worker], threading.Event()

    def interrupt() -> None:
        while not stop.wait(0.0002):
            os.kill(pid, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        for start in range(0, 2400, 300):
            jobs = [job(index, "x" * (index % 7 * 10_000)) for index in range(start, start + 300)]
            harness.pool.give(worker, RUN, {0: template(str)}, jobs, None)
            if worker == SYNC:
                harness.pool.recall(worker)
                await harness.until(lambda: len(harness.recalls) == start // 300 + 1)  # noqa: B023
            given_back = {index for recalled in harness.recalls for _, index, _ in recalled}
            for index in range(start, start + 300):
                if index not in given_back:
                    await harness.end_of(index)
    finally:
        stop.set()
        interrupting.join()

    assert {kind for kind, _, _ in harness.failed.values()} <= {"exception"}
    assert await harness.call(worker, os.getpid) == pid
    assert harness.exits == {}


@both
async def test_function_sees_the_handlers_of_any_python_program(harness: PoolHarness, worker: Any) -> None:
    fresh = (
        "import json, signal; print(json.dumps({str(int(number)): str(signal.getsignal(number))"
        f" for number in signal.valid_signals() - {set(map(int, OWN | {signal.SIGINT}))}}}))"
    )
    # Shells have what they start in the background ignore signals, as `nohup` does, and with it all of these tests.
    env = ["env", "--default-signal"]
    program = await asyncio.create_subprocess_exec(*env, sys.executable, "-c", fresh, stdout=subprocess.PIPE)
    expected, _ = await program.communicate()

    with ignored(signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        harness.pool.spawn(WorkerId(3), is_async=worker == ASYNC)
        assert await harness.call(WorkerId(3), handlers) == json.loads(expected)


async def test_signals_that_the_app_ignores_reach_what_functions_start(tmp_path: Any) -> None:
    with ignored(signal.SIGHUP, signal.SIGINT):
        harness = PoolHarness(tmp_path / "store")
        await harness.pool.start()
    harness.pool.spawn(SYNC, is_async=False)
    try:
        assert await harness.call(SYNC, hang_up_a_program) == -signal.SIGHUP
        assert await harness.call(SYNC, interrupt_a_program) == (-signal.SIGINT, True)
    finally:
        await harness.pool.close()


def hang_up_a_program() -> int:
    with subprocess.Popen(["sleep", "20"]) as program:
        program.send_signal(signal.SIGHUP)
    return program.returncode
