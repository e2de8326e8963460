"""Reports of functions, as they leave the workers of a node; and what functions know of themselves."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.errors import HandoffError, SerializationError
from handoff_actors.ids import RunId, WorkerId
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.messages.jobs import Emitted, Progressed, Said
from handoff_actors.wire.payload import decode
from handoff_actors.workers.child import reports
from handoff_actors.workers.child.reports import MOST_EMITTED_NBYTES, PROGRESS_BURST, JobReports
from handoff_actors.workers.output_protocol import output_part
from handoff_actors.workers.pool.output_reader import OutputReader
from handoff_actors.workers.rows import RowReader
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template

KEY = (RUN, 5, 1)
BOTH = pytest.mark.parametrize("worker", [SYNC, ASYNC])


async def said_by(harness: PoolHarness, code: Callable[..., Any], worker: WorkerId = SYNC) -> list[Said]:
    """Run a function and give its reports, which come before its end."""
    harness.pool.give(worker, RUN, {0: template(code, sends_values=True)}, [job(5)], None)
    await harness.end_of(5)
    if 5 in harness.failed:
        raise decode_exception(harness.failed[5][1])
    return harness.said


def emitted(said: list[Said]) -> list[Any]:
    return [decode(part.value) for part in said if isinstance(part, Emitted)]


# --- Emitted values


def _emit_often() -> None:
    function = handoff.current()
    for number in range(200):
        function.emit(number)


async def _emit_later() -> None:
    handoff.current().emit("first")
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: handoff.current().emit("from a thread"))


def _emit_in_threads() -> None:
    def emit(name: int) -> None:
        for number in range(20):
            handoff.current().emit((name, number, bytes(20_000)))

    threads = [threading.Thread(target=emit, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _emit_in_a_fork() -> None:
    function = handoff.current()
    child = os.fork()
    if child == 0:
        function.emit(bytes(10_000))
        os._exit(0)
    os.waitpid(child, 0)


@BOTH
async def test_values_come_in_order_before_the_end(harness: PoolHarness, worker: WorkerId) -> None:
    said = await said_by(harness, _emit_often, worker)

    assert emitted(said) == list(range(200))
    assert {(part.index, part.attempt) for part in said} == {(5, 1)}


async def test_a_coroutine_and_its_threads_emit(harness: PoolHarness) -> None:
    assert emitted(await said_by(harness, _emit_later, ASYNC)) == ["first", "from a thread"]


async def test_large_values_of_threads_arrive_whole_and_in_order(harness: PoolHarness) -> None:
    values = emitted(await said_by(harness, _emit_in_threads))

    assert {content for _, _, content in values} == {bytes(20_000)}
    for name in range(3):
        assert [number for thread, number, _ in values if thread == name] == list(range(20))


async def test_a_fork_of_a_function_may_emit(harness: PoolHarness) -> None:
    await said_by(harness, _emit_in_a_fork)
    await harness.until(lambda: bool(harness.said))

    assert emitted(harness.said) == [bytes(10_000)]


async def test_the_largest_value_is_sent_and_a_larger_one_is_an_error(harness: PoolHarness) -> None:
    def emit() -> None:
        handoff.current().emit(bytes(MOST_EMITTED_NBYTES - 100))
        handoff.current().emit(bytes(MOST_EMITTED_NBYTES))

    with pytest.raises(ValueError, match="takes at most 1,048,576: emit a part or a summary"):
        await said_by(harness, emit)
    assert [len(value) for value in emitted(harness.said)] == [MOST_EMITTED_NBYTES - 100]


async def test_a_value_that_cannot_be_pickled_is_an_error_in_the_function(harness: PoolHarness) -> None:
    def emit() -> None:
        handoff.current().emit({"lock": threading.Lock()})

    with pytest.raises(SerializationError, match="lock"):
        await said_by(harness, emit)


@BOTH
async def test_nothing_is_sent_to_an_app_that_does_not_watch(harness: PoolHarness, worker: WorkerId) -> None:
    def emit() -> None:
        handoff.current().emit(threading.Lock())

    await harness.call(worker, emit)

    assert harness.said == []


async def test_values_of_a_worker_that_dies_within_one_are_dropped(harness: PoolHarness) -> None:
    def die() -> None:
        function = handoff.current()
        function.emit("whole")
        os_write = os.write
        os.write = lambda *arguments: os_write(*arguments) and os._exit(1)
        function.emit(bytes(10_000))

    harness.pool.give(SYNC, RUN, {0: template(die, sends_values=True)}, [job(5)], None)
    await harness.exit_of(SYNC)

    assert emitted(harness.said) == ["whole"]
    assert harness.pool._output_reader is not None
    assert harness.pool._output_reader._pieces == {}


async def test_unfinished_values_are_dropped_with_their_run() -> None:
    reader = OutputReader(lambda run, said: None)
    assert reader.write_end is not None
    parts = JobReports(reader.write_end, lambda key: None)
    sent: list[bytes] = []
    parts._write = sent.append  # type: ignore[assignment]
    parts.emit(KEY, bytes(10_000))

    os.write(reader.write_end, sent[0])
    reader.drain()
    before = len(reader._pieces)
    reader.forget(RUN)

    assert (before, reader._pieces) == (1, {})
    reader.close()


async def test_a_full_pipe_holds_up_what_emits_until_it_is_read() -> None:
    received: list[Said] = []
    reader = OutputReader(lambda run, said: received.extend(said))
    assert reader.write_end is not None
    parts = JobReports(reader.write_end, lambda key: None)

    def emit() -> None:
        for number in range(3):
            parts.emit(KEY, (number, bytes(1_000_000)))

    emitting = threading.Thread(target=emit)

    # The pipe has room for one of them. The loop, which would read it, does not get its turn here.
    emitting.start()
    while emitting.is_alive():
        reader.drain()
    reader.drain()

    assert [decode(part.value)[0] for part in received if isinstance(part, Emitted)] == [0, 1, 2]
    reader.close()


async def test_a_worker_that_emits_too_fast_waits(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    now, waited = 100.0, list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", waited.append)
    parts = JobReports(pipe[1], lambda key: None)
    parts._write = lambda packed: None  # type: ignore[method-assign]

    for _ in range(6):
        parts.emit(KEY, bytes(MOST_EMITTED_NBYTES - 100))

    # Four at once, the fifth overdraws, and the sixth has to wait for what is missing.
    assert waited == [pytest.approx(1.0, abs=0.01)]


# --- Progress


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def sent(pipe: tuple[int, int]) -> list[Any]:
    """Read the amounts that have been reported."""
    try:
        received = os.read(pipe[0], 1 << 16)
    except BlockingIOError:
        return []
    return [said[3:] for _, said in map(output_part, RowReader().rows(received))]


def test_progress_is_sent_ten_times_a_second_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    clock = Clock(monkeypatch)
    announced: list[Any] = []
    parts = JobReports(pipe[1], announced.append)

    for step in range(1000):
        clock.now = step / 1000
        parts.set_progress(KEY, step, 2000)
    during = sent(pipe)
    parts.end(KEY)

    assert 9 <= len(during) <= 10 + PROGRESS_BURST
    assert [done for done, _ in during] == sorted(done for done, _ in during)
    assert sent(pipe) == [(999, 2000)]
    assert announced == [KEY]


def test_a_report_that_all_is_done_is_sent_at_once(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    Clock(monkeypatch)
    parts = JobReports(pipe[1], lambda key: None)

    for step in range(100):
        parts.set_progress(KEY, step, 100)
    parts.set_progress(KEY, 100, 100)
    parts.set_progress(KEY, 101, 100)
    during = sent(pipe)
    parts.end(KEY)

    assert during[-1] == (100, 100)
    assert sent(pipe) == [(101, 100)]


def test_what_has_been_sent_is_not_sent_again(pipe: tuple[int, int]) -> None:
    parts = JobReports(pipe[1], lambda key: None)
    parts.set_progress(KEY, 1, None)
    assert sent(pipe) == [(1, None)]

    parts.end(KEY)
    parts.end(KEY)

    assert sent(pipe) == []


def test_a_full_pipe_holds_up_no_progress(pipe: tuple[int, int]) -> None:
    parts = JobReports(pipe[1], lambda key: None)
    while parts._is_sent(bytes(4096)):
        """Fill the pipe."""

    parts.set_progress(KEY, 1, 2)
    while os.read(pipe[0], 1 << 16) != b"" and not parts._is_sent(b"\x00"):
        """Make room."""
    while sent_bytes := _read(pipe[0]):
        assert set(sent_bytes) == {0}
    parts.end(KEY)

    assert sent(pipe) == [(1, 2)]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def test_a_function_whose_node_is_gone_can_not_report() -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    os.close(read_end)
    parts = JobReports(write_end, lambda key: None)

    with pytest.raises(HandoffError, match="node is gone"):
        parts.emit(KEY, 1)
    parts._progress[KEY] = progress = reports._Progress()
    progress.unsent = b"left"
    parts.end(KEY)
    os.close(write_end)


async def test_the_latest_progress_of_a_coroutine_that_waits_is_sent(harness: PoolHarness) -> None:
    async def progress() -> None:
        for step in range(100):
            handoff.current().set_progress(step)
        await asyncio.sleep(600)

    harness.pool.give(ASYNC, RUN, {0: template(progress)}, [job(5)], None)
    await harness.until(lambda: Progressed(5, 1, 99, None) in harness.said)

    assert len(harness.said) < 10
    harness.pool.cancel(ASYNC, *KEY)
    await harness.end_of(5)


@BOTH
async def test_the_last_progress_comes_before_the_end(harness: PoolHarness, worker: WorkerId) -> None:
    def progress() -> None:
        for step in range(1000):
            handoff.current().set_progress(step)

    said = await said_by(harness, progress, worker)

    assert said[0] == Progressed(5, 1, 0, None)
    assert said[-1] == Progressed(5, 1, 999, None)
    assert len(said) < 20


# --- What a function knows of itself


def _know() -> tuple[Any, ...]:
    function = handoff.current()
    return function.run, function.attempt, function.node, function.worker == os.getpid(), repr(function)


@BOTH
async def test_a_function_knows_its_attempt_its_node_and_its_worker(
    harness: PoolHarness, worker: WorkerId
) -> None:
    harness.pool.give(worker, RUN, {0: template(_know)}, [job(5, attempt=3)], None)
    await harness.end_of(5)

    text = "<function number 5 of run 0000000000000007, attempt 3, on node 'n1'>"
    assert harness.result(5) == ("0000000000000007", 3, "n1", True, text)


@BOTH
@pytest.mark.parametrize("known", ["fit", 0, "x" * 10_000])
async def test_a_function_asks_for_its_id_once(
    harness: PoolHarness, worker: WorkerId, known: str | int
) -> None:
    def ask() -> Any:
        function = handoff.current()
        return function.id, function.id, handoff.current().attempt

    harness.pool.give(worker, RUN, {0: template(ask)}, [job(5)], None)
    await harness.until(lambda: bool(harness.asked))
    harness.pool.tell_id(KEY, known)
    await harness.end_of(5)

    assert harness.result(5) == (known, known, 1)
    assert harness.asked == [KEY]


async def test_threads_ask_at_the_same_time(harness: PoolHarness) -> None:
    def ask() -> list[Any]:
        ids: list[Any] = []
        threads = [threading.Thread(target=lambda: ids.append(handoff.current().id)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ids

    harness.pool.give(SYNC, RUN, {0: template(ask)}, [job(5)], None)
    await harness.until(lambda: len(harness.asked) == 4)
    harness.pool.tell_id(KEY, "fit")
    await harness.end_of(5)

    assert harness.result(5) == ["fit"] * 4


@pytest.mark.parametrize("end", ["none is known", "the run is over"])
async def test_an_id_that_can_not_be_had_is_an_error(harness: PoolHarness, end: str) -> None:
    def ask() -> Any:
        return handoff.current().id

    harness.pool.give(SYNC, RUN, {0: template(ask)}, [job(5)], None)
    await harness.until(lambda: bool(harness.asked))
    if end == "none is known":
        harness.pool.tell_id(KEY, None)
    else:
        harness.pool.forget(RunId(99))
        harness.pool.forget(RUN)
    await harness.end_of(5)

    assert "the id of this function can't be had: neither node 'n1' nor" in harness.failed[5][2]


@pytest.mark.parametrize(
    ("done", "total", "refusal"),
    [
        ("much", None, TypeError),
        (None, None, TypeError),
        (-1, None, ValueError),
        (float("nan"), None, ValueError),
        (1, float("inf"), ValueError),
        (1, "ten", TypeError),
    ],
)
async def test_only_amounts_are_progress(
    harness: PoolHarness, done: Any, total: Any, refusal: type[Exception]
) -> None:
    def progress(done: Any, total: Any) -> None:
        handoff.current().set_progress(done, total)

    with pytest.raises(refusal, match=r"(done|total)=.*: it must be a"):
        await harness.call(SYNC, progress, done, total)


async def test_any_number_may_be_an_amount(harness: PoolHarness) -> None:
    def progress() -> None:
        import numpy as np  # noqa: PLC0415

        handoff.current().set_progress(np.int64(3), np.float32(4.5))
        handoff.current().set_progress(2**70, 2**70)

    said = await said_by(harness, progress)

    assert said == [Progressed(5, 1, 3, 4.5), Progressed(5, 1, 2.0**70, 2.0**70)]


def test_there_is_no_current_function_in_an_app() -> None:
    with pytest.raises(HandoffError, match="outside of any function: call it in a function that a DAG runs"):
        handoff.current()


async def test_a_thread_without_the_context_of_its_coroutine_is_told_what_to_do(harness: PoolHarness) -> None:
    async def ask() -> str:
        errors: list[str] = []

        def call() -> None:
            try:
                handoff.current()
            except HandoffError as error:
                errors.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return errors[0]

    assert "start it with asyncio.to_thread()" in await harness.call(ASYNC, ask)


@BOTH
async def test_a_function_that_has_ended_reports_nothing(harness: PoolHarness, worker: WorkerId) -> None:
    def keep() -> None:
        # Modules outlive functions.
        threading.kept = handoff.current()  # type: ignore[attr-defined]

    def use() -> list[str]:
        kept, errors = threading.kept, []  # type: ignore[attr-defined]
        reports: list[Callable[[], Any]] = [
            lambda: kept.emit(1),
            lambda: kept.set_progress(1),
            lambda: kept.id,
        ]
        for report in reports:
            try:
                report()
            except HandoffError as error:
                errors.append(str(error))
        return errors

    await harness.call(worker, keep)
    errors = await harness.call(worker, use)

    assert len(errors) == 3
    assert all("has ended, and can't report any more: wait in the function for" in error for error in errors)
    assert harness.said == []
