"""What a leaving node keeps under names, and the nodes that are asked to keep it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import handoff_actors as handoff
from handoff_actors.actors.node.kept_handover import hand_over_kept_values
from tests.actors.memory_cluster import MemoryCluster, memory_cluster

SIZE = 5_000_000


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryCluster]:
    """Nodes n1, which keeps a value, n2 and n3."""
    monkeypatch.setattr("handoff_actors.actors.peer_links.PATIENCE_S", 0.05)
    monkeypatch.setattr("handoff_actors.actors.handshake.WELCOME_S", 0.1)
    monkeypatch.setattr("handoff_actors.actors.node.kept_handover.CONNECT_TIMEOUT_S", 0.1)
    async with memory_cluster(3, cpu=1) as made, made.session() as session:
        dag = handoff.DAG("kept")
        dag.add_function(handoff.Function("made", [], bytes, extra_args=[SIZE], node="n1"))
        dag.add_function(handoff.Function("taken", ["made"], len, node="n1"))
        run = await session.execute_distributed(dag)
        await run.keep("made", "zeros", ttl="1h")
        await run.release()
        yield made
        await session.drop_kept("zeros")


async def hand_over(cluster: MemoryCluster, *heirs: str) -> None:
    """Have n1 ask these nodes, in this order."""
    member = cluster._members["n1"]
    adverts = {advert.name: advert for advert in member.members()}
    async with asyncio.timeout(20):
        await hand_over_kept_values(cluster.nodes["n1"], member.network(), [adverts[name] for name in heirs])


def kept_at(cluster: MemoryCluster) -> list[str]:
    return [name for name, node in sorted(cluster.nodes.items()) if node.kept_values()]


async def test_value_is_kept_by_the_first_node_that_is_asked_and_by_no_other(cluster: MemoryCluster) -> None:
    await hand_over(cluster, "n3", "n2")

    (entry,) = cluster.nodes["n3"].kept_values()
    assert (entry.name, kept_at(cluster)) == ("zeros", ["n1", "n3"])
    assert entry.left_s == pytest.approx(3600, abs=60)


async def test_the_next_node_is_asked_where_one_does_not_answer(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.ether.part("n1", "n3")

    await hand_over(cluster, "n3", "n2")

    assert kept_at(cluster) == ["n1", "n2"]
    assert "a node does not keep what this one has kept" in caplog.text
    assert "no other node keeps" not in caplog.text


async def test_the_names_of_what_no_node_keeps_are_logged(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.ether.part("n1", "n2")

    await hand_over(cluster, "n2")

    assert kept_at(cluster) == ["n1"]
    (record,) = [each for each in caplog.records if each.message.startswith("no other node keeps")]
    assert record.__dict__["names"] == "zeros"
