"""A member without workers, that can have nodes started, is told what waits; runs wait for what it starts."""

import asyncio

import pytest

import handoff_actors as handoff
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.adverts import StartableNodes
from handoff_actors.wire.messages.members import Backlog
from tests.actors.memory_cluster import MemoryCluster, memory_cluster

CAN_START = StartableNodes({"cpu": 2.0})


def work(number: int) -> int:
    return 2 * number


async def starter_in(cluster: MemoryCluster) -> NodeActor:
    starter = await cluster.start_node("alloc", cpu=0, workers=0)
    starter.start_others(CAN_START)
    return starter


async def until_told(starter: NodeActor, backlogs: list[Backlog]) -> None:
    async with asyncio.timeout(10):
        while starter.backlogs != backlogs:  # noqa: ASYNC110 - what a peer says has no event of its own
            await asyncio.sleep(0.01)


async def test_run_without_a_node_waits_for_one_that_can_be_started() -> None:
    dag = handoff.new()
    for number in range(3):
        dag.call(work, number, cost={"cpu": 1})
    async with memory_cluster(0) as cluster, asyncio.TaskGroup() as tasks:
        starter = await starter_in(cluster)
        async with cluster.session() as session:
            running = tasks.create_task(session.execute_distributed(dag, allocation_timeout=0.01))
            await until_told(starter, [Backlog(3, {"cpu": 1.0})])
            await cluster.start_node("n1", [starter.address], cpu=2)

            run = await running

            assert set(run.allocations.values()) == {"n1"}
            await until_told(starter, [])


async def test_backlog_of_an_app_that_leaves_is_forgotten() -> None:
    async with memory_cluster(0) as cluster, asyncio.TaskGroup() as tasks:
        starter = await starter_in(cluster)
        async with cluster.session() as session:
            dag = handoff.new()
            dag.call(work, 1)
            running = tasks.create_task(session.execute_distributed(dag))
            await until_told(starter, [Backlog(1, {})])
            running.cancel()
            await asyncio.wait([running])

        await until_told(starter, [])


async def test_run_on_certain_nodes_alone_has_no_use_for_another() -> None:
    async with memory_cluster(0) as cluster:
        starter = await starter_in(cluster)
        async with cluster.session() as session:
            dag = handoff.new()
            dag.call(work, 1)
            with pytest.raises(handoff.AllocationError):
                await session.execute_distributed(dag, nodes=["n9"], allocation_timeout=3)

            assert starter.backlogs == []
