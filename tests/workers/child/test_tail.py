import os
import signal
import sys
import threading
from typing import Any

import pytest

from handoff_actors.workers.child.tail import Tail
from tests.workers import functions
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness


def _tail_of(*printed: bytes) -> str:
    tail = Tail()
    for piece in printed:
        tail.add(memoryview(piece))
    return tail.text()


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ([], ""),
        ([b"one\n", b"two"], "one\ntwo"),
        ([b"%d\n" % number for number in range(100)], "\n".join(map(str, range(80, 100)))),
        ([b"x" * 5000], "x" * 4096),
        ([b"x" * 5000 + b"\n", b"last\n"], "last"),
        ([b"x" * 300 + b"\n"] * 100, "\n".join(["x" * 300] * 13)),
        ([b"\xff\n"], "\ufffd"),
    ],
    ids=["nothing", "a little", "many lines", "one long line", "part of a line", "long lines", "no text"],
)
def test_tail_is_the_last_whole_lines(printed: list[bytes], kept: str) -> None:
    assert _tail_of(*printed) == kept


def test_cleared_tail_is_empty() -> None:
    tail = Tail()
    tail.add(memoryview(b"before\n"))

    tail.clear()

    assert tail.text() == ""


def _print_and_raise() -> None:
    sys.stdout.write("without a newline")
    raise ValueError("no")


def _print_and_die(how: str) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        functions.read_address_zero()
    os.kill(os.getpid(), signal.SIGKILL)


async def _print_and_raise_later() -> None:
    print("from a coroutine")
    raise ValueError("no")


async def test_exception_carries_what_its_function_printed_and_the_workers_memory(
    harness: PoolHarness,
) -> None:
    await harness.call(SYNC, lambda: print("said by another function"))
    index = harness.start(SYNC, _print_and_raise)
    await harness.end_of(index)

    traces = harness.traces[index]
    assert traces.printed == "without a newline"
    assert 5e6 < traces.peak_nbytes < 5e8


async def test_exception_of_a_coroutine_carries_what_its_worker_printed(harness: PoolHarness) -> None:
    index = harness.start(ASYNC, _print_and_raise_later)
    await harness.end_of(index)

    assert harness.traces[index].printed == "from a coroutine"


@pytest.mark.parametrize("how", ["exit", "segfault", "kill"])
async def test_dead_worker_leaves_what_it_printed_and_its_memory(harness: PoolHarness, how: str) -> None:
    harness.start(SYNC, _print_and_die, how)
    await harness.exit_of(SYNC)

    traces = harness.last_traces[SYNC]
    assert traces.printed == "to stdout\nto stderr"
    assert 5e6 < traces.peak_nbytes < 5e8


def _print_in_threads() -> None:
    threads = [threading.Thread(target=print, args=("x" * 3000,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(1)


async def test_much_printed_by_many_threads_at_once_still_arrives_as_text(harness: PoolHarness) -> None:
    harness.start(SYNC, _print_in_threads)
    await harness.exit_of(SYNC)

    printed: Any = harness.last_traces[SYNC].printed
    assert set(printed) <= {"x", "\n", "\0"}
    assert len(printed) > 1000


async def test_function_that_closes_its_streams_can_still_fail(harness: PoolHarness) -> None:
    def close_and_raise() -> None:
        sys.stdout.close()
        raise ValueError("no")

    assert isinstance(await harness.error_of(SYNC, close_and_raise), ValueError)
