"""Nodes that are lost in the middle of a graph that a function has returned."""

import asyncio
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.faults.conftest import OpenSession, StartNode
from tests.faults.functions import LARGE
from tests.faults.observing import Observer, Prefers, until, until_empty
from tests.processes import growing

pytestmark = pytest.mark.processes


async def test_large_arguments_of_a_graph_are_made_again_with_their_node(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    doomed = start_node("doomed", "--join", survivor.address)
    noted, gate = tmp_path / "noted", tmp_path / "gate"
    seen = Observer()
    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        await until(session, lambda: len(session._hub._connections.ups()) == 2)
        dag = handoff.DAG()
        length = dag.call(growing.with_large_arguments, str(noted), str(gate), id="grows")
        running = tasks.create_task(
            session.execute_distributed(dag, allocation_strategy=Prefers("doomed"), on_event=seen)
        )
        await seen.until("assigned", "grows/0")
        doomed.process.kill()
        await until(session, lambda: len(session._hub._connections.ups()) == 1)
        gate.touch()

        run = await running

        assert run.results[length] == 2 * LARGE
        assert noted.stat().st_size == 2
        await run.release()
        await until_empty(session, survivor)


async def test_parts_are_fetched_from_node_to_node(start_node: StartNode, open_session: OpenSession) -> None:
    here = start_node("here")
    start_node("there", "--join", here.address)
    dag = handoff.DAG()
    frames = dag.call(growing.frames, 20, 200_000, node="here")
    firsts = dag.map(growing.first, over=frames, node="there")
    async with open_session(here) as session:
        await until(session, lambda: len(session._hub._connections.ups()) == 2)

        run = await session.execute_distributed(dag)

        assert run.results[firsts] == list(range(20))
        assert session.received_bytes() < 1_000_000
