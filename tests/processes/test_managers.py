"""Objects of a manager of multiprocessing, through which functions and their app speak while they run."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.managers import SyncManager
from typing import Any

import pytest

import handoff_actors as handoff

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def manager() -> Iterator[SyncManager]:
    # Spawned, as a fork of a process with threads is a warning.
    with SyncManager(ctx=multiprocessing.get_context("spawn")) as manager:
        yield manager


def report(queue: Any, number: int) -> int:
    queue.put(number)
    return number


def report_within(shared: Any, number: int) -> int:
    """Use a proxy that comes from another one, and one that a child of this process has inherited."""
    shared["queue"].put(number)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(report, (shared["queue"], number))
    return number


def reported(queue: Any) -> set[int]:
    return {queue.get(timeout=5) for _ in range(2)}


async def test_functions_and_app_share_a_queue(manager: SyncManager) -> None:
    queue = manager.Queue()
    async with handoff.LocalCluster(1) as cluster, cluster.session() as session:
        for code in (report, lambda _, number: report(queue, number)):
            dag = handoff.new()
            for number in (1, 2):
                dag.call(code, queue, number)
            await session.execute_distributed(dag, max_retries=0, progress=False)

            assert reported(queue) == {1, 2}


def test_proxies_from_proxies_and_children_of_workers_share_it(manager: SyncManager) -> None:
    shared, queue = manager.dict(), manager.Queue()
    shared["queue"] = queue

    with handoff.Executor(1) as executor:
        assert executor.submit(report_within, shared, 1).result(20) == 1

    assert [queue.get(timeout=5) for _ in range(2)] == [1, 1]
    assert queue.empty()


def test_queue_that_only_children_inherit_is_refused_with_the_way_to_do_it() -> None:
    dag = handoff.new()
    dag.call(report, multiprocessing.Queue(), 1, id="report")

    with pytest.raises(handoff.SerializationError, match=r"'report'.*Manager\(\)\.Queue\(\)"):
        handoff.run_sync(dag, progress=False)
