"""Tests of the events that `on_event` receives from real runs on real nodes."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.client.event_callbacks import MOST_WAITING, EventCallback
from tests.client import functions

pytestmark = pytest.mark.processes


@pytest.fixture
async def session() -> AsyncIterator[handoff.Session]:
    async with handoff.Session(seeds=(), local_node={"cpu": 2}) as opened:
        yield opened


def only(code: Any, *args: Any, **options: Any) -> handoff.DAG:
    return handoff.DAG("dag").add_function(
        handoff.Function("only", [], code, extra_args=args, cost={"cpu": 1}, **options)
    )


def of_functions(seen: list[events.RunEvent]) -> list[tuple[type, int]]:
    return [(type(event), event.attempt) for event in seen if event.function_id is not None]


async def test_every_change_is_a_typed_event_in_order(session: handoff.Session, tmp_path: Path) -> None:
    seen: list[events.RunEvent] = []

    run = await session.execute_distributed(
        only(functions.fail_once, str(tmp_path / "tried")), on_event=seen.append
    )

    assert [type(event) for event in seen] == [
        events.RunStarted,
        events.NodeJoined,
        events.Sent,
        events.Started,
        events.Retried,
        events.Sent,
        events.Started,
        events.Finished,
        events.RunFinished,
    ]
    assert {event.dag_id for event in seen} == {"dag"}
    assert [event.time for event in seen] == sorted(event.time for event in seen)
    started, joined, _, _, retried, _, _, finished, ended = seen
    assert isinstance(started, events.RunStarted)
    assert started.functions == 1
    assert isinstance(joined, events.NodeJoined)
    assert joined.capabilities == {"cpu": 2}
    assert (retried.function_id, retried.attempt, retried.reason) == ("only", 1, "ValueError: not yet")
    assert isinstance(finished, events.Finished)
    assert (finished.attempt, finished.worker) == (2, run.results["only"])
    assert finished.ran_s > 0
    assert isinstance(ended, events.RunFinished)
    assert (ended.outcome, ended.error) == ("finished", None)
    assert ended.seconds > finished.ran_s


async def test_the_end_of_a_failed_run_carries_its_error(session: handoff.Session) -> None:
    seen: list[events.RunEvent] = []

    with pytest.raises(handoff.FunctionFailed) as caught:
        await session.execute_distributed(only(int, "x"), max_retries=0, on_event=seen.append)

    assert of_functions(seen)[-1] == (events.Failed, 1)
    assert isinstance(seen[-1], events.RunFinished)
    assert (seen[-1].outcome, seen[-1].error) == ("failed", caught.value)


async def test_the_death_of_a_worker_is_a_loss_and_no_retry(session: handoff.Session, tmp_path: Path) -> None:
    seen: list[events.RunEvent] = []

    await session.execute_distributed(
        only(functions.die_once, str(tmp_path / "tried")), on_event=seen.append, max_retries=0
    )

    assert of_functions(seen) == [
        (events.Sent, 1),
        (events.Started, 1),
        (events.Lost, 1),
        (events.Sent, 2),
        (events.Started, 2),
        (events.Finished, 2),
    ]
    assert "signal 9" in next(event.reason for event in seen if isinstance(event, events.Lost))


async def test_a_cancelled_run_says_so_last(session: handoff.Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    seen: list[events.RunEvent] = []
    is_started = asyncio.Event()

    async def on_event(event: events.RunEvent) -> None:
        await asyncio.sleep(0)
        seen.append(event)
        if isinstance(event, events.Started):
            is_started.set()

    running = asyncio.ensure_future(
        session.execute_distributed(only(functions.open_gate, str(gate)), on_event=on_event)
    )
    await is_started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert isinstance(seen[-1], events.RunFinished)
    assert seen[-1].outcome == "cancelled"


async def test_a_node_that_dies_leaves_and_its_functions_are_lost(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    seen: list[events.RunEvent] = []
    is_started = asyncio.Event()

    def on_event(event: events.RunEvent) -> None:
        seen.append(event)
        if isinstance(event, events.Started):
            is_started.set()

    async with handoff.LocalCluster(nodes=2, cpu=1) as cluster, cluster.session() as session:
        dag = only(functions.open_gate, str(gate))
        running = asyncio.ensure_future(session.execute_distributed(dag, on_event=on_event))
        await is_started.wait()
        first = next(event.node for event in seen if isinstance(event, events.Sent))
        next(node for node in cluster.nodes if node.name == first).kill()
        # The gate is now opened from the other node.
        await asyncio.to_thread(gate.write_text, "open")
        run = await running

    survivor = run.allocations["only"]
    assert run.results["only"] == "open"
    assert {first, survivor} == {"n1", "n2"}
    kinds = [type(event) for event in seen]
    assert kinds.index(events.NodeLeft) < kinds.index(events.Lost)
    assert [event.node for event in seen if isinstance(event, events.NodeLeft | events.Lost)] == [first] * 2
    assert [event.node for event in seen if isinstance(event, events.Sent)] == [first, survivor]


async def test_values_that_move_are_told() -> None:
    seen: list[events.RunEvent] = []
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("made", [], functions.make, extra_args=[1_000_000], node="n1"),
            handoff.Function("there", ["made"], len, node="n2"),
            handoff.Function("home", ["made"], bytes, node="n1"),
        ]
    )

    async with handoff.LocalCluster(nodes=2, cpu=1) as cluster, cluster.session() as session:
        await session.execute_distributed(dag, on_event=seen.append)

    moved = [event for event in seen if isinstance(event, events.Moved)]
    assert sorted((event.function_id, event.node) for event in moved) == [("home", ""), ("made", "n2")]
    assert all(event.nbytes >= 1_000_000 and event.took_s > 0 for event in moved)


async def test_coroutines_are_awaited_in_order_and_to_the_last(session: handoff.Session) -> None:
    seen: list[events.RunEvent] = []

    async def on_event(event: events.RunEvent) -> None:
        await asyncio.sleep(0.001 if len(seen) % 2 else 0)
        seen.append(event)

    dag = handoff.DAG().add_functions(handoff.Function(number, [], int) for number in range(20))
    await session.execute_distributed(dag, on_event=on_event)

    assert isinstance(seen[0], events.RunStarted)
    assert isinstance(seen[-1], events.RunFinished)
    assert [event.time for event in seen] == sorted(event.time for event in seen)
    assert sum(isinstance(event, events.Finished) for event in seen) == 20


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_observer_that_fails_harms_nothing_and_is_told_of_once(
    session: handoff.Session, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    def fail(event: events.RunEvent) -> None:
        raise KeyError(event.kind)

    async def fail_async(event: events.RunEvent) -> None:
        fail(event)

    run = await session.execute_distributed(only(int, "3"), on_event=fail_async if is_async else fail)

    assert run.results["only"] == 3
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().startswith("on_event of the run of DAG 'dag' has raised")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "'run_started'"


async def test_the_observer_of_a_session_hears_of_runs_that_have_none(tmp_path: Path) -> None:
    seen: list[str] = []
    own: list[str] = []
    async with handoff.Session(
        seeds=(), local_node={"cpu": 1}, on_event=lambda event: seen.append(event.kind)
    ) as session:
        await session.execute_local(only(int))
        first, seen = seen.copy(), []
        await session.execute_distributed(only(int), on_event=lambda event: own.append(event.kind))

    assert (first[0], first[-1]) == (own[0], own[-1]) == ("run_started", "run_finished")
    assert seen == []


async def test_what_a_slow_observer_misses_is_counted_in_its_place() -> None:
    seen: list[events.RunEvent] = []
    is_open = asyncio.Event()

    async def on_event(event: events.RunEvent) -> None:
        await is_open.wait()
        seen.append(event)

    async with EventCallback(on_event, "dag") as callback:
        for number in range(MOST_WAITING + 10):
            callback(events.RunEvent(dag_id="dag", time=number))
        is_open.set()

    *reported, last = seen
    assert [event.time for event in reported] == [*range(MOST_WAITING)]
    assert isinstance(last, events.EventsLost)
    assert last.events == 10
