"""What users do wrong with open runs, and what goes wrong in their functions: it concerns them alone."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import Session


def double(number: int) -> int:
    return 2 * number


def fail(reason: object) -> None:
    raise ValueError(reason)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session(local_node={"cpu": 2.0}, progress=False) as session, asyncio.timeout(50):
        yield session


def attempt(fails_at: int = 0) -> int:
    if handoff.current().attempt == fails_at:
        raise ValueError("another try will do")
    return handoff.current().attempt


async def attempt_async() -> int:
    return handoff.current().attempt


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"init": list}, handoff.InvalidFunctionError, "init is an option of streams"),
        ({"parallelism": 2}, handoff.InvalidFunctionError, "parallelism is an option of streams"),
        ({"batch_size": 2}, handoff.InvalidFunctionError, "batch_size is an option of streams"),
        ({"batch_timeout": 2.0}, handoff.InvalidFunctionError, "batch_timeout is an option of streams"),
        ({"type": "inline"}, handoff.InvalidFunctionError, "is inline, and has no result of its own"),
        (
            {"run_if": "failure"},
            handoff.InvalidFunctionError,
            "takes no result of a function that could fail",
        ),
        ({"when": "nope"}, handoff.MissingFunctionError, "'nope', which is not in the run"),
    ],
    ids=lambda given: ", ".join(given) if isinstance(given, dict) else "",
)
async def test_call_that_can_not_be_made_is_refused_at_once_and_disturbs_no_other(
    session: Session, options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    other = asyncio.create_task(session.call(sleep, 0.2))
    with pytest.raises(error, match=reason):
        await session.call(double, 3, **options)

    assert await other == 0.2
    assert await session.call(double, 3) == 6


async def test_argument_that_names_no_function_of_the_run_is_refused(session: Session) -> None:
    async with session.open_run(on_failure="continue") as run:
        await run.call(double, 1, id="gone")
        while run._has("gone"):
            # Its handle is collected as soon as nothing refers to it.
            await run.call(double, 2)
        for missing in ("nope", "gone"):
            with pytest.raises(
                handoff.MissingFunctionError, match=f"'{missing}', which is not in the run, or not any more"
            ):
                run.call(double, handoff.Argument(missing))
        assert await run.call(double, 3) == 6


async def test_graph_with_functions_for_streams_is_refused_as_a_whole(session: Session) -> None:
    graph = handoff.DAG()
    graph.call(double, 1)
    graph.call(double, 2, parallelism=2)
    async with session.open_run(on_failure="continue") as run:
        with pytest.raises(handoff.InvalidFunctionError, match="parallelism is an option of streams"):
            run.add(graph)
        assert await run.call(double, 3) == 6


async def test_handles_of_another_run_are_cancelled_and_kept_in_their_own(session: Session) -> None:
    async with (
        session.open_run(on_failure="continue") as one,
        session.open_run(on_failure="continue") as other,
    ):
        stays, goes = one.call(sleep, 0.5), other.call(sleep, 30)
        mine, yours = one.call(double, 1), other.call(double, 2)

        assert one.cancel(goes) == 1
        await one.keep(yours, "yours")

        assert (goes.id, mine.id) == (stays.id, yours.id)
        with pytest.raises(asyncio.CancelledError):
            await goes
        assert await stays == 0.5
        assert await (await session.kept("yours")) == 4
        await session.drop_kept("yours")


@pytest.mark.parametrize(
    "cancel", [lambda run, handle: handle.cancel(), lambda run, handle: run.cancel(handle) == 1]
)
async def test_threads_may_cancel(session: Session, cancel: Callable[[Any, Any], bool]) -> None:
    # Asyncio then raises where a thread uses what belongs to the loop.
    asyncio.get_running_loop().set_debug(True)
    async with session.open_run(on_failure="continue") as run:
        handle = run.call(sleep, 30)
        waiting = asyncio.ensure_future(asyncio.wait_for(handle, 30))
        await asyncio.sleep(0)

        assert await asyncio.to_thread(cancel, run, handle)

        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert handle.cancelled()
        assert not await asyncio.to_thread(cancel, run, handle)


def with_a_failure_beside() -> "handoff.Subgraph[int]":
    graph = handoff.new()
    graph.call(fail, "beside the way")
    return handoff.Subgraph(graph, result=graph.call(double, 2))


async def test_failure_beside_the_result_of_a_call_is_logged(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    assert await session.call(with_a_failure_beside) == 4

    while "beside the way" not in caplog.text:
        # It is told once the function is forgotten, which may be some calls later.
        await session.call(double, 1)
    assert "a function that another one has added has failed" in caplog.text
    assert "(fail)" in caplog.text


class Request:
    """What a frame holds while its function is awaited."""


async def test_error_of_a_call_keeps_nothing_of_who_has_awaited_it(session: Session) -> None:
    async def handle_request(requests: "list[weakref.ref[Request]]") -> None:
        request = Request()
        requests.append(weakref.ref(request))
        handle = run.call(fail, "of the call")
        await handle

    requests: list[weakref.ref[Request]] = []
    async with session.open_run(on_failure="continue") as run:
        for _ in range(3):
            with pytest.raises(handoff.FunctionFailed, match="of the call") as raised:
                await handle_request(requests)
            assert isinstance(raised.value.__cause__, ValueError)
            del raised
        gc.collect()

        assert [request() for request in requests] == [None] * 3


async def test_attempts_are_those_of_one_function_whatever_had_its_place_before(session: Session) -> None:
    assert [await session.call(attempt) for _ in range(5)] == [1] * 5
    assert [await session.call(attempt_async) for _ in range(5)] == [1] * 5
    assert [await session.call(attempt, 1, max_retries=1) for _ in range(3)] == [2] * 3


def tell() -> None:
    handoff.current().set_progress(1, 2)
    handoff.current().emit("a value")


async def test_events_of_functions_have_the_numbers_of_their_attempts(session: Session) -> None:
    events: list[handoff.events.RunEvent] = []
    async with session.open_run(on_event=events.append) as run:
        for _ in range(4):
            await run.call(tell)

    reported = [event for event in events if event.kind in {"started", "progressed", "emitted", "completed"}]
    assert len(reported) == 16
    assert {event.attempt for event in reported} == {1}


async def test_results_are_given_while_the_source_has_no_further_item(session: Session) -> None:
    for options in ({}, {"ordered": False}, {"ahead": 1}):
        answers: asyncio.Queue[int] = asyncio.Queue()

        async def dialogue(answers: "asyncio.Queue[int]" = answers) -> AsyncIterator[int]:
            yield 1
            for _ in range(3):
                yield await answers.get()

        got: list[int] = []
        async for result in session.map(double, dialogue(), **options):
            got.append(result)
            answers.put_nowait(result)
        assert got == [2, 4, 8, 16]


async def test_results_do_not_wait_behind_a_source_that_blocks(session: Session) -> None:
    taken: list[int] = []

    def camera() -> Any:
        for number in range(200):
            time.sleep(0.02)
            taken.append(number)
            yield number

    async with aclosing(session.map(double, camera())) as results:
        async for result in results:
            if len(taken) - result // 2 <= 3:
                break

    assert len(taken) < 200


async def test_error_of_a_source_comes_behind_the_results_of_its_items(session: Session) -> None:
    def numbers() -> Any:
        yield from (1, 2)
        raise OSError("no more")

    results = session.map(double, numbers())
    assert [await anext(results), await anext(results)] == [2, 4]
    with pytest.raises(OSError, match="no more"):
        await anext(results)


async def test_source_of_a_map_that_is_left_early_is_closed(session: Session) -> None:
    closed = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            closed.set()

    results = session.map(double, numbers())
    assert await anext(results) == 2
    await results.aclose()

    assert closed.is_set()


async def test_map_without_a_source_is_a_mistake(session: Session) -> None:
    for make in (session.map, handoff.map_sync):
        with pytest.raises(TypeError, match="there is no source of items"):
            make(double)


async def test_values_are_put_and_kept_also_where_functions_have_failed(session: Session) -> None:
    failed = [error async for error in session.map(fail, range(20), return_exceptions=True)]
    assert len(failed) == 20

    put = await session.put(3)
    run = await session.execute_distributed(handoff.DAG().add_function(handoff.Function("one", [], int)))
    await run.keep("one", "zero")

    assert (await put, await (await session.kept("zero"))) == (3, 0)
    await session.drop_kept("zero")


async def test_callers_are_told_that_their_session_was_closed() -> None:
    async with Session(local_node={"cpu": 2.0}, progress=False) as session:
        caller = asyncio.create_task(session.call(sleep, 30))
        results = session.map(sleep, [0.01, 30, 30])
        await anext(results)

    for waiting in (caller, anext(results)):
        with pytest.raises(
            handoff.HandoffError, match=r"function 'sleep-.' has not ended: its session was closed"
        ):
            await waiting


async def test_session_that_has_been_left_starts_nothing_anew() -> None:
    session = Session(local_node={"cpu": 1.0}, progress=False)
    async with session:
        assert await session.call(double, 1) == 2

    for use in (session.call(double, 1), session.put(3), anext(session.map(double, [1])), session.start()):
        with pytest.raises(handoff.HandoffError, match="the session has ended with its `async with`"):
            await use
    async with session:
        assert await session.call(double, 2) == 4


def test_map_without_a_loop_reads_its_source_where_its_results_are_taken() -> None:
    seen: set[int] = set()

    def numbers() -> Any:
        for number in range(4):
            seen.add(threading.get_ident())
            yield handoff.call_sync(double, number)

    assert list(handoff.map_sync(double, numbers())) == [0, 4, 8, 12]
    assert list(handoff.map_sync(double, handoff.map_sync(double, range(3)))) == [0, 4, 8]
    assert seen == {threading.get_ident()}


def test_slow_source_of_a_map_without_a_loop_holds_up_no_other_call() -> None:
    may_end = threading.Event()

    def numbers() -> Any:
        yield 1
        assert may_end.wait(30)
        yield 2

    with_map = threading.Thread(target=lambda: got.extend(handoff.map_sync(double, numbers())))
    got: list[int] = []
    with_map.start()
    assert handoff.call_sync(double, 3) == 6
    may_end.set()
    with_map.join()

    assert got == [2, 4]


def test_map_without_a_loop_gives_errors_and_results_as_a_map_does() -> None:
    def numbers() -> Any:
        yield from (1, 2)
        raise OSError("no more")

    results = handoff.map_sync(double, numbers(), ordered=False, ahead=1)
    assert sorted([next(results), next(results)]) == [2, 4]
    with pytest.raises(OSError, match="no more"):
        next(results)
    errors = list(handoff.map_sync(fail, range(3), return_exceptions=True))
    assert all(isinstance(error, handoff.FunctionFailed) for error in errors)
    with pytest.raises(handoff.FunctionFailed, match="ValueError: 0"):
        next(handoff.map_sync(fail, range(3)))
    with pytest.raises(ValueError, match="ahead=0"):
        handoff.map_sync(double, [1], ahead=0)
    with pytest.raises(handoff.InvalidFunctionError, match="nonsense"):
        next(handoff.map_sync(double, [1], nonsense=1))
