"""Output and log records of functions, as they leave the workers of a node."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from handoff_actors.ids import RunId, WorkerId
from handoff_actors.wire.messages.jobs import Dropped, Logged, Printed
from handoff_actors.workers.child.output import BURST_NBYTES
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template


async def said_by(
    harness: PoolHarness, code: Callable[..., Any], worker: WorkerId = SYNC, level: int = logging.WARNING
) -> list[Any]:
    """Run a function and give its output, which comes before its end."""
    harness.pool.give(worker, RUN, {0: template(code, log_level=level)}, [job(5)], None)
    await harness.until(lambda: 5 in harness.done or 5 in harness.failed or worker in harness.exits)
    return harness.said


def text_of(said: list[Any], *, is_error: bool = False) -> str:
    return "".join(part.text for part in said if isinstance(part, Printed) and part.is_error == is_error)


def _print_both() -> None:
    print("fine", "so", "far")
    print("not fine", file=sys.stderr)
    print("no end", end="")


async def _print_later() -> None:
    print("first")
    await asyncio.sleep(0)
    await asyncio.to_thread(print, "from a thread")


async def test_output_of_a_function_comes_line_by_line_before_its_end(harness: PoolHarness) -> None:
    said = await said_by(harness, _print_both)

    assert said == [
        Printed(5, 1, False, "fine so far\n"),
        Printed(5, 1, True, "not fine\n"),
        Printed(5, 1, False, "no end"),
        Printed(5, 1, False, "\n"),
    ]


async def test_coroutines_print_under_their_own_names(harness: PoolHarness) -> None:
    only = {0: template(_print_later, log_level=logging.WARNING)}
    harness.pool.give(ASYNC, RUN, only, [job(1), job(2)], None)
    await harness.until(lambda: {1, 2} <= harness.done.keys())

    for index in (1, 2):
        assert text_of([part for part in harness.said if part.index == index]) == "first\nfrom a thread\n"


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_no_output_is_sent_to_an_app_that_does_not_want_it(
    harness: PoolHarness, worker: WorkerId
) -> None:
    await harness.call(worker, _print_both)

    assert harness.said == []


async def test_an_unfinished_line_belongs_to_the_function_that_began_it(harness: PoolHarness) -> None:
    only = {0: template(_print_both, log_level=logging.WARNING)}
    harness.pool.give(SYNC, RUN, only, [job(1), job(2)], None)
    await harness.until(lambda: {1, 2} <= harness.done.keys())

    assert text_of([part for part in harness.said if part.index == 1]) == "fine so far\nno end\n"


async def test_long_lines_and_many_bytes_arrive_whole(harness: PoolHarness) -> None:
    text = "ä€" * 20_000

    def print_long() -> None:
        print(text)

    assert text_of(await said_by(harness, print_long)) == text + "\n"


def _flood() -> None:
    for number in range(100_000):
        print("line", number, "of a flood that is far beyond what there is room for")


async def test_a_flood_is_bounded_and_every_line_is_accounted_for(harness: PoolHarness) -> None:
    said = await said_by(harness, _flood)

    text = text_of(said)
    arrived = text.count("\n")
    dropped = sum(part.lines for part in said if isinstance(part, Dropped))
    assert arrived + dropped == 100_000
    assert arrived > 500
    # The sender takes a moment, in which there is room for more.
    assert len(text) < 8 * BURST_NBYTES
    assert text.startswith("line 0 of a flood")


def _print_and_die() -> None:
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)


async def test_the_last_words_of_a_worker_arrive_before_its_end(harness: PoolHarness) -> None:
    said = await said_by(harness, _print_and_die)

    assert text_of(said) == "last words\n"


def _print_everywhere() -> None:
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: print("from a fork"))
    process.start()
    process.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_threads_and_forks_print_for_their_function(harness: PoolHarness) -> None:
    said = await said_by(harness, _print_everywhere)

    assert sorted(text_of(said).splitlines()) == ["from a fork", "from a thread"]


def _log() -> None:
    log = logging.getLogger("users.library")
    log.info("started with %d", 3)
    try:
        int("broken")
    except ValueError:
        log.exception("could not")


async def test_records_are_sent_as_such_from_the_level_of_the_app(harness: PoolHarness) -> None:
    info, error = await said_by(harness, _log, level=logging.INFO)

    assert isinstance(info, Logged)
    assert (info.name, info.level, info.message, info.error) == (
        "users.library",
        logging.INFO,
        "started with 3",
        "",
    )
    assert (info.path.endswith("test_output.py"), info.function) == (True, "_log")
    assert isinstance(error, Logged)
    assert error.message == "could not"
    assert error.error.endswith("ValueError: invalid literal for int() with base 10: 'broken'")


async def test_a_huge_record_is_shortened(harness: PoolHarness) -> None:
    def log_much() -> None:
        logging.getLogger("much").warning("%sä\udc80end", "x" * 100_000)

    (record,) = await said_by(harness, log_much)

    assert isinstance(record, Logged)
    assert record.name == "much"
    assert record.message.startswith("xxx")
    assert record.message.endswith("ä\\udc80end")
    assert len(record.message) < 2000


async def test_a_record_that_is_huge_in_every_way_is_one_write(harness: PoolHarness) -> None:
    def log_much() -> None:
        try:
            int("y" * 10_000)
        except ValueError:
            logging.getLogger("much" * 1000).exception("x" * 10_000)

    (record,) = await said_by(harness, log_much)

    assert isinstance(record, Logged)
    assert "yyy" in record.error


async def test_output_of_a_function_that_sets_up_logging_itself_arrives_as_printed(
    harness: PoolHarness,
) -> None:
    def log_own_way() -> None:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(message)s", force=True)
        logging.getLogger("own").debug("in its own way")
        logging.basicConfig(handlers=[], force=True)

    said = await said_by(harness, log_own_way)

    assert text_of(said, is_error=True) == "DEBUG:in its own way\n"


async def test_bytes_written_to_the_buffer_arrive_too(harness: PoolHarness) -> None:
    def write_bytes() -> None:
        sys.stdout.buffer.write(b"bytes\n")
        assert sys.stdout.fileno() == 1
        assert isinstance(sys.stdout.isatty(), bool)

    assert text_of(await said_by(harness, write_bytes)) == "bytes\n"


async def test_output_of_a_new_zygotes_workers_arrives_as_well(harness: PoolHarness) -> None:
    harness.start(SYNC, lambda: os.kill(os.getppid(), signal.SIGKILL))
    await harness.exit_of(SYNC)
    harness.pool.spawn(WorkerId(9), is_async=False)

    harness.pool.give(
        WorkerId(9), RunId(8), {0: template(_print_both, log_level=logging.WARNING)}, [job(5)], None
    )
    await harness.until(lambda: 5 in harness.done)

    assert text_of(harness.said) == "fine so far\nno end\n"
