"""Functions that begin runs on the cluster that they run on, and wait: each ends with right values or with an error.

A function that waits lends its slot and its cpu. What needs its memory or its GPU, which it holds, ends with an error.
"""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.transport.keys import ClusterKey
from tests.processes import nested

pytestmark = pytest.mark.processes

CPU = {"cpu": 1.0}
#: More than half of what the node has.
MEMORY = {"memory": 600.0}
#: Far below what a test may take, and above what any of these runs should.
TIMEOUT_S = 10.0


@pytest.fixture(scope="module")
def cluster() -> Any:
    with handoff.LocalCluster(nodes=1, cpu=2, memory=1000, resources={"gpu": 1}) as cluster:
        yield cluster


@pytest.fixture
async def session(cluster: handoff.LocalCluster) -> AsyncIterator[handoff.Session]:
    """Each test leaves the cluster idle."""
    async with cluster.session() as session:
        yield session
        await until_spare(session, {"cpu": 2.0, "memory": 1000.0, "gpu": 1.0})


async def until_spare(session: handoff.Session, cost: dict[str, float], *, is_spare: bool = True) -> None:
    async with asyncio.timeout(5):
        while await session.resources_available("n1", cost) != is_spare:  # noqa: ASYNC110 - adverts tell no events
            await asyncio.sleep(0.01)


async def outcome(
    session: handoff.Session,
    function: Callable[..., Any],
    *args: Any,
    copies: int = 1,
    cost: dict[str, float] | None = None,
    env_vars: dict[str, str] | None = None,
    **kwargs: Any,
) -> list[Any]:
    dag = handoff.new()
    options: Any = {"cost": cost, "kwargs": kwargs, "env_vars": env_vars}
    calls = [dag.call(function, *args, id=f"p{number}", **options) for number in range(copies)]
    run = await session.execute_distributed(dag, progress=False, timeout=TIMEOUT_S)
    return [run.results[call.id] for call in calls]


async def deadlock(session: handoff.Session, *args: Any, **kwargs: Any) -> handoff.AllocationError:
    """The error of a nested run, as the app gets it."""
    with pytest.raises(handoff.FunctionFailed) as caught:
        await outcome(session, *args, **kwargs)
    error = caught.value
    assert (error.kind, error.attempts, error.node) == ("deadlock", 1, "n1")
    assert isinstance(error.__cause__, handoff.AllocationError)
    return error.__cause__


# --- What functions lend --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [nested.descend, nested.async_descend])
def test_runs_go_fifty_levels_deep_on_one_core(function: Callable[..., Any]) -> None:
    with handoff.LocalCluster(nodes=1, cpu=1, memory=4000) as cluster:
        dag = handoff.new()
        bottom = dag.call(function, 50, CPU, cost=CPU)

        assert cluster.run_sync(dag, progress=False, timeout=60).results[bottom.id] == 50


@pytest.mark.parametrize("parent", [nested.parent, nested.async_parent])
async def test_runs_whose_parents_claim_every_core_get_right_values(
    cluster: handoff.LocalCluster, session: handoff.Session, parent: Callable[..., Any]
) -> None:
    assert await outcome(session, parent, cluster.seeds, CPU, copies=4, cost=CPU) == [6] * 4
    assert await outcome(session, parent, cluster.seeds, {"cpu": 2.0}, cost={"cpu": 2.0}) == [6]


async def test_runs_whose_parents_have_every_worker_get_right_values() -> None:
    # Claims of other tests have led to more workers than the usual ones.
    async with handoff.LocalCluster(nodes=1, cpu=2) as cluster, cluster.session() as session:
        assert await outcome(session, nested.parent, cluster.seeds, copies=4) == [6] * 4


async def test_runs_for_which_no_further_worker_may_start_end_with_an_error() -> None:
    # A worker for a function in place of one that waits needs more memory than that.
    async with (
        handoff.LocalCluster(nodes=1, cpu=1, memory=20) as cluster,
        cluster.session() as session,
    ):
        error = await deadlock(session, nested.parent, cluster.seeds)

    assert "needs a worker" in str(error)
    assert "handoff.Subgraph" in str(error)


@pytest.mark.parametrize("parent", [nested.blocking_coroutine, nested.coroutine_with_an_executor])
async def test_coroutine_that_holds_up_its_event_loop_gets_the_values_of_coroutines(
    session: handoff.Session, parent: Callable[..., Any]
) -> None:
    assert await outcome(session, parent, CPU, copies=3, cost=CPU) == [6] * 3


async def test_calls_of_functions_lend_what_their_functions_claim(session: handoff.Session) -> None:
    both = {"cpu": 2.0}

    assert await outcome(session, nested.calling_coroutine, 5, both, cost=both) == [5]
    assert await outcome(session, nested.opening_parent, both, cost=both) == [3]
    # Functions share the session of their event loop, and each run for calls ends with its function.
    assert await outcome(session, nested.open_runs_of_the_session) == [0]


@pytest.mark.parametrize("function", [nested.mapping, nested.mapping_coroutine])
async def test_results_of_a_map_are_taken_in_any_task_of_a_function(
    session: handoff.Session, function: Callable[..., Any]
) -> None:
    assert await outcome(session, function, 20) == [210]
    assert await outcome(session, nested.open_runs_of_the_session) == [0]


async def test_the_end_of_a_function_leaves_the_session_of_its_event_loop_to_the_next(
    session: handoff.Session,
) -> None:
    # All in one worker, in which the session of the event loop has never been closed.
    assert [await session.call(nested.closings_of_the_session) for _ in range(5)] == [0] * 5


async def test_implicit_cluster_of_a_function_counts_as_an_explicit_one(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    seeds = {"HANDOFF_SEEDS": cluster.seeds[0]}

    assert await outcome(session, nested.blocking_parent, CPU, env_vars=seeds) == [6]
    assert await outcome(session, nested.blocking_parent, CPU, env_vars=seeds, copies=2, cost=CPU) == [6] * 2
    await deadlock(session, nested.blocking_parent, MEMORY, env_vars=seeds, cost=MEMORY)


# --- What they hold -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [nested.parent, nested.async_parent])
@pytest.mark.parametrize("cost", [{"gpu": 1.0}, MEMORY])
async def test_memory_and_devices_are_not_lent(
    cluster: handoff.LocalCluster,
    session: handoff.Session,
    parent: Callable[..., Any],
    cost: dict[str, float],
) -> None:
    error = await deadlock(session, parent, cluster.seeds, cost, cost=CPU | cost)

    assert error.function_id in {"leaf0", "leaf1", "leaf2"}
    assert error.held_by == {"n1": ["'p0'"]}
    assert error.need == cost
    assert "handoff.Subgraph" in str(error)
    assert pickle.loads(pickle.dumps(error)).held_by == error.held_by


async def test_run_that_names_no_cluster_has_no_second_claim_on_what_its_function_holds(
    session: handoff.Session,
) -> None:
    await deadlock(session, nested.blocking_parent, MEMORY, cost=MEMORY)


async def test_inner_run_that_is_pinned_to_the_node_of_its_ancestor_ends_with_an_error(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    await deadlock(session, nested.parent, cluster.seeds, MEMORY, node="n1", cost=MEMORY)
    await deadlock(session, nested.async_parent, cluster.seeds, MEMORY, nodes=["n1"], cost=MEMORY)


async def test_chain_of_three_levels_names_all_of_them(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await outcome(session, nested.grandparent, cluster.seeds, {"memory": 400.0}, cost={"memory": 400.0})

    assert (caught.value.function_id, caught.value.kind, caught.value.attempts) == ("p0", "deadlock", 1)
    child = caught.value.__cause__
    assert isinstance(child, handoff.FunctionFailed)
    assert (child.function_id, child.kind, child.attempts) == ("child", "deadlock", 1)
    assert "'child' (memory 400, a worker), function 'p0' (memory 400, a worker)" in str(child)


@pytest.mark.parametrize(
    ("parent", "cost"),
    [
        (nested.async_parent, None),
        (nested.async_parent, CPU),
        (nested.parent, CPU),
    ],
)
async def test_parents_that_leave_what_their_leaves_need_get_right_values(
    cluster: handoff.LocalCluster,
    session: handoff.Session,
    parent: Callable[..., Any],
    cost: dict[str, float] | None,
) -> None:
    assert await outcome(session, parent, cluster.seeds, cost, copies=4) == [6] * 4


async def test_one_parent_beside_a_free_worker_gets_right_values(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    assert await outcome(session, nested.parent, cluster.seeds, copies=1) == [6]
    assert await outcome(session, nested.threaded_parent, cluster.seeds, copies=1) == [6]


async def test_node_within_a_function_needs_nothing_of_the_cluster(session: handoff.Session) -> None:
    assert await outcome(session, nested.parent_with_a_node, CPU, copies=4, cost=CPU) == [6] * 4


async def test_ordinary_function_is_waited_for_longer_than_the_allocation_timeout(
    cluster: handoff.LocalCluster, session: handoff.Session, tmp_path: Path
) -> None:
    announcement = tmp_path / "runs"
    dag = handoff.new()
    dag.call(nested.hold, 1.2, announcement, id="ordinary", cost=CPU)
    dag.call(nested.parent_behind, cluster.seeds, CPU, announcement, id="parent", cost=CPU)

    run = await session.execute_distributed(dag, progress=False, timeout=TIMEOUT_S)

    assert run.results["parent"] == 6


async def test_inner_explain_says_who_holds_what_it_waits_for(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    (why,) = await outcome(session, nested.explaining_parent, cluster.seeds, CPU | MEMORY, cost=CPU | MEMORY)

    holder = "function 'p0' (memory 600, a worker)"
    assert why == f"lacks free memory, held until runs of their own have ended by {holder}"


async def test_function_may_go_on_without_its_inner_run(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    gone_on = await outcome(session, nested.careful_parent, cluster.seeds, MEMORY, cost=MEMORY)

    assert gone_on == ["leaf0 {'n1': [\"'p0'\"]}"]


async def test_cancelled_outer_run_leaves_no_inner_one(
    cluster: handoff.LocalCluster, session: handoff.Session
) -> None:
    dag = handoff.new()
    dag.call(
        nested.async_parent, cluster.seeds, MEMORY, id="p0", cost=MEMORY, kwargs={"allocation_timeout": 60}
    )
    running = asyncio.create_task(session.execute_distributed(dag, progress=False))
    await until_spare(session, {"memory": 1000.0}, is_spare=False)

    running.cancel()
    await asyncio.wait([running])

    assert await outcome(session, nested.parent, cluster.seeds, CPU, cost=CPU) == [6]


@pytest.mark.parametrize("parent", [nested.parent_of_long_ones, nested.async_parent_of_long_ones])
async def test_cancelled_function_ends_its_inner_runs_at_once(
    session: handoff.Session, tmp_path: Path, parent: Callable[..., Any]
) -> None:
    dag = handoff.new()
    dag.call(parent, 2, tmp_path / "runs", cost=CPU)
    running = asyncio.create_task(session.execute_distributed(dag, progress=False))
    async with asyncio.timeout(10):
        while not (tmp_path / "runs").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)

    running.cancel()
    await asyncio.wait([running])

    # Far below the lease of the inner run's session.
    async with asyncio.timeout(2):
        await until_spare(session, {"cpu": 2.0})


# --- Runs that name no cluster ----------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [nested.implicit_parent, nested.implicit_async_parent])
async def test_run_that_names_no_cluster_uses_that_of_its_function(
    session: handoff.Session, parent: Callable[..., Any]
) -> None:
    assert await outcome(session, parent) == [["n1"]]
    assert await outcome(session, nested.implicit_executor) == [6]


async def test_key_of_the_cluster_is_had_when_it_is_needed_and_stands_nowhere_before() -> None:
    key = ClusterKey.generate()
    async with handoff.LocalCluster(nodes=1, cpu=2, key=key) as cluster, cluster.session() as session:
        [secrets] = await outcome(session, nested.secrets_in_sight, key.text())

        assert await outcome(session, nested.implicit_parent) == [["n1"]]

    # It is the cluster that was given it in this variable.
    assert set(secrets) <= {"HANDOFF_KEY"}


async def test_runs_that_name_no_cluster_need_no_nodes_of_their_own(session: handoff.Session) -> None:
    assert await outcome(session, nested.implicit_parent, CPU, copies=4, cost=CPU) == [["n1"]] * 4
    assert await outcome(session, nested.implicit_executor, copies=4) == [6] * 4


async def test_local_run_of_a_function_has_a_node_in_its_worker(session: handoff.Session) -> None:
    [names] = await outcome(session, nested.local_parent)

    assert "n1" not in names


async def test_functions_of_an_app_use_its_own_node_which_no_other_member_learns_of() -> None:
    async with handoff.Session((), local_node={"cpu": 2}, name="ours") as session:
        assert await outcome(session, nested.implicit_parent) == [["ours"]]
        # Where others may join, a run waits for them.
        with pytest.raises(handoff.AllocationError):
            async with asyncio.timeout(5):
                await session.execute_distributed(nested.leaves(1, {"cpu": 3.0}), progress=False)
        async with handoff.LocalCluster(nodes=1) as cluster:
            await session.connect(cluster.seeds)
            async with cluster.session() as other:
                assert set(await other.discover_nodes()) == {"n1"}
            assert await outcome(session, nested.leaf, 1, copies=4) == [2] * 4


@pytest.mark.parametrize("depth", [0, 5])
def test_nodes_within_workers_are_counted(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_NESTING", str(depth))

    dag = handoff.new()
    counted = dag.call(nested.depth)

    assert handoff.run_sync(dag, progress=False).results[counted.id] == str(depth + 1)


async def test_node_that_is_nested_too_deeply_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_NESTING", "5")

    async with handoff.Session((), local_node={"cpu": 1}) as session:
        with pytest.raises(handoff.UnguardedStart, match=r"function 'p0' on node .* HANDOFF_NESTING=0"):
            await outcome(session, nested.parent_with_a_node, CPU)
