"""Nodes that are drained: a run is not harmed, and nothing is made again."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import handoff_actors as handoff
from tests.faults import functions
from tests.faults.conftest import OpenSession, StartNode
from tests.faults.functions import LARGE
from tests.faults.observing import Observer, Prefers, until, until_empty

pytestmark = pytest.mark.processes


async def test_drained_node_hands_over_what_is_needed_and_nothing_is_made_again(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    leaving = start_node("leaving", "--join", survivor.address)
    seen = Observer()
    first, second = tmp_path / "first", tmp_path / "second"
    dag = handoff.DAG()
    dag.add_functions(handoff.Function(("made", number), [], functions.make) for number in range(5))
    dag.add_function(handoff.Function("running", [], functions.wait_for, extra_args=[str(first)]))
    dag.add_function(
        handoff.Function("gate", [], functions.wait_for, extra_args=[str(second)], node="survivor")
    )
    made = [("made", number) for number in range(5)]
    dag.add_function(handoff.Function("length", [*made, "running", "gate"], functions.measure))
    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        await until(session, lambda: len(session._hub._connections.ups()) == 2)
        running = tasks.create_task(
            session.execute_distributed(dag, allocation_strategy=Prefers("leaving"), on_event=seen)
        )
        for function_id in made:
            await seen.until("completed", function_id)
        await seen.until("assigned", "running")
        leaving.process.send_signal(signal.SIGTERM)
        await until(session, lambda: any(advert.leaving for advert in session._hub._connections.adverts()))
        first.touch()
        status = await asyncio.to_thread(leaving.wait)
        second.touch()

        run = await running

        assert status == 0
        assert run.results["length"] == 5 * LARGE
        assert set(seen.kinds()) <= {"assigned", "completed", "recalled"}
        assert seen.kinds()["completed"] == len(run.results), "something was made again"
        assert run.allocations["made", 0] == "leaving"
        await run.release()
        await until_empty(session, survivor)
    assert leaving.leftovers() == []


async def test_values_of_a_run_that_has_ended_outlive_the_node_that_made_them(
    start_node: StartNode, open_session: OpenSession
) -> None:
    survivor = start_node("survivor")
    leaving = start_node("leaving", "--join", survivor.address)
    dag = handoff.DAG().add_function(handoff.Function("made", [], functions.make, node="leaving"))
    dag.add_function(handoff.Function("length", ["made"], functions.measure, node="leaving"))
    async with open_session(survivor) as session:
        run = await session.execute_distributed(dag)

        status = await asyncio.to_thread(leaving.terminate)

        assert status == 0
        assert len(await run.fetch("made")) == LARGE
        await run.release()
        await until_empty(session, survivor)


async def test_function_on_the_last_node_that_leaves_may_still_begin_a_run(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    leaving, flag, seen = start_node("leaving"), tmp_path / "flag", Observer()
    dag = handoff.DAG().add_function(
        handoff.Function("outer", [], functions.wait_and_begin_a_run, extra_args=[str(flag)])
    )
    async with open_session(leaving) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, on_event=seen, allocation_timeout=1.0))
        await seen.until("started", "outer")
        leaving.process.send_signal(signal.SIGTERM)
        leaving.wait_for_log("draining")
        flag.touch()

        run = await running

        assert run.results["outer"] == 3
        assert run.report["outer"].attempts == 1
        await run.release()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_to_all_of_a_nodes_processes_drains_it(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path, number: signal.Signals
) -> None:
    leaving, flag = start_node("leaving", "--cpu", "1"), tmp_path / "flag"
    dag = handoff.DAG()
    dag.add_function(handoff.Function("running", [], functions.wait_for, extra_args=[str(flag)]))
    seen = Observer()
    async with open_session(leaving) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, on_event=seen))
        await seen.until("started", "running")

        for process in [psutil.Process(leaving.process.pid), *leaving.family()]:
            process.send_signal(number)
        leaving.wait_for_log("draining")
        flag.touch()

        run = await running
        assert run.report["running"].attempts == 1
        await run.release()
        assert await asyncio.to_thread(leaving.wait) == 0
    assert leaving.leftovers() == []


async def test_second_signal_to_all_of_a_nodes_processes_ends_it_at_once(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    leaving = start_node("leaving", "--cpu", "1")
    dag = handoff.DAG()
    dag.add_function(handoff.Function("running", [], functions.wait_for, extra_args=[str(tmp_path / "no")]))
    seen = Observer()
    async with open_session(leaving) as session:
        execution = session.execute_distributed(dag, on_event=seen, allocation_timeout=0.1)
        running = asyncio.gather(execution, return_exceptions=True)
        await seen.until("started", "running")
        for _ in range(2):
            for process in [psutil.Process(leaving.process.pid), *leaving.family()]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM)
            leaving.wait_for_log("draining")

        assert await asyncio.to_thread(leaving.wait) == 0
        [error] = await running
        assert isinstance(error, handoff.HandoffError)
    assert leaving.leftovers() == []
