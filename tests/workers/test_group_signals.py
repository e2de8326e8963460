"""Signals to all processes of a node leave its workers alone; one that a worker gets alone does what it always does."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import time
from typing import Any

import psutil
import pytest

from tests.workers.announcement import Announcement
from tests.workers.functions import announce, announce_and_sleep
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness

pytestmark = pytest.mark.processes

both = pytest.mark.parametrize("worker", [SYNC, ASYNC])
every_signal = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])


async def announce_and_await(path: str, seconds: float) -> str:
    announce(path)
    await asyncio.sleep(seconds)
    return "slept"


def terminate_a_program() -> int:
    with subprocess.Popen(["sleep", "20"]) as program:
        program.terminate()
    return program.returncode


def terminate_a_fork() -> int:
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def terminate_a_process() -> int | None:
    # In a process of its own, as functions use it.
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


def replace_the_handler() -> bool:
    usual = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return callable(usual)


@every_signal
@both
@pytest.mark.parametrize("is_zygote_first", [True, False])
async def test_signal_to_all_processes_of_a_node_lets_functions_run_on(
    harness: PoolHarness,
    announcement: Announcement,
    worker: Any,
    number: signal.Signals,
    is_zygote_first: bool,
) -> None:
    code: Any = announce_and_sleep if worker == SYNC else announce_and_await
    index = harness.start(worker, code, announcement.path, 0.3)
    await announcement.text()
    pids = [harness.pids[worker], zygote_of(harness.pids[worker])]
    for pid in reversed(pids) if is_zygote_first else pids:
        os.kill(pid, number)

    await harness.end_of(index)
    assert harness.result(index) == "slept"
    assert harness.exits == {}


@both
async def test_processes_that_functions_start_can_be_terminated(harness: PoolHarness, worker: Any) -> None:
    for code in (terminate_a_program, terminate_a_fork, terminate_a_process):
        assert await harness.call(worker, code) == -signal.SIGTERM


async def test_function_that_sets_a_handler_leaves_the_next_one_unharmed(
    harness: PoolHarness, announcement: Announcement
) -> None:
    assert await harness.call(SYNC, replace_the_handler)
    index = harness.start(SYNC, announce_and_sleep, announcement.path, 0.3)
    await announcement.text()
    for pid in (zygote_of(harness.pids[SYNC]), harness.pids[SYNC]):
        os.kill(pid, signal.SIGTERM)

    await harness.end_of(index)
    assert harness.result(index) == "slept"


def zygote_of(worker: int) -> int:
    parent: int = psutil.Process(worker).ppid()
    return parent
