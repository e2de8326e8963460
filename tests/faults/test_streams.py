"""Streams over nodes and workers that freeze, and nodes that join while items flow: each result comes out once, and in order."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing

import psutil
import pytest

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain
from tests.daemons import Daemon
from tests.faults.conftest import StartNode
from tests.faults.observing import Prefers, until, until_empty

pytestmark = pytest.mark.processes


def send_all(daemon: Daemon, number: signal.Signals) -> None:
    """Send a signal to a node and all its processes."""
    for process in [psutil.Process(daemon.process.pid), *daemon.family()]:
        process.send_signal(number)


async def take(results: AsyncGenerator[object, None], numbers: range) -> None:
    """Take results, and check that they are the numbers that were pushed, in order."""
    for number in numbers:
        assert await anext(results) == number


@pytest.mark.timeout(90)
async def test_stages_of_a_node_that_freezes_move_and_it_does_no_harm_when_it_wakes_up(
    start_node: StartNode,
) -> None:
    survivor = start_node("survivor")
    frozen = start_node("frozen", "--join", survivor.address)
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    data = dag.call(stages.large, dag.call(stages.slow, number))
    dag.call(stages.check_large, dag.call(stages.same, data, node="survivor"))
    async with handoff.Session(seeds=[survivor.address]) as session:
        await until(session, lambda: len(session._hub._connections.ups()) == 2)
        async with (
            session.stream(dag, allocation_strategy=Prefers("frozen")) as pipeline,
            aclosing(pipeline.map(number % 200 for number in itertools.count())) as results,
        ):
            assert [each.node for each in pipeline.explain()].count("frozen") == 3
            await take(results, range(20))
            send_all(frozen, signal.SIGSTOP)
            await take(results, range(20, 120))
            assert {each.node for each in pipeline.explain()} == {"survivor"}
            send_all(frozen, signal.SIGCONT)
            await until(session, lambda: len(session._hub._connections.ups()) == 2)
            await take(results, range(120, 200))
            await take(results, range(50))

        await until_empty(session, survivor, frozen)


async def test_worker_that_freezes_is_replaced_once_its_time_is_over(
    start_node: StartNode,
) -> None:
    survivor = start_node("survivor")
    async with handoff.Session(seeds=[survivor.address]) as session:
        dag = chain(stages.same, stages.pid_slowly, timeout=0.5)
        async with session.stream(dag, max_retries=1) as pipeline:
            numbers: list[int] = []
            pids: list[int] = []
            async for number, pid in pipeline.map(range(60)):
                numbers.append(number)
                pids.append(pid)
                if number == 20:
                    os.kill(pid, signal.SIGSTOP)

        assert numbers == list(range(60))
        assert len(set(pids)) == 2
        assert not psutil.pid_exists(pids[0])
        await until_empty(session, survivor)


async def test_stage_grows_onto_a_node_that_joins(start_node: StartNode) -> None:
    first = start_node("first", "--cpu", "1")
    async with handoff.Session(seeds=[first.address]) as session:
        dag = chain(stages.pid_slowly, cost={"cpu": 1}, parallelism=(1, 2))
        async with (
            session.stream(dag) as pipeline,
            aclosing(pipeline.map(itertools.count())) as results,
        ):
            await take_numbers(results, range(50))
            second = await asyncio.to_thread(start_node, "second", "--join", first.address)
            taken = itertools.count(50)
            while len({each.node for each in pipeline.explain() if each.node}) < 2:
                assert (await anext(results))[0] == next(taken)
            pids: set[int] = set()
            while len(pids) < 2:
                number, pid = await anext(results)
                pids.add(pid)
                assert number == next(taken)

        await until_empty(session, first, second)


async def take_numbers(results: AsyncGenerator[tuple[int, int], None], numbers: range) -> None:
    for number in numbers:
        assert (await anext(results))[0] == number
