"""Cancelling the task that awaits a run stops everything that runs for it, whatever that does, and soon."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.processes import functions as stubborn
from tests.processes.app import App, descendants, single
from tests.stored import values_in
from tests.workers import functions
from tests.workers.announcement import Announcement

pytestmark = pytest.mark.processes

STOPS_WITHIN_S = 1.0


STUBBORN: list[Callable[..., Any]] = [
    stubborn.loop_for_ever,
    stubborn.sleep_in_c,
    stubborn.ignore_signals_in_c,
    functions.wait_forever,
    functions.start_process_and_wait,
    stubborn.catch_cancellation,
    stubborn.block_the_loop,
]


async def cancelled_after_s(task: asyncio.Task[Any]) -> float:
    """Cancel, and give how long the confirmation took."""
    began = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.perf_counter() - began


@pytest.mark.parametrize("code", [*STUBBORN, functions.announce_and_sleep], ids=lambda code: code.__name__)
async def test_cancelling_stops_it_within_a_second(
    app: App, announcement: Announcement, code: Callable[..., Any]
) -> None:
    args = (announcement.path, 600.0) if code is functions.announce_and_sleep else (announcement.path,)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(single(code, *args, cost={"cpu": 1, "memory": 100})))
        await announcement.text()

        took_s = await cancelled_after_s(running)

    assert took_s < STOPS_WITHIN_S
    await app.until_idle()
    assert await app.call(functions.add, 1, 2) == 3


@pytest.mark.parametrize("code", STUBBORN, ids=lambda code: code.__name__)
async def test_time_limit_of_an_attempt_really_stops_it(
    app: App, announcement: Announcement, code: Callable[..., Any]
) -> None:
    with pytest.raises(handoff.FunctionFailed, match=r"0\.3 s") as caught:
        await app.run(single(code, announcement.path, timeout=0.3, max_retries=0))

    assert isinstance(caught.value.__cause__, TimeoutError | None)
    await app.until_idle()
    assert await app.call(functions.add, 1, 2) == 3


async def test_time_limit_of_a_run_ends_all_of_it(app: App, announcement: Announcement) -> None:
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("stuck", [], stubborn.sleep_in_c, extra_args=[announcement.path]),
            handoff.Function("next", ["stuck"], str),
        ]
    )

    with pytest.raises(handoff.RunTimeout) as caught:
        await app.run(dag, timeout=0.3)

    assert caught.value.unfinished == 2
    assert isinstance(caught.value, TimeoutError)
    await app.until_idle()


async def test_cancelling_a_large_run_leaves_nothing(app: App, announcement: Announcement) -> None:
    dag = handoff.DAG()
    large = dag.call(bytes, 1_000_000)
    for _ in range(200):
        dag.call(len, large)
    dag.call(stubborn.loop_for_ever, announcement.path, priority=1)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(dag))
        await announcement.text()

        took_s = await cancelled_after_s(running)

    assert took_s < STOPS_WITHIN_S
    await app.until_idle()


async def test_only_the_cancelled_run_is_stopped(app: App, announcement: Announcement) -> None:
    async def answer() -> str:
        await asyncio.sleep(0.5)
        return "here"

    async with asyncio.TaskGroup() as tasks:
        other = tasks.create_task(app.call(answer))
        running = tasks.create_task(app.run(single(functions.wait_forever, announcement.path)))
        await announcement.text()
        await cancelled_after_s(running)

    assert other.result() == "here"


async def test_closing_the_session_ends_its_runs(announcement: Announcement) -> None:
    before = set(descendants())
    session = handoff.Session(seeds=(), local_node={"cpu": 1})
    await session.start()

    async def close() -> float:
        await announcement.text()
        began = time.perf_counter()
        await session.close()
        return time.perf_counter() - began

    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(close())
        with pytest.raises(handoff.HandoffError, match="session was closed"):
            await session.execute_distributed(single(stubborn.ignore_signals_in_c, announcement.path))

    assert closing.result() < STOPS_WITHIN_S
    assert set(descendants()) <= before


async def test_runs_cancelled_about_the_moment_they_end_leave_no_value(app: App) -> None:
    def at_its_end(event: events.RunEvent) -> None:
        if isinstance(event, events.RunFinished):
            task.cancel()

    registry, store = app.session._hub.runs, app.node._store.directory
    for number in range(60):
        on_event = at_its_end if number % 3 == 0 else None
        task = asyncio.ensure_future(app.run(single(bytes, 2_000_000), on_event=on_event))
        if on_event is None:
            asyncio.get_running_loop().call_later(number / 20_000, task.cancel)
        await asyncio.wait([task])
        assert number % 3 or task.cancelled()

        # Whoever has got the run, releases it.
        if not task.cancelled():
            await task.result().release()
        assert registry.all() == []
    assert app.node.is_idle
    # A thread of the node removes files, or keeps them for the next value.
    async with asyncio.timeout(5):
        while any("spare-" not in path.name for path in values_in(store)):  # noqa: ASYNC110 - it tells no one
            await asyncio.sleep(0.01)
