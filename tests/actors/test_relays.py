"""Nodes that get no connection to one another, and an app that has one to each."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.actors.memory_cluster import MemoryCluster, memory_cluster
from tests.actors.test_clusters import until_idle

SIZE = 5_000_000


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryCluster]:
    """Nodes n1 and n2 that can't reach one another."""
    monkeypatch.setattr("handoff_actors.actors.peer_links.PATIENCE_S", 0.05)
    async with memory_cluster(2, cpu=2) as made:
        made.ether.part("n1", "n2")
        yield made


def make(size: int) -> bytes:
    return bytes(range(250)) * (size // 250)


class Watched:
    """The events of a run."""

    def __init__(self) -> None:
        self.seen: list[events.RunEvent] = []
        self.on_relay: Callable[[str], object] | None = None

    def __call__(self, event: events.RunEvent) -> None:
        self.seen.append(event)
        if isinstance(event, events.ValueRelayed) and self.on_relay is not None:
            self.on_relay(event.holder)

    def relayed(self) -> list[tuple[object, str, str, int]]:
        return [
            (event.function_id, event.holder, event.node, event.nbytes)
            for event in self.seen
            if isinstance(event, events.ValueRelayed)
        ]

    def lost(self) -> list[events.RunEvent]:
        return [event for event in self.seen if isinstance(event, events.Lost)]


def pinned(size: int = SIZE) -> handoff.DAG:
    dag = handoff.DAG("pinned")
    dag.add_function(handoff.Function("made", [], make, extra_args=[size], node="n1"))
    dag.add_function(handoff.Function("taken", ["made"], len, node="n2"))
    return dag


async def test_app_relays_values_and_says_so_at_once(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched()
    async with cluster.session() as session:
        with caplog.at_level(logging.WARNING, "handoff_actors.actors.app.relay"):
            first = await session.execute_distributed(pinned(), on_event=watched)
            second = await session.execute_distributed(pinned(), on_event=watched)
        relay = session._hub._values._relay
        assert relay is not None
        assert relay._passages == {}

    assert first.results["taken"] == second.results["taken"] == SIZE
    assert [entry[:3] for entry in watched.relayed()] == [("made", "n1", "n2")] * 2
    assert watched.relayed()[0][3] >= SIZE
    assert watched.lost() == []
    # Once for each pair of nodes, however often it happens.
    (line,) = [
        record.getMessage() for record in caplog.records if "gets no connection" in record.getMessage()
    ]
    assert "'n2' gets no connection to node 'n1'" in line
    await until_idle(cluster)


async def test_nodes_that_can_meet_again_use_no_relay(cluster: MemoryCluster) -> None:
    before, after = Watched(), Watched()
    async with cluster.session() as session:
        await session.execute_distributed(pinned(), on_event=before)
        cluster.ether.join_again("n1", "n2")
        run = await session.execute_distributed(pinned(), on_event=after)

    assert len(before.relayed()) == 1
    assert after.relayed() == []
    assert run.results["taken"] == SIZE


async def test_values_are_copied_off_a_node_that_leaves_to_one_that_can_not_reach_it(
    cluster: MemoryCluster,
) -> None:
    dag = handoff.DAG("kept")
    dag.add_function(handoff.Function("made", [], make, extra_args=[SIZE], node="n1"))
    dag.add_function(handoff.Function("taken", ["made"], len, node="n1"))
    async with cluster.session() as session:
        run = await session.execute_distributed(dag)
        async with asyncio.timeout(10):
            await cluster.nodes["n1"].leave(9.0)
        view = run._holdings.runner.view
        holders, relayed = view.holders(0), [*view.relayed]
        value = await run.fetch("made")

    assert holders == ("n2",)
    assert len(value) == SIZE
    assert relayed == [("n1", "n2")]


async def test_value_whose_holder_dies_while_it_is_relayed_is_made_again(cluster: MemoryCluster) -> None:
    watched = Watched()
    dag = handoff.DAG("dying")
    dag.add_function(handoff.Function("made", [], make, extra_args=[30_000_000], cost={"cpu": 4}))
    dag.add_function(handoff.Function("taken", ["made"], len, node="n2"))
    for name in ("n3", "n4"):
        await cluster.start_node(name, [cluster.nodes["n2"].address], cpu=4)
        cluster.ether.part("n2", name)
    async with asyncio.TaskGroup() as tasks, cluster.session() as session:

        def kill(holder: str) -> None:
            watched.on_relay = None
            # The pieces still to come don't.
            cluster.ether.part("app", holder)
            tasks.create_task(cluster.kill(holder))

        watched.on_relay = kill
        run = await session.execute_distributed(dag, on_event=watched)

    assert run.results["taken"] == 30_000_000
    assert [holder for _, holder, _, _ in watched.relayed()] in (["n3", "n4"], ["n4", "n3"])
