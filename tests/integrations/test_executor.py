"""`handoff.Executor` is a `concurrent.futures.Executor`, in what CPython's own tests leave open."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from handoff_actors.integrations import feed
from handoff_actors.integrations.background import BackgroundSession
from tests.daemons import Daemons
from tests.integrations.functions import (
    Later,
    await_something_cancelled,
    die,
    die_once,
    first,
    increment,
    increment_in_coroutine,
    increment_later,
    initialize,
    make,
    meet,
    refuse,
    seen_by_initializer,
    seen_of_process,
    seen_within_coroutine,
    set_up_process,
    start_and_wait_for,
    wait_for,
)
from tests.processes.app import descendants

pytestmark = pytest.mark.processes


def test_many_calls_come_back_each_with_its_own_result(executor: handoff.Executor) -> None:
    futures = [executor.submit(increment, number) for number in range(3000)]

    assert [future.result() for future in futures] == list(range(1, 3001))


class WeighingSession(handoff.Session):
    """Notes the most that its runs hold in the app when calls are added."""

    peak = 0

    def open_run(self, **options: Any) -> handoff.OpenRun:
        run = super().open_run(**options)
        add = run._add_plan

        async def add_plan(plan: Any) -> None:
            await add(plan)
            runners = self._hub.runs.all()
            held = sum(len(value) for runner in runners for value in runner.values.values())
            self.peak = max(self.peak, held)

        run._add_plan = add_plan  # type: ignore[method-assign]
        return run


@pytest.mark.parametrize("kind", [np.uint8, bytes])
async def test_large_calls_are_encoded_a_few_at_a_time(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_NBYTES_AT_ONCE", 1_000_000)
    monkeypatch.setattr(feed, "MOST_NBYTES", 2_000_000)
    nbytes = 400_000
    makes = bytes if kind is bytes else partial(np.frombuffer, dtype=kind)
    values = [makes(bytes([number]) * nbytes) for number in range(60)]

    async with WeighingSession((), {"cpu": 2}) as session, handoff.Executor(session=session) as executor:
        for _ in range(3):
            futures = [executor.submit(first, value) for value in values]
            results = await asyncio.gather(*map(asyncio.wrap_future, futures))
            assert results == list(range(60))

    # It may be more by one call each time, one per worker, and those that have just ended.
    assert nbytes <= session.peak <= 2_000_000 + 8 * nbytes


async def test_an_array_that_many_calls_take_is_encoded_once_each_time() -> None:
    array = np.arange(200_000)

    async with WeighingSession((), {"cpu": 2}) as session, handoff.Executor(session=session) as executor:
        for calls in (100, 200):
            futures = [executor.submit(first, array, number) for number in range(calls)]
            results = await asyncio.gather(*map(asyncio.wrap_future, futures))
            assert results == list(range(calls))

    assert session.peak < 10 * array.nbytes


async def test_calls_that_cannot_be_encoded_hold_up_no_others() -> None:
    async with handoff.Session((), {"cpu": 1}) as session, handoff.Executor(session=session) as executor:
        bad = [executor.submit(first, threading.Lock()) for _ in range(20)]
        good = [executor.submit(increment, number) for number in range(20)]
        results = await asyncio.gather(*map(asyncio.wrap_future, [*bad, *good]), return_exceptions=True)

    assert all(isinstance(result, TypeError) for result in results[:20])
    assert results[20:] == list(range(1, 21))


async def test_a_result_is_gone_once_its_caller_lets_go_while_the_run_goes_on() -> None:
    async with handoff.Session((), {"cpu": 2}) as session, handoff.Executor(session=session) as executor:
        future = executor.submit(make)
        reference = weakref.ref(await asyncio.wrap_future(future))
        is_kept = reference() is not None
        del future
        # The turn of the loop that has woken this up refers to it.
        await asyncio.sleep(0)
        gc.collect()
        is_gone = reference() is None

    assert is_kept
    assert is_gone


async def test_an_executor_without_calls_has_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "IDLE_S", 0.01)
    async with handoff.Session((), {"cpu": 2}) as session, handoff.Executor(session=session) as executor:
        for number in range(3):
            assert await asyncio.wrap_future(executor.submit(increment, number)) == number + 1
            while session._hub.runs.all():  # noqa: ASYNC110 - the end of a run is told to nobody
                await asyncio.sleep(0.001)


def test_an_exception_is_that_of_one_future(executor: handoff.Executor) -> None:
    futures = [executor.submit(divmod, 1, number % 50) for number in range(200)]

    failed = [number for number, future in enumerate(futures) if future.exception() is not None]

    assert failed == [0, 50, 100, 150]
    assert isinstance(futures[0].exception(), ZeroDivisionError)
    assert isinstance(getattr(futures[0].exception(), "__cause__", None), handoff.RemoteTraceback)


def submit(
    executor: handoff.Executor, code: Callable[..., int], *args: object, **kwargs: object
) -> Future[int]:
    """For type checkers, a future is no argument of a function that takes its result."""
    return executor.submit(code, *args, **kwargs)


def test_an_argument_that_is_a_future_is_its_result(executor: handoff.Executor) -> None:
    three, four = executor.submit(increment, 2), executor.submit(increment_later, 3)
    total = submit(executor, pow, three, exp=four)

    assert total.result() == 81
    assert submit(executor, pow, total, total).result() == 81**81
    assert list(executor.map(increment, [three, four])) == [4, 5]


def test_a_long_chain_of_futures_fails_with_its_first(executor: handoff.Executor) -> None:
    number: Future[int] = Future()
    end = submit(executor, increment, number)
    for _ in range(1500):
        end = submit(executor, increment, end)

    number.set_exception(ValueError("none of them"))

    assert isinstance(end.exception(), ValueError)


def test_a_call_is_cancelled_with_its_argument_and_by_itself(executor: handoff.Executor) -> None:
    inputs: list[Future[int]] = [Future(), Future()]
    calls = [submit(executor, increment, number) for number in inputs]

    assert not any(call.running() or call.done() for call in calls)
    assert inputs[0].cancel()
    assert calls[1].cancel()

    assert wait(calls, timeout=10).not_done == set()
    assert all(call.cancelled() for call in calls)


@pytest.mark.parametrize("cancels", [False, True])
def test_a_shutdown_waits_for_calls_whose_arguments_are_not_there(*, cancels: bool) -> None:
    executor, number = handoff.Executor(1), Future[int]()
    calls = [submit(executor, increment, number)]
    calls.append(submit(executor, increment, calls[0]))

    executor.shutdown(wait=False, cancel_futures=cancels)
    number.set_result(1)
    executor.shutdown()

    assert [call.cancelled() or call.result(0) for call in calls] == ([True, True] if cancels else [2, 3])


def test_an_argument_that_is_a_future_keeps_no_result_alive(executor: handoff.Executor) -> None:
    number = executor.submit(increment, 1)
    made = executor.submit(lambda _: make(), number)
    seen = weakref.ref(made.result())
    del made
    # The worker of the executor's thread may still be at its last step with it.
    executor.submit(increment, 1).result()
    gc.collect()

    assert number.result() == 2
    assert seen() is None


@pytest.mark.parametrize("holds", [lambda future: [future], lambda future: {"a": (future,)}])
def test_a_future_within_an_argument_or_function_is_refused_with_advice(
    executor: handoff.Executor, holds: Callable[[Future[int]], object]
) -> None:
    future = executor.submit(increment, 1)

    for call in (
        executor.submit(repr, holds(future)),
        executor.submit(lambda: holds(future)),
        executor.submit(partial(repr, future)),
    ):
        with pytest.raises(
            TypeError, match=r"future: pass .*\.result\(\), or make both calls functions of a DAG"
        ):
            call.result()
    assert executor.submit(increment, 1).result() == 2


async def test_an_asyncio_future_as_an_argument_is_refused(executor: handoff.Executor) -> None:
    future = asyncio.wrap_future(executor.submit(increment, 1))

    with pytest.raises(TypeError, match="holds a future"):
        await asyncio.wrap_future(executor.submit(repr, future))
    assert await future == 2


@pytest.mark.parametrize("argument", [threading.Lock(), (n for n in range(1))])
def test_what_cannot_be_sent_fails_alone(executor: handoff.Executor, argument: object) -> None:
    futures: list[Future[object]] = [executor.submit(id, argument), executor.submit(increment, 1)]

    assert isinstance(futures[0].exception(), TypeError)
    assert futures[1].result() == 2


def test_a_result_that_cannot_be_sent_fails_alone(executor: handoff.Executor) -> None:
    locks, numbers = executor.submit(threading.Lock), executor.submit(increment, 1)

    assert isinstance(locks.exception(), TypeError)
    assert numbers.result() == 2


def test_arrays_can_be_written_to_on_both_sides(executor: handoff.Executor) -> None:
    def double(array: np.ndarray) -> np.ndarray:
        array *= 2
        return array

    for size in (10, 100_000):
        array = executor.submit(double, np.ones(size)).result()
        array += 1

        assert array.sum() == 3 * size


def test_a_coroutine_function_is_awaited(executor: handoff.Executor) -> None:
    future: Future[int] = executor.submit(increment_later, 1)

    assert future.result() == 2


CoroutineFunction = Callable[[int], Any]


@pytest.mark.parametrize(
    "code",
    [
        Later(),
        Later().method,
        Later.class_method,
        Later.static_method,
        partial(increment_later),
        increment_in_coroutine,
    ],
)
def test_coroutine_functions_of_every_shape_are_awaited(
    executor: handoff.Executor, code: CoroutineFunction
) -> None:
    assert list(executor.map(code, range(3))) == [1, 2, 3]


@pytest.mark.parametrize("chunksize", [1, 50])
async def test_hundreds_of_coroutines_run_at_once_on_one_core(chunksize: int) -> None:
    async with handoff.Session((), {"cpu": 1}) as session, handoff.Executor(session=session) as executor:
        # As they wait for one another, all have to be in flight.
        results = executor.map(partial(meet, count=300), range(300), chunksize=chunksize)

        assert await asyncio.to_thread(list, results) == list(range(300))


def test_coroutines_run_at_once_on_each_node_of_a_cluster() -> None:
    # Its nodes import this project's modules. Others would be sent all that a long session of tests has loaded.
    with (
        handoff.LocalCluster(nodes=2, cpu=1) as cluster,
        handoff.Executor(seeds=cluster.seeds, nodes=["n2"]) as executor,
    ):
        futures = [executor.submit(meet, number, 100) for number in range(100)]

        assert [future.result() for future in futures] == list(range(100))


async def test_coroutines_take_no_more_than_what_they_cost_and_what_the_executor_may_have() -> None:
    async with handoff.Session((), {"cpu": 1, "calls": 5}) as session:
        for limited in ({"cost": {"calls": 1}}, {"max_workers": 5}):
            async with handoff.Executor(session=session, **limited) as executor:
                futures = [executor.submit(asyncio.sleep, 0.01, number) for number in range(40)]
                await asyncio.wrap_future(futures[0])
                running = sum(future.running() for future in futures)

                assert 1 <= running <= 5
                assert await asyncio.gather(*map(asyncio.wrap_future, futures)) == list(range(40))


def test_plain_calls_and_coroutines_do_not_hold_up_each_other(
    executor: handoff.Executor, tmp_path: Path
) -> None:
    blocked = [executor.submit(wait_for, tmp_path / "go") for _ in range(20)]
    coroutines = [executor.submit(meet, number, 100) for number in range(100)]

    assert [future.result() for future in coroutines] == list(range(100))
    (tmp_path / "go").touch()
    assert [future.result() for future in blocked] == ["go"] * 20


def test_a_coroutine_that_awaits_something_cancelled_ends_no_other(executor: handoff.Executor) -> None:
    # So that all share a run.
    assert list(executor.map(increment_later, range(100))) == list(range(1, 101))

    cancelled = executor.submit(await_something_cancelled)
    others = [executor.submit(increment_later, number) for number in range(100)]

    assert isinstance(cancelled.exception(), asyncio.CancelledError)
    assert [future.result() for future in others] == list(range(1, 101))


def test_a_callback_that_exits_ends_no_other_call(
    executor: handoff.Executor, caplog: pytest.LogCaptureFixture
) -> None:
    executor.submit(increment, 1).add_done_callback(lambda _: sys.exit())
    futures = [executor.submit(increment, number) for number in range(100)]

    assert [future.result() for future in futures] == list(range(1, 101))
    # The others may end before the one whose callback exits, and results are there before callbacks are called.
    executor.shutdown()
    assert "a callback of a future has exited" in caplog.messages


def test_a_worker_that_dies_is_replaced(executor: handoff.Executor, tmp_path: Path) -> None:
    assert executor.submit(die_once, tmp_path / "died").result() == "alive"


def test_a_function_that_kills_its_workers_breaks_its_own_future(executor: handoff.Executor) -> None:
    deadly, harmless = executor.submit(die), executor.submit(increment, 1)

    with pytest.raises(BrokenExecutor) as raised:
        deadly.result()
    assert isinstance(raised.value.__cause__, handoff.WorkerDied)
    assert harmless.result() == 2
    assert executor.submit(increment, 2).result() == 3


def test_the_initializer_comes_first_and_once_in_each_worker() -> None:
    with handoff.Executor(2, initializer=initialize, initargs=["seven"]) as executor:
        seen = {executor.submit(seen_by_initializer).result()[0]: None for _ in range(10)}
        values = [executor.submit(seen_by_initializer).result()[1] for _ in range(10)]

    assert 1 <= len(seen) <= 2
    assert values == [["seven"]] * 10


def test_executors_over_one_session_have_initializers_of_their_own() -> None:
    with BackgroundSession((), {"cpu": 1}, workers=1) as session:
        for number in range(3):
            with handoff.Executor(session=session, initializer=initialize, initargs=[number]) as executor:
                assert executor.submit(seen_by_initializer).result()[1] == list(range(number + 1))


def test_what_an_initializer_sets_in_its_process_stays_for_all_functions(tmp_path: Path) -> None:
    with handoff.Executor(1, initializer=set_up_process, initargs=[str(tmp_path)]) as executor:
        seen = [executor.submit(seen_of_process, change=True).result() for _ in range(3)]
        for _ in range(3):
            awaited: Future[Any] = executor.submit(seen_within_coroutine)
            seen.append(awaited.result())

    assert seen == [(str(tmp_path), "1", 5)] * 6


def test_an_initializer_that_fails_breaks_the_executor() -> None:
    executor = handoff.Executor(1, initializer=refuse)

    with pytest.raises(BrokenExecutor, match="not in the mood"):
        executor.submit(increment, 1).result()
    with pytest.raises(BrokenExecutor, match="not in the mood"):
        executor.submit(increment, 1)
    executor.shutdown()


def test_what_waits_can_be_cancelled_and_what_runs_cannot(executor: handoff.Executor, tmp_path: Path) -> None:
    go, started = tmp_path / "go", [tmp_path / "a", tmp_path / "b"]
    running = [executor.submit(start_and_wait_for, mark, go) for mark in started]
    waiting = [executor.submit(increment, number) for number in range(20)]
    for mark in started:
        wait_for(mark)

    assert not any(future.cancel() for future in running)
    assert all(future.cancel() for future in waiting)

    go.touch()
    assert [future.result() for future in running] == ["go", "go"]


def test_shutting_down_cancels_what_waits(tmp_path: Path) -> None:
    executor = handoff.Executor(1)
    running = executor.submit(wait_for, tmp_path / "go")
    waiting = executor.submit(increment, 1)

    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    executor.shutdown()

    assert running.result() == "go"
    assert waiting.cancelled()
    assert wait([waiting], timeout=0).done == {waiting}


def test_terminated_workers_leave_nothing(tmp_path: Path) -> None:
    before = set(descendants())
    executor = handoff.Executor(1)
    running = executor.submit(start_and_wait_for, tmp_path / "started", tmp_path / "never")
    wait_for(tmp_path / "started")

    executor.terminate_workers()
    executor.shutdown()

    assert isinstance(running.exception(), BrokenExecutor)
    assert set(descendants()) <= before


def test_a_forgotten_executor_does_its_work_and_ends() -> None:
    before = set(descendants())
    executor = handoff.Executor(2)
    futures = [executor.submit(increment, number) for number in range(10)]
    thread = executor._thread

    del executor
    assert thread is not None
    thread.join()

    assert [future.result(0) for future in futures] == list(range(1, 11))
    assert set(descendants()) <= before


def test_a_map_stops_at_its_time_limit(executor: handoff.Executor, tmp_path: Path) -> None:
    results = executor.map(wait_for, [tmp_path, tmp_path / "go"], timeout=1)

    assert next(results) == tmp_path.name
    with pytest.raises(TimeoutError):
        next(results)
    (tmp_path / "go").touch()


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_a_map_keeps_the_order(executor: handoff.Executor, chunksize: int) -> None:
    assert list(executor.map(pow, range(20), range(20), chunksize=chunksize)) == [n**n for n in range(20)]


async def test_an_event_loop_runs_functions_in_it(executor: handoff.Executor) -> None:
    loop = asyncio.get_running_loop()

    assert await loop.run_in_executor(executor, increment, 1) == 2


async def test_a_session_lends_its_nodes() -> None:
    async with (
        handoff.Session((), {"cpu": 2}) as session,
        handoff.Executor(session=session) as executor,
    ):
        results = await asyncio.gather(
            *(
                asyncio.get_running_loop().run_in_executor(executor, increment, number)
                for number in range(500)
            )
        )

    assert results == list(range(1, 501))


async def test_waiting_in_the_thread_of_the_session_is_refused(tmp_path: Path) -> None:
    async with handoff.Session((), {"cpu": 1}) as session:
        executor = handoff.Executor(session=session)
        future = executor.submit(wait_for, tmp_path / "go")

        with pytest.raises(RuntimeError, match="await it"):
            executor.shutdown()
        (tmp_path / "go").touch()
        await asyncio.to_thread(executor.shutdown)

        assert future.result(0) == "go"


def test_a_session_of_another_thread_needs_its_loop() -> None:
    with pytest.raises(RuntimeError, match="where the session's loop runs"):
        handoff.Executor(session=handoff.Session())


def test_no_session_means_a_broken_executor() -> None:
    with handoff.Executor(seeds=["tcp://127.0.0.1:1"]) as executor:
        with pytest.raises(BrokenExecutor) as raised:
            executor.submit(increment, 1).result()

        assert isinstance(raised.value.__cause__, handoff.ConnectionFailed)


def test_a_cluster_runs_it_on_the_nodes_that_are_asked_for(daemons: Daemons) -> None:
    n1, n2 = daemons.cluster(2, "--cpu", "1")
    with handoff.Executor(seeds=[n1.address], nodes=["n2"], cost={"cpu": 1}) as executor:
        workers = {executor.submit(os.getpid).result() for _ in range(5)}

        # Its module, which the nodes can't import, goes along.
        assert executor.submit(increment, 1).result() == 2
        assert workers <= {process.pid for process in n2.family()}


def test_what_no_node_can_hold_says_so(executor: handoff.Executor) -> None:
    with handoff.Executor(1, cost={"cpu": 99}) as narrow, pytest.raises(handoff.AllocationError):
        narrow.submit(increment, 1).result()


def test_a_program_ends_once_its_work_is_done() -> None:
    program = (
        "import handoff_actors as h\n"
        "executor = h.Executor(2)\n"
        "def late(n):\n    import time; time.sleep(.2); return n\n"
        "for n in range(4): executor.submit(late, n).add_done_callback(lambda f: print(f.result()))\n"
    )

    done = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=30, check=True
    )

    assert sorted(done.stdout.split()) == ["0", "1", "2", "3"]
    assert done.stderr == ""
