"""Sessions, nodes and runners together, in one process, while the network between them misbehaves."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.actors import connections, discovery
from handoff_actors.core.cluster.links import LinksMachine, LinkWelcomed
from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import AdvertReceived
from tests.actors.memory_cluster import MemoryCluster, memory_cluster

NAMES = ("n1", "n2")


@pytest.fixture
async def cluster() -> AsyncIterator[MemoryCluster]:
    async with memory_cluster(2, cpu=2) as made:
        yield made


def layers(width: int, depth: int, code: Callable[..., Any]) -> handoff.DAG:
    """Layers of functions, each of which takes two of the layer before."""
    dag = handoff.DAG("layers")
    for layer in range(depth):
        for place in range(width):
            takes = [f"{layer - 1}-{place}", f"{layer - 1}-{(place + 1) % width}"] if layer else []
            dag.add_function(handoff.Function(f"{layer}-{place}", takes, code, extra_args=[layer + place]))
    return dag


def total(*values: int) -> int:
    return sum(values)


async def slow_total(*values: int) -> int:
    await asyncio.sleep(0.02)
    return sum(values)


def large_total(*values: Any) -> bytes:
    """Too large to travel with a message."""
    numbers = [value[0] if isinstance(value, bytes | memoryview) else value for value in values]
    return bytes([sum(numbers) % 256]) * 200_000


def expected(width: int, depth: int) -> list[int]:
    row = list(range(width))
    for layer in range(1, depth):
        row = [row[place] + row[(place + 1) % width] + layer + place for place in range(width)]
    return row


def results_of(run: handoff.Run, width: int, depth: int) -> list[Any]:
    return [run.results[f"{depth - 1}-{place}"] for place in range(width)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a machine that becomes idle has nobody to tell
            await asyncio.sleep(0.01)


async def until_idle(cluster: MemoryCluster) -> None:
    await until(lambda: all(node.is_idle and node.advert().stored == 0 for node in cluster.nodes.values()))


async def run_and_disturb(
    session: handoff.Session, dag: handoff.DAG, disturb: Callable[[], object], after: int
) -> handoff.Run:
    """Run a DAG, and let something happen once so many functions have finished."""
    finished = 0

    def on_event(event: events.RunEvent) -> None:
        nonlocal finished
        if isinstance(event, events.Finished):
            finished += 1
            if finished == after:
                disturb()

    return await session.execute_distributed(dag, on_event=on_event)


async def test_a_run_uses_both_nodes_and_leaves_nothing(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        run = await session.execute_distributed(layers(8, 5, slow_total))

        assert results_of(run, 8, 5) == expected(8, 5)
        assert set(run.allocations.values()) == set(NAMES)
        del run
    await until_idle(cluster)


@pytest.mark.parametrize("code", [total, slow_total])
async def test_a_broken_link_is_made_again_and_the_run_goes_on(
    cluster: MemoryCluster, code: Callable[..., Any]
) -> None:
    broken: list[int] = []
    async with cluster.session() as session:
        run = await run_and_disturb(
            session,
            layers(8, 6, code),
            lambda: broken.append(cluster.ether.break_links("app", "n1")),
            after=10,
        )

        assert broken == [1]
        assert results_of(run, 8, 6) == expected(8, 6)
        assert sorted(await session.discover_nodes()) == ["n1", "n2"]
        del run
    await until_idle(cluster)


async def test_links_that_break_again_and_again_change_no_result(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        turns = iter(NAMES * 3)

        def on_event(event: events.RunEvent) -> None:
            if (
                isinstance(event, events.Finished)
                and str(event.function_id).endswith("-0")
                and (name := next(turns, ""))
            ):
                cluster.ether.break_links("app", name)

        run = await session.execute_distributed(layers(8, 8, slow_total), on_event=on_event)

        assert next(turns, "") == ""
        assert results_of(run, 8, 8) == expected(8, 8)
        del run
    await until_idle(cluster)


async def test_what_was_meant_for_a_broken_link_is_not_sent_over_the_next_one(cluster: MemoryCluster) -> None:
    """The node has forgotten the run's templates with the broken link: it would reject functions without them."""
    dag = handoff.DAG("chain")
    for number in range(4):
        before = [number - 1] if number else []
        dag.add_function(handoff.Function(number, before, slow_total, extra_args=[1], node="n1"))

    def on_event(event: events.RunEvent) -> None:
        # The machine has decided by now to send the next function over that link.
        if isinstance(event, events.Finished) and event.function_id != 3:
            cluster.ether.break_links("app", "n1")

    async with cluster.session() as session:
        run = await session.execute_distributed(dag, on_event=on_event)

        assert run.results[3] == 4
        del run
    await until_idle(cluster)


async def test_what_a_network_holds_back_arrives_in_the_end(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        loop = asyncio.get_running_loop()

        def part() -> None:
            cluster.ether.part("app", "n1")
            loop.call_later(0.3, cluster.ether.join_again, "app", "n1")

        run = await run_and_disturb(session, layers(8, 6, slow_total), part, after=10)

        assert results_of(run, 8, 6) == expected(8, 6)
        del run
    await until_idle(cluster)


async def test_a_node_that_ends_takes_its_values_along_and_they_are_made_again(
    cluster: MemoryCluster,
) -> None:
    kills: list[asyncio.Task[None]] = []
    async with cluster.session() as session:

        def kill() -> None:
            kills.append(asyncio.ensure_future(cluster.kill("n1")))

        run = await run_and_disturb(session, layers(6, 6, large_total), kill, after=12)

        assert [result[0] for result in results_of(run, 6, 6)] == [value % 256 for value in expected(6, 6)]
        await asyncio.gather(*kills)
        del run
    await until_idle(cluster)


async def test_large_results_travel_between_nodes_whose_link_breaks(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        run = await run_and_disturb(
            session,
            layers(6, 5, large_total),
            lambda: (cluster.ether.break_links("n1", "n2"), cluster.ether.break_links("n2", "n1")),
            after=9,
        )

        assert [result[0] for result in results_of(run, 6, 5)] == [value % 256 for value in expected(6, 5)]
        del run
    await until_idle(cluster)


async def test_a_node_that_joins_in_the_middle_gets_work(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        running = asyncio.ensure_future(session.execute_distributed(layers(16, 10, slow_total)))
        await cluster.start_node("n3", [cluster.nodes["n1"].address], cpu=8)
        run = await running

        assert results_of(run, 16, 10) == expected(16, 10)
        assert "n3" in run.allocations.values()
        del run
    await until_idle(cluster)


async def test_the_next_life_of_a_node_takes_its_place(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        first = cluster.nodes["n1"].incarnation
        await cluster.kill("n1")
        again = await cluster.start_node("n1", [cluster.nodes["n2"].address], cpu=2)

        run = await session.execute_distributed(layers(8, 5, slow_total), nodes=["n1"])

        assert again.incarnation > first
        assert results_of(run, 8, 5) == expected(8, 5)
        del run
    await until_idle(cluster)


async def test_cancelling_frees_every_claim_on_every_node(cluster: MemoryCluster) -> None:
    async with cluster.session() as session:
        dag = handoff.new()
        for number in range(8):
            dag.call(asyncio.sleep, 600, id=number)
        running = asyncio.ensure_future(session.execute_distributed(dag))
        await until(lambda: not any(node.is_idle for node in cluster.nodes.values()))

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        cluster.check_that_nothing_is_left()


async def test_closing_the_session_ends_its_runs_on_the_nodes(cluster: MemoryCluster) -> None:
    session = cluster.session()
    await session.start()
    dag = handoff.new()
    dag.call(asyncio.sleep, 600, id="long")
    running = asyncio.ensure_future(session.execute_distributed(dag))
    await until(lambda: not all(node.is_idle for node in cluster.nodes.values()))

    await session.close()

    with pytest.raises(handoff.HandoffError, match="the session was closed"):
        await running
    await until_idle(cluster)


async def test_a_session_that_is_closed_has_left_and_is_not_lost(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "handoff_actors.actors.node")
    async with cluster.session() as session:
        await session.execute_distributed(layers(4, 3, large_total))
    leaving = cluster.session()
    await leaving.start()
    running = asyncio.ensure_future(leaving.execute_distributed(layers(4, 1, slow_total)))
    await until(lambda: not all(node.is_idle for node in cluster.nodes.values()))
    await leaving.close()
    await asyncio.gather(running, return_exceptions=True)
    await until_idle(cluster)

    # Each session has met both nodes.
    await until(lambda: [record.message for record in caplog.records].count("peer left") >= 4)
    assert "peer lost" not in caplog.messages


async def test_two_sessions_share_the_nodes_while_links_break(cluster: MemoryCluster) -> None:
    async with cluster.session("one") as one, cluster.session("other") as other:
        running = [
            asyncio.ensure_future(session.execute_distributed(layers(6, 6, slow_total)))
            for session in (one, other)
        ]
        await until(lambda: not any(node.is_idle for node in cluster.nodes.values()))
        cluster.ether.break_links("one", "n1")
        cluster.ether.break_links("other", "n2")
        runs = await asyncio.gather(*running)

        assert [results_of(run, 6, 6) for run in runs] == [expected(6, 6)] * 2
        del runs
    await until_idle(cluster)


# --- Bugs of ours ---------------------------------------------------------------------------------------------------


async def test_connections_that_meet_a_bug_are_all_made_anew(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = LinksMachine.handle
    raised: list[object] = []

    def faulty(self: LinksMachine, event: Any, now: float) -> Any:
        effects = handle(self, event, now)
        if isinstance(event, LinkWelcomed) and len(raised) < 1:
            raised.append(event)
            raise KeyError("a bug")
        return effects

    monkeypatch.setattr(LinksMachine, "handle", faulty)
    monkeypatch.setattr(connections, "RESTART_S", 0.05)
    with caplog.at_level(logging.CRITICAL):
        async with cluster.session() as session:
            run = await session.execute_distributed(layers(4, 4, total))

            assert results_of(run, 4, 4) == expected(4, 4)
            del run

    assert raised
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    await until_idle(cluster)


async def test_a_discovery_that_meets_a_bug_finds_the_members_again(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = MembershipMachine.handle
    raised: list[object] = []
    monkeypatch.setattr(discovery, "RESTART_S", 0.05)
    async with cluster.session() as session:
        machine = session._hub._member._discovery._machine  # type: ignore[union-attr]

        def faulty(self: MembershipMachine, event: Any, now: float) -> Any:
            effects = handle(self, event, now)
            if isinstance(event, AdvertReceived) and self is machine:
                raised.append(event)
                raise KeyError("a bug")
            return effects

        monkeypatch.setattr(MembershipMachine, "handle", faulty)
        with caplog.at_level(logging.CRITICAL):
            # Work makes nodes publish adverts.
            run = await session.execute_distributed(layers(8, 10, slow_total), allocation_timeout=10)

            assert results_of(run, 8, 10) == expected(8, 10)
            await until(lambda: [advert.name for advert in session._hub.adverts()] == ["n1", "n2"])
            del run

    assert len(raised) == 1
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    await until_idle(cluster)
