"""Runs let go of everything, however they end: by themselves, cancelled, with their session, or with a node."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.actors.app import journal as journals
from handoff_actors.client import run_registry
from handoff_actors.display.run_display import RunDisplay
from tests.actors.memory_cluster import MemoryCluster, memory_cluster

#: When something happens to a run: at its first event of this type, and so many ticks of the loop later.
MOMENTS = [
    (moment, ticks)
    for moment in (events.RunStarted, events.Sent, events.Finished, events.RunFinished)
    for ticks in range(5)
]

Disturbance = Callable[[handoff.Session, "asyncio.Task[Any]"], object]


def large() -> bytes:
    return bytes(200_000)


def size(value: bytes) -> int:
    return len(value)


def dag() -> handoff.DAG:
    """A value that stays on its node, one that is fetched, and a small one."""
    made = handoff.DAG("left")
    made.add_function(handoff.Function("large", [], large))
    made.add_function(handoff.Function("size", ["large"], size))
    made.add_function(handoff.Function("sink", [], large))
    return made


class Disturber:
    """Calls `act` at a moment of a run."""

    def __init__(self, moment: type[events.RunEvent], ticks: int, act: Callable[[], object]) -> None:
        self._moment = moment
        self._ticks = ticks
        self._act = act
        self._is_done = False

    def __call__(self, event: events.RunEvent) -> None:
        if isinstance(event, self._moment) and not self._is_done:
            self._is_done = True
            self._after(self._ticks)

    def _after(self, ticks: int) -> None:
        if ticks:
            asyncio.get_running_loop().call_soon(self._after, ticks - 1)
        else:
            self._act()


async def run_to_any_end(session: handoff.Session, moment: Any, ticks: int, disturb: Disturbance) -> None:
    """Run, disturb, and release what the caller has got, if it has got anything."""
    disturber = Disturber(moment, ticks, lambda: disturb(session, task))
    task = asyncio.ensure_future(session.execute_distributed(dag(), on_event=disturber))
    with suppress(asyncio.CancelledError, handoff.HandoffError):
        run = await task
        await run.release()


def cancel(_: handoff.Session, task: "asyncio.Task[Any]") -> None:
    task.cancel()


def cancel_again_and_again(session: handoff.Session, task: "asyncio.Task[Any]") -> None:
    if not task.done():
        task.cancel()
        asyncio.get_running_loop().call_soon(cancel_again_and_again, session, task)


async def until_idle(cluster: MemoryCluster) -> None:
    async with asyncio.timeout(10):
        while not all(  # noqa: ASYNC110 - a machine that becomes idle has nobody to tell
            node.is_idle and node.advert().stored == 0 for node in cluster.nodes.values()
        ):
            await asyncio.sleep(0.01)


@pytest.fixture
async def cluster() -> AsyncIterator[MemoryCluster]:
    async with memory_cluster(2) as made:
        yield made


@pytest.mark.parametrize("disturb", [cancel, cancel_again_and_again])
async def test_a_run_cancelled_at_any_moment_lets_go_before_its_caller_goes_on(
    cluster: MemoryCluster, disturb: Disturbance
) -> None:
    async with cluster.session() as session:
        for moment, ticks in MOMENTS:
            await run_to_any_end(session, moment, ticks, disturb)

            assert session._hub.runs.all() == [], (moment, ticks)
            assert all(node.is_idle for node in cluster.nodes.values()), (moment, ticks)
    await until_idle(cluster)


async def test_a_run_cancelled_while_a_link_breaks_lets_go(cluster: MemoryCluster) -> None:
    def lose_and_cancel(_: handoff.Session, task: "asyncio.Task[Any]") -> None:
        cluster.ether.break_links("app", "n1")
        task.cancel()

    async with cluster.session() as session:
        for moment, ticks in MOMENTS:
            # The loop reports no loss while it starts a run.
            await run_to_any_end(session, moment, ticks + 1, lose_and_cancel)

            # The node's own share goes with the lease of the connection.
            assert session._hub.runs.all() == [], (moment, ticks)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_session_closed_at_any_moment_of_a_run_leaves_nothing(
    cluster: MemoryCluster, *, is_cancelled: bool
) -> None:
    for moment, ticks in MOMENTS:
        closing: list[asyncio.Task[None]] = []

        def close(session: handoff.Session, task: "asyncio.Task[Any]") -> None:
            closing.append(asyncio.ensure_future(session.close()))  # noqa: B023 - it ends within its turn
            if is_cancelled:
                task.cancel()

        async with cluster.session() as session:
            await run_to_any_end(session, moment, ticks, close)
            await asyncio.gather(*closing)

        assert session._hub.runs.all() == [], (moment, ticks)
        await until_idle(cluster)


async def test_a_run_whose_node_ends_while_it_is_cancelled_lets_go() -> None:
    for moment, ticks in MOMENTS[::3]:
        ends: list[asyncio.Task[None]] = []
        async with memory_cluster(2) as cluster, cluster.session() as session:

            def kill_and_cancel(_: handoff.Session, task: "asyncio.Task[Any]") -> None:
                ends.append(asyncio.ensure_future(cluster.kill("n1")))  # noqa: B023 - it ends within its turn
                task.cancel()

            await run_to_any_end(session, moment, ticks, kill_and_cancel)
            await asyncio.gather(*ends)

            assert session._hub.runs.all() == [], (moment, ticks)
            await until_idle(cluster)


async def cancel_and_wait(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_run_cancelled_while_its_last_events_are_awaited_lets_go(cluster: MemoryCluster) -> None:
    is_over, never = asyncio.Event(), asyncio.Event()

    async def on_event(event: events.RunEvent) -> None:
        if isinstance(event, events.RunFinished):
            is_over.set()
            await never.wait()

    async with cluster.session() as session:
        task = asyncio.ensure_future(session.execute_distributed(dag(), on_event=on_event))
        await is_over.wait()
        await cancel_and_wait(task)

        assert session._hub.runs.all() == []
        assert all(node.is_idle for node in cluster.nodes.values())


async def test_a_run_cancelled_while_its_last_lines_are_written_lets_go(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over, never = asyncio.Event(), asyncio.Event()

    async def write(*_: object) -> None:
        is_over.set()
        await never.wait()

    monkeypatch.setattr(RunDisplay, "__aexit__", write)
    async with cluster.session() as session:
        task = asyncio.ensure_future(session.execute_distributed(dag()))
        await is_over.wait()
        await cancel_and_wait(task)

        assert session._hub.runs.all() == []
        assert all(node.is_idle for node in cluster.nodes.values())


async def test_a_run_whose_journal_fails_after_its_end_can_be_let_go(
    cluster: MemoryCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: journals.Journal) -> None:
        raise handoff.JournalError(Path("journal"), "no room is left")

    monkeypatch.setattr(journals.Journal, "flush", fail)
    async with cluster.session() as session:
        with pytest.raises(handoff.JournalError) as caught:
            await session.execute_distributed(dag(), journal=tmp_path / "journal")
        assert caught.value.run is not None
        await caught.value.run.release()

        assert session._hub.runs.all() == []
        assert all(node.is_idle for node in cluster.nodes.values())


async def test_a_run_whose_display_cannot_be_made_lets_go(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("there is no terminal")

    monkeypatch.setattr(run_registry, "RunDisplay", refuse)
    async with cluster.session() as session:
        with pytest.raises(OSError, match="there is no terminal"):
            await session.execute_distributed(dag())

        assert session._hub.runs.all() == []


async def test_a_run_that_is_cancelled_before_it_starts_is_not_known(
    cluster: MemoryCluster, tmp_path: Path
) -> None:
    many = handoff.DAG("many")
    for number in range(1500):
        many.add_function(handoff.Function(number, [], size, extra_args=[b"x"]))

    async with cluster.session() as session:
        for ticks in range(12):
            coroutine = session.execute_distributed(many, journal=tmp_path / f"journal-{ticks}")
            task = asyncio.ensure_future(coroutine)
            for _ in range(ticks):
                await asyncio.sleep(0)
            await cancel_and_wait(task)
            del task, coroutine
            gc.collect()

            assert session._hub.runs.all() == [], ticks
            assert not session._hub.runs._known, ticks
    await until_idle(cluster)


@pytest.mark.parametrize("is_in_cluster", [False, True])
async def test_a_session_closed_while_a_run_is_prepared_stays_closed(
    cluster: MemoryCluster, *, is_in_cluster: bool
) -> None:
    many = handoff.DAG("many")
    for number in range(1500):
        many.add_function(handoff.Function(number, [], size, extra_args=[b"x"]))

    for ticks in (1, 2, 3, 4, 6, 9):
        session = cluster.session() if is_in_cluster else handoff.Session([])
        async with session:
            task = asyncio.ensure_future(session.execute_distributed(many))
            for _ in range(ticks):
                await asyncio.sleep(0)
        with pytest.raises(handoff.HandoffError, match="the session was closed"):
            await task

        assert not session._hub.is_started, ticks
        assert session._hub.runs.all() == [], ticks


async def test_a_coroutine_that_is_closed_does_not_wait_for_nodes(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        await session.start()
        is_sent = asyncio.Event()

        def on_event(event: events.RunEvent) -> None:
            if isinstance(event, events.Sent):
                is_sent.set()

        coroutine = session.execute_distributed(dag(), on_event=on_event)
        coroutine.send(None)
        await is_sent.wait()
        coroutine.close()

        async with asyncio.timeout(10):
            while session._hub.runs.all():  # noqa: ASYNC110 - it tells no one
                await asyncio.sleep(0.01)
