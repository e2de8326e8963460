"""Many jobs for one worker: in order, in batches, and given back on demand."""

import threading
import time
from typing import Any

import pytest

from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Arg, Call, Job, Ref, Text
from handoff_actors.wire.payload import encode, encode_call
from tests.workers import functions
from tests.workers.announcement import Announcement
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template

pytestmark = pytest.mark.processes


async def test_fast_results_share_messages(harness: PoolHarness) -> None:
    harness.pool.give(
        SYNC, RUN, {0: template(functions.same)}, [job(index, index) for index in range(5000)], None
    )

    await harness.until(lambda: len(harness.done) == 5000)

    assert all(harness.result(index) == index for index in harness.done)
    assert len([event for event in harness.events if event[0] == "done"]) < 1000


async def test_result_does_not_wait_behind_a_slow_function(
    harness: PoolHarness, announcement: Announcement
) -> None:
    templates = {0: template(functions.same), 1: template(functions.announce_and_ignore_signals, 1)}
    fast = [job(index, index) for index in range(10)]
    harness.pool.give(SYNC, RUN, templates, [*fast, job(10, announcement.path, number=1)], None)

    await harness.until(lambda: len(harness.done) == 10)


@pytest.mark.parametrize(
    "sleep", [time.sleep, lambda seconds: threading.Event().wait(seconds)], ids=["C", "lock"]
)
async def test_recall_is_answered_while_a_function_sleeps(
    harness: PoolHarness, announcement: Announcement, sleep: Any
) -> None:
    def announce_and_sleep(path: str) -> str:
        functions.announce(path)
        sleep(1.5)
        return "slept"

    templates = {0: template(announce_and_sleep), 1: template(functions.same, 1)}
    waiting = [job(index, index, number=1) for index in range(1, 6)]
    harness.pool.give(SYNC, RUN, templates, [job(0, announcement.path), *waiting[:3]], None)
    await announcement.text()
    harness.pool.give(SYNC, RUN, templates, waiting[3:], None)

    harness.pool.recall(SYNC)
    await harness.until(lambda: bool(harness.recalls))

    assert harness.recalls == [[(RUN, index, 1) for index in range(1, 6)]]
    assert not harness.done
    await harness.until(lambda: bool(harness.done))
    assert harness.result(0) == "slept"
    assert harness.done[0].ran_s >= 1.5


async def test_recall_takes_back_jobs_that_have_not_even_been_sent(
    harness: PoolHarness, announcement: Announcement
) -> None:
    templates = {0: template(functions.announce_and_sleep), 1: template(len, 1)}
    large = [job(index, bytes(50_000), number=1) for index in range(1, 61)]
    harness.pool.give(SYNC, RUN, templates, [job(0, announcement.path, 1.0)], None)
    await announcement.text()
    harness.pool.give(SYNC, RUN, templates, large, None)

    harness.pool.recall(SYNC)
    await harness.until(lambda: bool(harness.recalls))

    # Only one that was half sent may stay.
    assert len(harness.recalls[0]) >= 59
    await harness.until(lambda: len(harness.done) + len(harness.recalls[0]) == 61)


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_idle_worker_answers_each_recall(harness: PoolHarness, worker: Any) -> None:
    await harness.call(worker, functions.add, 1, 2)

    harness.pool.recall(worker)
    harness.pool.recall(worker)
    await harness.until(lambda: len(harness.recalls) == 2)

    assert harness.recalls == [[], []]


async def test_recalls_at_any_moment_lose_and_repeat_nothing(harness: PoolHarness) -> None:
    jobs = [job(index, index) for index in range(3000)]
    given = iter(range(0, 3000, 100))
    templates = {0: template(functions.same)}
    for start in given:
        harness.pool.give(SYNC, RUN, templates, jobs[start : start + 100], None)
        harness.pool.recall(SYNC)
        await harness.until(lambda: len(harness.recalls) > start // 200)  # noqa: B023 - it is awaited at once

    await harness.until(
        lambda: len(harness.recalls) == 30 and len(harness.done) + sum(map(len, harness.recalls)) >= 3000
    )

    recalled = [index for recall in harness.recalls for _, index, _ in recall]
    reported = [index for event in harness.events if event[0] == "done" for index in event[2]]
    assert sorted(recalled + reported) == list(range(3000))


async def test_cancelled_coroutine_stops_and_disturbs_no_other(
    harness: PoolHarness, announcement: Announcement
) -> None:
    index = harness.start(ASYNC, functions.wait_forever, announcement.path, run=RUN)
    await announcement.text()

    harness.pool.cancel(ASYNC, RUN, index, 1)
    await harness.end_of(index)

    assert harness.failed[index] == ("cancelled", b"", "cancelled")
    assert await harness.call(ASYNC, functions.double_later, 2) == 4


async def test_cancel_of_a_coroutine_that_has_not_started_is_answered(
    harness: PoolHarness, announcement: Announcement
) -> None:
    index = harness.start(ASYNC, functions.wait_forever, announcement.path, run=RUN)
    harness.pool.cancel(ASYNC, RUN, index, 1)

    await harness.end_of(index)

    assert harness.failed[index][0] == "cancelled"


async def test_coroutines_run_side_by_side(harness: PoolHarness) -> None:
    async def meet(number: int) -> int:
        import asyncio  # noqa: PLC0415 - it travels by value

        barrier = vars(asyncio).setdefault("test_barrier", asyncio.Barrier(100))
        await barrier.wait()
        return number

    harness.pool.give(ASYNC, RUN, {0: template(meet)}, [job(index, index) for index in range(100)], None)

    await harness.until(lambda: len(harness.done) == 100)


@pytest.mark.parametrize("worker", [SYNC, ASYNC])
async def test_arguments_may_be_computed_stored_or_texts(harness: PoolHarness, worker: Any) -> None:
    (harness.store / f"{RUN:016x}-5").write_bytes(encode(50).to_bytes())
    inner = Call(1, [encode(3).to_bytes(), Text("node")], encode_call((), {"more": 4}).to_bytes())
    templates = {
        0: template(lambda *args: args),
        1: template(lambda number, text, more: (number + more, text), 1),
        2: template(functions.double_later, 2),
    }
    args: list[Arg] = [inner, Call(2, [encode(8).to_bytes()], None), Ref(5, 3, [""]), Text("here")]

    harness.pool.give(worker, RUN, templates, [Job(1, 1, 0, args, None)], None)
    await harness.end_of(1)

    assert harness.result(1) == ((7, "node"), 16, 50, "here")


async def test_code_is_sent_to_a_worker_once(harness: PoolHarness) -> None:
    large = bytes(1_000_000)

    def measure(number: int) -> int:
        return len(large) + number

    encoded = template(measure)
    sizes = []
    for run in range(1, 4):
        started = time.perf_counter()
        harness.pool.give(SYNC, RunId(run), {0: encoded}, [job(run, run)], None)
        await harness.end_of(run)
        sizes.append((harness.result(run), time.perf_counter() - started))
        harness.pool.forget(RunId(run))

    assert [size for size, _ in sizes] == [1_000_001, 1_000_002, 1_000_003]


async def test_many_different_functions_are_forgotten_alike_on_both_sides(harness: PoolHarness) -> None:
    def make(number: int) -> Any:
        return lambda: number

    encoded = [template(make(number)) for number in range(300)]
    for turn in range(2):
        for number, one in enumerate(encoded):
            run = RunId(turn * 1000 + number + 1)
            harness.pool.give(SYNC, run, {0: one}, [job(run)], None)
    await harness.until(lambda: len(harness.done) == 600)

    assert all(harness.result(index) == (index - 1) % 1000 for index in harness.done)
