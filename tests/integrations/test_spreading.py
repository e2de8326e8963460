"""Calls through the interfaces of other libraries keep all nodes of a cluster busy."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joblib import Parallel, delayed, parallel_config

import handoff_actors as handoff
from handoff_actors.integrations.background import BackgroundSession
from handoff_actors.integrations.dask import get
from handoff_actors.integrations.joblib import register
from tests.daemons import Daemons
from tests.integrations.functions import nap_and_name_the_zygote

pytestmark = pytest.mark.processes

NODES = 3
CALLS = 24
LEAST_SHARE = 0.25

Cost = Mapping[str, float] | None

with_and_without_cost = pytest.mark.parametrize("cost", [None, {"cpu": 1}], ids=["no cost", "1 cpu"])


@pytest.fixture(scope="module")
def session() -> Iterator[BackgroundSession]:
    """Yields a session with three nodes of one core and one worker, which have all run a call."""
    daemons = Daemons()
    variables = {"PYTHONPATH": os.pathsep.join(sys.path)}
    seeds: list[str] = []
    for number in range(1, NODES + 1):
        join = ("--join", seeds[0]) if seeds else ()
        options = ("--name", f"n{number}", "--cpu", "1", "--workers", "1")
        seeds.append(daemons.start(*options, *join, variables=variables).address)
    with BackgroundSession(seeds) as session:
        for number in range(1, NODES + 1):
            dag = handoff.DAG().add_function(
                handoff.Function(0, [], nap_and_name_the_zygote, node=f"n{number}")
            )
            session.execute(dag)
        yield session
    daemons.close()


def least_share(zygotes: list[int]) -> float:
    """Return the share of calls of the node that had the fewest; each node has one zygote."""
    assert len(zygotes) == CALLS
    shares = Counter(zygotes)
    return min(shares.values()) / CALLS if len(shares) == NODES else 0.0


@with_and_without_cost
def test_an_executor_that_is_submitted_calls(session: BackgroundSession, cost: Cost) -> None:
    with handoff.Executor(session=session, cost=cost) as executor:
        calls = [executor.submit(nap_and_name_the_zygote) for _ in range(CALLS)]

        assert least_share([call.result() for call in calls]) >= LEAST_SHARE


@with_and_without_cost
def test_an_executor_that_maps(session: BackgroundSession, cost: Cost) -> None:
    with handoff.Executor(session=session, cost=cost) as executor:
        zygotes = list(executor.map(nap_and_name_the_zygote, range(CALLS)))

    assert least_share(zygotes) >= LEAST_SHARE


@with_and_without_cost
def test_a_loop_of_joblib(session: BackgroundSession, cost: Cost) -> None:
    register()
    with parallel_config("handoff", session=session, cost=cost):
        # By itself joblib takes calls together that are as short as these.
        zygotes = Parallel(n_jobs=-1, batch_size=1)(delayed(nap_and_name_the_zygote)() for _ in range(CALLS))

    assert least_share(zygotes) >= LEAST_SHARE


@with_and_without_cost
def test_a_graph_of_dask(session: BackgroundSession, cost: Cost) -> None:
    graph: dict[Any, Any] = {("nap", number): (nap_and_name_the_zygote,) for number in range(CALLS)}

    assert least_share(list(get(graph, list(graph), session=session, cost=cost))) >= LEAST_SHARE


@with_and_without_cost
def test_many_graphs_of_dask_from_many_threads(session: BackgroundSession, cost: Cost) -> None:
    def zygote(_number: int) -> int:
        computed: int = get({"nap": (nap_and_name_the_zygote,)}, "nap", session=session, cost=cost)
        return computed

    with ThreadPoolExecutor(CALLS) as threads:
        zygotes = list(threads.map(zygote, range(CALLS)))

    assert least_share(zygotes) >= LEAST_SHARE
