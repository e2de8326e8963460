"""An open run hears of functions without handles many at a time, and at once where values are large or ids the user's."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from handoff_actors import DAG, Session
from handoff_actors.client.growing import open_run_feed
from handoff_actors.client.growing.open_run import OpenRun
from tests.workers.functions import same

pytestmark = pytest.mark.processes


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session((), {"cpu": 2}, progress=False) as session:
        yield session


def known(run: OpenRun) -> int:
    return len(run._going.runner.plan.index_of)


async def call(run: OpenRun, argument: object) -> None:
    assert await run.call(same, argument) == argument


async def until_known(run: OpenRun, count: int) -> None:
    async with asyncio.timeout(10):
        while known(run) != count:  # noqa: ASYNC110 - what is forgotten has nobody to tell
            await asyncio.sleep(0.001)


async def test_functions_are_forgotten_together_after_a_while(session: Session) -> None:
    async with session.open_run() as run:
        for _ in range(3):
            await call(run, 1)
        before = known(run)
        await until_known(run, 0)

    assert before > 0


async def test_functions_are_forgotten_once_they_are_many(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run_feed, "RELEASED_FOR_S", 1e3)
    most = open_run_feed.MOST_RELEASED
    async with session.open_run() as run:
        for _ in range(most - 1):
            await call(run, 1)
        before = known(run)
        await call(run, 1)
        await until_known(run, 0)

    assert before == most - 1


async def test_functions_are_forgotten_at_once_where_values_are_large(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run_feed, "RELEASED_FOR_S", 1e3)
    async with session.open_run() as run:
        await call(run, bytes(100_000))
        await until_known(run, 0)


async def test_functions_are_forgotten_at_once_where_ids_may_be_given_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run_feed, "RELEASED_FOR_S", 1e3)
    async with session.open_run() as run:
        assert await run.call(same, 1, id="one") == 1
        await until_known(run, 0)
        assert await run.call(same, 2, id="one") == 2


async def test_functions_of_graphs_are_forgotten_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run_feed, "RELEASED_FOR_S", 1e3)
    graph = DAG()
    graph.call(same, 1, id="one")
    async with session.open_run() as run:
        assert await run.add(graph)["one"] == 1
        await until_known(run, 0)


async def test_functions_let_go_of_in_another_thread_are_forgotten(session: Session) -> None:
    async with session.open_run() as run:
        handles = [run.call(same, 1)]
        await handles[0].wait()
        await asyncio.to_thread(handles.clear)
        await until_known(run, 0)
