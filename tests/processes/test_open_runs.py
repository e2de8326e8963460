"""Open runs, single calls and maps, on real nodes and workers."""

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from random import Random

import pytest

import handoff_actors as handoff
from handoff_actors import Session
from handoff_actors.actors.app.runner import RunnerActor


def add(*numbers: int) -> int:
    return sum(numbers)


def clock(_number: int) -> float:
    return time.monotonic()


def double(number: int) -> int:
    return 2 * number


def large(fill: int) -> bytes:
    return bytes([fill]) * 2_000_000


def total(data: bytes) -> int:
    return sum(memoryview(data)[:10])


def fail(reason: str) -> None:
    raise ValueError(reason)


def sleep(seconds: float, started: str = "") -> float:
    if started:
        Path(started).touch()
    time.sleep(seconds)
    return seconds


async def sleep_async(seconds: float, started: str = "") -> float:
    sleep(0, started)
    await asyncio.sleep(seconds)
    return seconds


def await_file(path: Path) -> int:
    Path(f"{path}.begun").touch()
    while not path.exists():
        time.sleep(0.005)
    return 1


async def appears(path: Path) -> None:
    # Another process makes it, which has no better way to tell.
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session(local_node={"cpu": 2.0}, progress=False) as session:
        yield session


async def test_calls_take_results_and_handles_are_futures(session: Session) -> None:
    async with session.open_run() as run:
        one = run.call(add, 1)
        three = run.call(add, one, 2)
        nested = run.call(sum, [one, three])

        assert await nested == 4
        assert list(await asyncio.gather(one, three, one)) == [1, 3, 1]
        done, pending = await asyncio.wait([one, three])  # type: ignore[type-var]  # they need not be futures
        assert (done, pending) == ({one, three}, set())
        assert await asyncio.wait_for(three, 5) == 3
        assert [await each for each in asyncio.as_completed([one])] == [1]
        assert one.done()
        assert (one.result(), one.exception(), one.cancelled()) == (1, None, False)
        called: list[object] = []
        one.add_done_callback(called.append)
        await asyncio.sleep(0)
        assert called == [one]


async def test_calls_of_the_same_kind_begin_in_their_order() -> None:
    async with Session(local_node={"cpu": 1.0}, progress=False) as session, session.open_run() as run:
        began = await asyncio.gather(*run.call_each(clock, range(8), cost={"cpu": 1}))

    assert began == sorted(began)


@pytest.mark.parametrize("max_pending", [None, 3, 20])
async def test_calls_and_graphs_in_any_order_have_the_right_results(
    session: Session, max_pending: int | None
) -> None:
    random = Random(max_pending)
    async with session.open_run(max_pending=max_pending) as run:
        handles: list[handoff.RunHandle[int]] = []
        expected: list[int] = []
        for number in range(150):
            dag = handoff.new()
            own = dag.call(add, 1, number, id=f"graph-{number}")
            taken = random.choices(range(len(handles)), k=2) if handles else []
            match random.choice(["call", "call", "behind", "behind", "graph", "wait"]):
                case "call":
                    handles.append(run.call(double, number))
                    expected.append(2 * number)
                case "behind":
                    handles.append(run.call(add, *(handles[each] for each in taken)))
                    expected.append(sum(expected[each] for each in taken))
                case "graph":
                    handles.append(run.add(dag)[own])
                    expected.append(1 + number)
                case _:
                    await asyncio.sleep(0)

        assert list(await asyncio.gather(*handles)) == expected


async def test_python_decides_what_comes_next(session: Session) -> None:
    async with session.open_run() as run:
        state = run.call(add, 0)
        while await state < 5:
            state = run.call(add, state, 1)
        handles = run.call_each(double, range(10))
        ended = [await handle async for handle in run.as_completed(handles)]

    assert sorted(ended) == [2 * number for number in range(10)]
    assert await state == 5


async def test_large_results_stay_where_they_are_until_they_are_asked_for(session: Session) -> None:
    async with session.open_run() as run:
        data = run.call(large, 3)
        assert await run.call(total, data) == 30
        with pytest.raises(asyncio.InvalidStateError, match="still on a node: await"):
            data.result()
        assert await data == large(3)
        kept = run.call(large, 4)

    assert await kept == large(4)


async def test_value_that_cannot_be_fetched_after_the_end_ends_the_wait(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session.open_run() as run:
        data = run.call(large, 3)

    async def fetch(_self: RunnerActor, _index: int) -> bytes:
        raise OSError("no room to map it")

    monkeypatch.setattr(RunnerActor, "fetch", fetch)
    async with asyncio.timeout(10):
        with pytest.raises(handoff.HandoffError, match="no room to map it"):
            await data


async def test_a_whole_graph_is_added_and_added_again(session: Session) -> None:
    dag = handoff.new()
    first = dag.call(add, 1, 2, id="first")
    second = dag.call(double, first, id="second")
    async with session.open_run() as run:
        handles = run.add(dag)
        again = run.add(dag)
        assert await handles[second] == await again["second"] == 6
        assert await run.call(add, handles["first"], again["second"]) == 9
        assert (len(handles), list(handles)) == (2, ["first", "second"])
        assert again["second"].id == "second@2"


async def test_a_failure_ends_the_run_or_what_depends_on_it(session: Session) -> None:
    with pytest.raises(handoff.FunctionFailed, match="no luck"):
        async with session.open_run(max_retries=0) as run:
            run.call(fail, "no luck")

    async with session.open_run(on_failure="continue", max_retries=0) as run:
        failed = run.call(fail, "no luck")
        behind = run.call(add, failed)
        fine = run.call(add, 1)
        with pytest.raises(handoff.FunctionFailed, match="no luck") as raised:
            await failed
        assert isinstance(raised.value.__cause__, ValueError)
        with pytest.raises(handoff.DependencyFailed):
            await behind
        late = run.call(add, failed)
        with pytest.raises(handoff.DependencyFailed):
            await late
        assert failed.exception() is raised.value
        assert await fine == 1


@pytest.mark.parametrize("fn", [sleep, sleep_async])
async def test_cancelled_functions_stop_where_they_run(
    session: Session, tmp_path: Path, fn: Callable[[float, str], object]
) -> None:
    started = tmp_path / "started"
    async with session.open_run(on_failure="continue") as run:
        running = run.call(fn, 60.0, str(started))
        behind = run.call(add, running)
        await appears(started)
        assert running.cancel()
        assert not running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(asyncio.CancelledError):
            running.exception()
        assert running.cancelled()
        with pytest.raises(handoff.DependencyFailed, match="cancelled"):
            await behind
    # Leaving the block has not waited a minute for it.


async def test_cancelling_who_awaits_a_handle_does_not_cancel_its_function(session: Session) -> None:
    async with session.open_run() as run:
        handle = run.call(sleep, 0.3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle, 0.05)
        assert await handle == 0.3


async def test_a_handle_may_be_awaited_by_several(session: Session) -> None:
    async with session.open_run() as run:
        handle = run.call(double, 2)

        async def value() -> int:
            return await handle

        assert await asyncio.gather(*(value() for _ in range(3))) == [4, 4, 4]


async def test_an_exception_that_leaves_the_block_cancels_the_run(session: Session) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what leaves the block is the point
        async with session.open_run() as run:
            handle = run.call(sleep, 60)
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        await handle
    with pytest.raises(handoff.HandoffError, match="the run is over"):
        run.call(add, 1)


async def test_bad_calls_raise_where_they_are_made(session: Session) -> None:
    async with session.open_run(on_failure="continue") as run:
        with pytest.raises(handoff.InvalidFunctionError):
            run.call(double, 1, 2, 3)
        with pytest.raises(handoff.InvalidFunctionError):
            run.call(double, 1, cost={"cpu": -1})
        run.call(double, 1, id="once")
        with pytest.raises(handoff.DuplicateFunctionError):
            run.call(double, 1, id="once")
        unsendable = run.call(double, threading.Lock())
        fine = run.call(double, 1)
        with pytest.raises(handoff.SerializationError, match="double"):
            await unsendable
        assert await fine == 2
    with pytest.raises(handoff.HandoffError, match="over"):
        run.call(double, 1)


async def test_an_error_that_nobody_retrieves_is_logged(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    async with session.open_run(on_failure="continue", max_retries=0) as run:
        failed = run.call(fail, "in vain")
        async for _ in run.as_completed([failed]):
            pass
        with caplog.at_level(logging.ERROR):
            del failed, _
            gc.collect()
    assert "in vain" in caplog.text


async def test_all_of_an_open_run_is_gone_with_the_last_reference_to_it(session: Session) -> None:
    gc.collect()
    gc.disable()
    try:
        async with session.open_run() as run:
            assert await run.call(double, run.call(double, 1)) == 4
            machine = run._going.runner.machine
            parts = [weakref.ref(part) for part in (run, machine, machine.state)]
        del run, machine

        async with asyncio.timeout(10):
            # Its node confirms first that it has nothing of the run any more.
            while any(part() is not None for part in parts):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0)
    finally:
        gc.enable()


async def test_max_pending_bounds_what_is_with_the_run(session: Session) -> None:
    most = 0
    async with session.open_run(max_pending=4) as run:
        for number in range(40):
            await run.room()
            run.call(double, number)
            most = max(most, len(run._unfinished))
    assert most <= 4


async def test_result_of_a_graph_is_kept_for_a_call_that_waits_for_room(session: Session) -> None:
    async with session.open_run(max_pending=1) as run:
        dag = handoff.new()
        dag.call(double, dag.call(add, 1, 2, id="own"), id="doubled")
        handles = run.add(dag)
        doubled, behind = handles["doubled"], run.call(add, handles["own"], 1)
        del handles
        assert await doubled == 6
        assert await behind == 4


async def test_threads_may_call(session: Session) -> None:
    async with session.open_run() as run:

        def work() -> handoff.RunHandle[int]:
            return run.call(double, 21)

        handle = await asyncio.to_thread(work)
        assert await handle == 42


async def test_one_call(session: Session, tmp_path: Path) -> None:
    assert await session.call(double, 4) == 8
    with pytest.raises(handoff.FunctionFailed, match="after 1 attempt"):
        await session.call(fail, "no luck")
    started = tmp_path / "started"
    task = asyncio.create_task(session.call(sleep, 60, str(started)))
    await appears(started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await session.call(double, 4) == 8


async def test_calls_of_the_module_use_the_default_session() -> None:
    try:
        assert await handoff.call(double, 4) == 8
        assert [y async for y in handoff.map(double, [1, 2, 3])] == [2, 4, 6]
        async with handoff.open_run() as run:
            assert await run.call(double, 5) == 10
    finally:
        await handoff.shutdown()


async def test_map_is_in_order_or_as_results_come(session: Session) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    assert [y async for y in session.map(double, numbers())] == [0, 2, 4, 6, 8]
    assert [y async for y in session.map(add, [1, 2, 3], numbers())] == [1, 3, 5]
    assert [y async for y in session.map(double, [])] == []
    unordered = [y async for y in session.map(double, range(50), ordered=False)]
    assert sorted(unordered) == [2 * number for number in range(50)]


async def test_an_endless_source_is_mapped_a_bounded_number_ahead(session: Session) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    async with aclosing(session.map(double, endless(), ahead=10)) as results:
        async for result in results:
            if result == 100:
                break
    assert len(taken) <= 50 + 1 + 10
    assert await session.call(double, 4) == 8


async def test_errors_of_a_map_come_in_their_turn(session: Session) -> None:
    got: list[object] = []
    with pytest.raises(handoff.FunctionFailed):  # noqa: PT012 - what came before it is the point
        async for y in session.map(divide, [1, 2, 0, 4]):
            got.append(y)  # noqa: PERF401 - a comprehension would lose them
    assert got == [1.0, 0.5]
    results = [y async for y in session.map(divide, [1, 0], return_exceptions=True)]
    assert results[0] == 1.0
    assert isinstance(results[1], handoff.FunctionFailed)
    with pytest.raises(TypeError, match="no source"):
        session.map(double, 3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="ahead"):
        [y async for y in session.map(double, [1], ahead=0)]


def divide(number: float) -> float:
    return 1 / number


async def test_a_session_that_is_closed_ends_its_calls() -> None:
    async with Session(local_node={"cpu": 1.0}) as session:
        waiting = asyncio.create_task(session.call(sleep, 60))
        await asyncio.sleep(0.2)
    with pytest.raises((handoff.HandoffError, asyncio.CancelledError)):
        await waiting


async def test_handles_are_explained_and_reported_on_wherever_their_functions_are(
    session: Session, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with session.open_run(max_pending=2) as run:
        first = run.call(await_file, gate, cost={"cpu": 1})
        behind = run.call(double, first)
        await appears(Path(f"{gate}.begun"))
        # These are in the app yet: one is unlike any other call, one like one before, and one is of a graph.
        further = run.call(add, behind, 1, cost={"cpu": 1})
        alike = run.call(await_file, gate, cost={"cpu": 1})
        graph = handoff.DAG().add_function(handoff.Function("of a graph", [], add, cost={"cpu": 2}))
        (of_graph,) = run.add(graph).values()
        states = {
            handle.id: explained and (explained.state, explained.waits_for, explained.needs)
            for handle in (first, behind, further, alike, of_graph)
            for explained in [run.explain(handle)]
        }
        run.cancel(of_graph)
        gate.touch()
        values = [await handle for handle in (first, behind, further, alike)]

        assert states == {
            first.id: ("sent", (), {"cpu": 1}),
            behind.id: ("waiting", (first.id,), {}),
            further.id: ("held", (behind.id,), {"cpu": 1}),
            alike.id: ("held", (), {"cpu": 1}),
            of_graph.id: ("held", (), {"cpu": 2}),
        }
        assert values == [1, 2, 3, 1]
        assert (run.explain(further), run.explain(of_graph)) == (None, None)
        assert run.report[behind].attempts == 1
        assert [entry.what for entry in run.story(behind)] == ["ready", "sent", "done"]


async def test_handles_of_another_run_are_refused_even_where_ids_are_alike(session: Session) -> None:
    graph = handoff.new()
    graph.call(add, 1, id="add-1")
    async with session.open_run() as run, session.open_run() as other:
        own, handle = run.call(add, 1), other.call(add, 1)
        of_graph = run.add(graph)
        assert own.id == handle.id == "add-1"
        asked: list[Callable[[handoff.Handle[int]], object]] = [
            run.explain, run.story, run.report.__getitem__, of_graph.__getitem__
        ]  # fmt: skip

        for ask in asked:
            with pytest.raises(KeyError, match=r"belongs to DAG .*: use a handle of that one, or an id"):
                ask(handle)
        assert handle not in run.report
        assert handle not in of_graph
        assert await own == await of_graph["add-1"] == 1
        assert [entry.what for entry in run.story(own)][-1] == "done"
