"""Placement, and the way of values, where there are several nodes: daemons with two cores each."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.core.node.advertiser import least_gap_s
from tests.daemons import Daemon, Daemons
from tests.processes import functions
from tests.processes.app import most_at_once, node_of, single

pytestmark = pytest.mark.processes

LARGE = 1_000_000
NAMES = ["n1", "n2", "n3"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Daemon]]:
    """Each test leaves it as it has found it."""
    daemons = Daemons()
    members = [start(daemons, NAMES[0])]
    members += [start(daemons, name, "--join", members[0].address) for name in NAMES[1:]]
    yield members
    daemons.close()


def start(daemons: Daemons, name: str, *options: str) -> Daemon:
    """A node that can import what these tests have it run, and that checks itself."""
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    return daemons.start("--name", name, "--cpu", "2", "--memory", "1000", *options, variables=variables)


@pytest.fixture
async def session(cluster: list[Daemon]) -> AsyncIterator[handoff.Session]:
    async with handoff.Session(seeds=[cluster[1].address]) as session, asyncio.timeout(20):
        connections = session._hub._connections
        # The nodes may not have reported yet that the claims of other tests are free.
        while any(advert.spare != advert.capabilities for advert in connections.adverts()):
            await connections._next_change()
        yield session


def many(count: int, code: Any = functions.span, **options: Any) -> handoff.DAG:
    return handoff.DAG().add_functions(
        handoff.Function(number, [], code, **options) for number in range(count)
    )


def received_bytes(session: handoff.Session) -> int:
    return session.received_bytes()


async def test_every_member_is_known_by_the_address_of_any(session: handoff.Session) -> None:
    assert await session.discover_nodes() == {name: {"cpu": 2, "memory": 1000} for name in NAMES}


async def test_a_node_knows_how_many_hear_it(cluster: list[Daemon]) -> None:
    async with handoff.Session(seeds=[cluster[0].address]) as session:
        await session.register_local_node(
            {"cpu": 1}, name="app", listen="tcp://127.0.0.1:0", seeds=[cluster[0].address]
        )

        assert node_of(session)._machine._advertiser._least_gap_s == least_gap_s(len(NAMES))


async def test_functions_spread_evenly_and_no_node_runs_more_than_it_offers(session: handoff.Session) -> None:
    run = await session.execute_distributed(many(60, functions.long_span, cost={"cpu": 1}))

    shares = Counter(run.allocations.values())
    assert set(shares) == set(NAMES)
    assert min(shares.values()) >= 10
    for name in NAMES:
        assert (
            most_at_once(run.results[number] for number in run.results if run.allocations[number] == name)
            <= 2
        )


APP = textwrap.dedent("""
    import asyncio, sys

    import handoff_actors as handoff
    from tests.processes import functions

    async def main():
        dag = handoff.DAG().add_functions(
            handoff.Function(number, [], functions.span, cost={"cpu": 1}) for number in range(30)
        )
        async with handoff.Session(seeds=[sys.argv[1]]) as session:
            run = await session.execute_distributed(dag)
            for number, (began, ended) in run.results.items():
                print(run.allocations[number], began, ended)

    asyncio.run(main())
""")


def test_several_apps_at_once_never_make_a_node_run_more_than_it_offers(cluster: list[Daemon]) -> None:
    apps = [
        subprocess.Popen(
            [sys.executable, "-c", APP, member.address],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for member in cluster
    ]

    lines = [line.split() for app in apps for line in app.communicate(timeout=40)[0].splitlines()]

    assert [app.returncode for app in apps] == [0, 0, 0]
    assert len(lines) == 90
    for name in NAMES:
        spans = [(float(began), float(ended)) for node, began, ended in lines if node == name]
        assert spans
        assert most_at_once(spans) <= 2


async def test_pinned_functions_run_where_they_are_pinned(session: handoff.Session) -> None:
    dag = handoff.DAG().add_functions(handoff.Function(name, [], os.getpid, node=name) for name in NAMES)

    run = await session.execute_distributed(dag)

    assert run.allocations == {name: name for name in NAMES}


async def test_pin_to_an_unknown_name_lists_the_names_there_are(session: handoff.Session) -> None:
    with pytest.raises(handoff.AllocationError) as caught:
        await session.execute_distributed(single(os.getpid, node="n9"), allocation_timeout=0.2)

    assert all(name in str(caught.value) for name in ["'n9'", *NAMES])


async def test_only_the_nodes_that_are_named_are_used(session: handoff.Session) -> None:
    run = await session.execute_distributed(many(12, cost={"cpu": 1}), nodes=["n1", "n3"])

    assert set(run.allocations.values()) == {"n1", "n3"}


async def test_collocated_chains_stay_together(session: handoff.Session) -> None:
    dag = handoff.DAG()
    for chain in range(6):
        dag.add_function(handoff.Function((chain, 0), [], functions.span, cost={"cpu": 1}))
        for link in (1, 2):
            partner = handoff.collocated((chain, link - 1))
            dag.add_function(
                handoff.Function(
                    (chain, link), [(chain, link - 1)], functions.span, cost={"cpu": 1}, node=partner
                )
            )

    run = await session.execute_distributed(dag)

    for chain in range(6):
        assert len({run.allocations[chain, link] for link in range(3)}) == 1
    assert len(set(run.allocations.values())) > 1


async def test_collocated_group_goes_where_all_of_it_fits(session: handoff.Session) -> None:
    dag = handoff.DAG().add_function(handoff.Function("first", [], functions.span, cost={"memory": 600}))
    dag.add_function(
        handoff.Function("second", [], functions.span, cost={"memory": 300}, node=handoff.collocated("first"))
    )
    dag.add_function(handoff.Function("pinned", [], functions.span, node="n3", cost={"memory": 100}))
    dag.add_function(handoff.Function("third", [], functions.span, node=handoff.collocated("pinned")))

    run = await session.execute_distributed(dag)

    assert run.allocations["first"] == run.allocations["second"]
    assert run.allocations["third"] == "n3"


async def test_hooks_run_on_either_side_and_get_both_names(session: handoff.Session) -> None:
    argument = handoff.Argument("made", serialize=functions.with_place, deserialize=functions.with_place)
    dag = handoff.DAG().add_function(handoff.Function("made", [], lambda: 1, node="n1"))
    dag.add_function(handoff.Function("taken", [argument], lambda value: value, node="n2"))

    run = await session.execute_distributed(dag)

    assert run.results["taken"] == ((1, "n1", "n2"), "n1", "n2")


async def test_large_values_go_from_node_to_node_and_not_through_the_app(session: handoff.Session) -> None:
    dag = handoff.DAG().add_function(handoff.Function("made", [], bytes, extra_args=[20 * LARGE], node="n1"))
    dag.add_function(handoff.Function("length", ["made"], len, node="n2"))
    before = received_bytes(session)

    run = await session.execute_distributed(dag)

    assert run.results["length"] == 20 * LARGE
    assert received_bytes(session) - before < 64 * 1024
    assert run.report["length"].moved_nbytes >= 20 * LARGE
    assert run.report["made"].moved_nbytes == 0
    assert len(await run.fetch("made")) == 20 * LARGE
    assert received_bytes(session) - before > 20 * LARGE
    await run.release()


async def test_one_fetch_serves_all_consumers_on_a_node(session: handoff.Session) -> None:
    dag = handoff.DAG().add_function(handoff.Function("made", [], bytes, extra_args=[20 * LARGE], node="n1"))
    dag.add_functions(
        handoff.Function(number, ["made"], functions.mapped_files, node="n2") for number in range(8)
    )

    run = await session.execute_distributed(dag)

    # Another fetch would have made another file.
    assert len({tuple(run.results[number]) for number in range(8)}) == 1
    assert len(run.results[0]) == 1
    await run.release()


async def test_many_large_values_at_once_and_a_small_one_all_arrive(session: handoff.Session) -> None:
    dag = handoff.DAG()
    for number in range(8):
        nbytes = 20 * LARGE if number < 7 else LARGE
        dag.add_function(handoff.Function(number, [], bytes, extra_args=[nbytes], node="n1"))
        dag.add_function(handoff.Function(f"length {number}", [number], len, node="n2"))

    run = await session.execute_distributed(dag)

    assert [run.results[f"length {number}"] for number in range(8)] == [20 * LARGE] * 7 + [LARGE]
    await run.release()


async def test_large_constants_reach_every_node(session: handoff.Session) -> None:
    value = os.urandom(3 * LARGE)
    dag = handoff.DAG().add_functions(
        handoff.Function(name, [], lambda given: (len(given), given[:9]), extra_args=[value], node=name)
        for name in NAMES
    )

    run = await session.execute_distributed(dag)

    assert dict(run.results) == dict.fromkeys(NAMES, (len(value), value[:9]))


async def test_locality_goes_to_the_data(session: handoff.Session) -> None:
    dag = handoff.DAG().add_function(handoff.Function("made", [], bytes, extra_args=[LARGE], node="n2"))
    dag.add_functions(handoff.Function(number, ["made"], len) for number in range(2))

    run = await session.execute_distributed(dag, allocation_strategy="locality")

    assert {run.allocations[number] for number in range(2)} == {"n2"}


async def test_first_available_is_the_first_by_name(session: handoff.Session) -> None:
    run = await session.execute_distributed(many(2, cost={"cpu": 1}), allocation_strategy="first_available")

    assert set(run.allocations.values()) == {"n1"}


async def test_load_balanced_uses_all(session: handoff.Session) -> None:
    run = await session.execute_distributed(many(6, cost={"cpu": 1}), allocation_strategy="load_balanced")

    assert Counter(run.allocations.values()) == dict.fromkeys(NAMES, 2)


async def test_users_policy_decides(session: handoff.Session) -> None:
    class Last:
        def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
            return next((node for node in nodes if node.name == "n3"), None)

    run = await session.execute_distributed(many(12, cost={"cpu": 1}), allocation_strategy=Last())

    assert set(run.allocations.values()) == {"n3"}


async def test_node_of_the_apps_own_works_with_the_others(cluster: list[Daemon]) -> None:
    async with handoff.Session(seeds=[cluster[0].address], local_node={"cpu": 2}, name="app") as session:
        dag = handoff.DAG().add_function(handoff.Function("made", [], bytes, extra_args=[LARGE], node="app"))
        dag.add_function(handoff.Function("there", ["made"], lambda value: value + b"x", node="n1"))
        dag.add_function(handoff.Function("back", ["there"], len, node="app"))

        run = await session.execute_distributed(dag)

        assert run.results["back"] == LARGE + 1
        assert run.report["there"].moved_nbytes > LARGE


@pytest.fixture
def others() -> Iterator[Daemons]:
    """For nodes that come and go, which are no business of the other tests."""
    daemons = Daemons()
    yield daemons
    daemons.close()


async def test_node_that_joins_gets_work_of_a_run_that_goes_on(others: Daemons) -> None:
    first = start(others, "first")
    async with handoff.Session(seeds=[first.address]) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(many(300, cost={"cpu": 1})))
        await asyncio.to_thread(start, others, "late", "--join", first.address)

        run = await running

    assert set(run.allocations.values()) == {"first", "late"}


async def test_losing_a_node_costs_a_run_nothing_but_time(others: Daemons) -> None:
    survivor = start(others, "survivor")
    doomed = start(others, "doomed", "--join", survivor.address)
    is_at_work = asyncio.Event()

    def note(event: handoff.RunEvent) -> None:
        if event.kind == "completed" and event.node == "doomed":
            is_at_work.set()

    dag = many(200, cost={"cpu": 1}).add_function(handoff.Function("large", [], bytes, extra_args=[LARGE]))
    dag.add_function(handoff.Function("all", ["large", *range(200)], lambda large, *_: len(large)))
    async with handoff.Session(seeds=[survivor.address]) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, on_event=note))
        await is_at_work.wait()
        await asyncio.to_thread(doomed.kill)

        run = await running

    assert run.results["all"] == LARGE
