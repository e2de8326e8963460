"""Sessions on the workers of a real Dask cluster: `LocalCluster`, whose workers are processes with nannies."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

import handoff_actors as handoff
from handoff_actors.errors import HandoffError, VersionMismatch
from handoff_actors.integrations.engines.dask_worker import end_nodes

pytestmark = pytest.mark.processes

SIZE = 2
THREADS = {"threads_per_worker": 1, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers of one thread and one GPU each."""
    with LocalCluster(n_workers=SIZE, resources={"GPU": 1}, memory_limit="1GB", **THREADS) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(SIZE)
        yield client
        until(lambda: not rest_on(client))


def double(number: int) -> int:
    return 2 * number


def wait_for_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """False for a process that nobody has waited for yet, too."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def graph(size: int, **options: Any) -> handoff.DAG:
    dag = handoff.new()
    for number in range(size):
        dag.call(double, number, id=number, **options)
    return dag


def until(holds: Callable[[], bool], within_s: float = 15.0) -> None:
    limit = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def rest_on(client: Client) -> list[object]:
    """All that may be left of nodes on a cluster."""

    def rest(dask_scheduler: Any) -> list[object]:
        claimed = [ws.address for ws in dask_scheduler.workers.values() if any(ws.used_resources.values())]
        return [*dask_scheduler.tasks, *claimed]

    def orders() -> list[str]:
        from handoff_actors.integrations.engines import dask_worker  # noqa: PLC0415 - in the worker

        return list(dask_worker._lent)

    left: list[object] = client.run_on_scheduler(rest)
    workers = client.run(os.getpid).values()
    return [*left, *chain.from_iterable([*client.run(orders).values(), *map(children_of, workers)])]


async def test_each_worker_has_a_node_that_offers_what_the_worker_has_and_nothing_is_left(
    client: Client,
) -> None:
    async with handoff.on_dask(client) as session:
        nodes = await session.discover_nodes()
        run = await session.execute_distributed(graph(4, cost={"cpu": 1, "gpu": 1}), fetch="all")

    assert sorted(name.rpartition("-")[0] for name in nodes) == ["dask-0", "dask-1"]
    assert list(nodes.values()) == [{"cpu": 1.0, "memory": 1000.0, "gpu": 1.0}] * SIZE
    assert run.results[3] == 6
    assert await asyncio.to_thread(rest_on, client) == []


async def test_an_asynchronous_client_of_the_same_loop(cluster: LocalCluster, client: Client) -> None:
    async with (
        Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as own,
        handoff.on_dask(own, resources=(), cpu=3, memory=50, workers=[1]) as session,
    ):
        nodes = await session.discover_nodes()

    [[name, offer]] = nodes.items()
    assert name.startswith("dask-1-")
    assert offer == {"cpu": 3.0, "memory": 50.0}


async def test_an_asynchronous_client_of_a_loop_in_another_thread(cluster: LocalCluster) -> None:
    address = cluster.scheduler_address
    loop = asyncio.get_running_loop()

    async with Client(address, asynchronous=True, set_as_default=False) as theirs:

        async def use() -> int:
            assert asyncio.get_running_loop() is not loop
            async with handoff.on_dask(theirs) as session:
                return len(await session.discover_nodes())

        count = await asyncio.to_thread(asyncio.run, use())

    assert count == SIZE


async def test_dasks_own_tasks_run_in_the_block_although_workers_have_one_thread(client: Client) -> None:
    async with handoff.on_dask(client) as session:
        futures = client.map(double, range(20), pure=False)
        run = await session.execute_distributed(graph(2))

        assert await asyncio.to_thread(client.gather, futures) == [2 * number for number in range(20)]
        assert run.results[1] == 2
        del futures


async def test_two_sessions_at_once_share_workers_and_the_first_has_their_gpus(client: Client) -> None:
    async with handoff.on_dask(client) as first, handoff.on_dask(client) as second:
        offers = [await session.discover_nodes() for session in (first, second)]
        runs = [await session.execute_distributed(graph(2)) for session in (first, second)]

    assert [sum(offer.get("gpu", 0) for offer in nodes.values()) for nodes in offers] == [SIZE, 0]
    assert [len(nodes) for nodes in offers] == [SIZE, SIZE]
    assert [run.results[1] for run in runs] == [2, 2]


async def test_two_sessions_that_begin_at_the_same_moment_both_have_all_workers(client: Client) -> None:
    async def use() -> int:
        async with handoff.on_dask(client) as session:
            await session.execute_distributed(graph(2))
            return len(await session.discover_nodes())

    counts = await asyncio.gather(use(), use())

    assert list(counts) == [SIZE, SIZE]


async def test_an_error_in_the_block_is_raised_as_it_is_and_nothing_is_left(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        async with handoff.on_dask(client):
            _ = 1 // 0

    assert await asyncio.to_thread(rest_on, client) == []


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3, 0.6])
async def test_a_cancellation_at_any_moment_leaves_nothing(client: Client, after_s: float) -> None:
    async def use() -> None:
        async with handoff.on_dask(client) as session:
            dag = handoff.new()
            dag.call(time.sleep, 3600)
            await session.execute_distributed(dag)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s):
            await use()

    assert await asyncio.to_thread(rest_on, client) == []


async def test_nodes_that_are_ending_already_are_waited_for(client: Client) -> None:
    async def begin_to_end(dask_worker: Any) -> list[str]:
        from handoff_actors.integrations.engines import dask_worker as module  # noqa: PLC0415 - in the worker

        names = list(module._lent)
        ending = asyncio.create_task(module.end_nodes(names))
        await asyncio.sleep(0)
        ending.cancel()
        return names

    async with handoff.on_dask(client):
        orders = await asyncio.to_thread(client.run, begin_to_end)
        await asyncio.to_thread(client.run, end_nodes, [*chain.from_iterable(orders.values())])

        assert sorted(name.rpartition("-")[0] for name in chain.from_iterable(orders.values())) == [
            "dask-0",
            "dask-1",
        ]
        workers = await asyncio.to_thread(client.run, os.getpid)
        assert [*map(children_of, workers.values())] == [[]] * SIZE


async def test_a_worker_that_is_killed_takes_its_node_with_it_and_the_next_one_is_taken_on() -> None:
    async with (
        LocalCluster(n_workers=SIZE, asynchronous=True, **THREADS) as cluster,
        Client(cluster, asynchronous=True, set_as_default=False) as client,
        handoff.on_dask(client) as session,
    ):
        before = set(await session.discover_nodes())
        [victim, *_] = (await client.run(os.getpid)).values()
        nodes = children_of(victim)
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(40):
            while not set(await session.discover_nodes()) - before:
                # Now and then a LocalCluster forgets a worker that its nanny is about to restart.
                cluster.scale(SIZE)
                await asyncio.sleep(0.05)
        run = await session.execute_distributed(graph(4), fetch="all")

        assert run.results[3] == 6
        assert nodes
        assert not any(map(runs, nodes))


async def test_workers_that_are_busy_are_named_and_what_is_waited_for(client: Client, tmp_path: Path) -> None:
    go = tmp_path / "go"
    busy = client.map(wait_for_file, [str(go)] * SIZE, pure=False)
    await asyncio.to_thread(until, lambda: all(client.processing().values()))

    with pytest.raises(HandoffError, match=r"after 0.5 s: tcp://.* did not start one; their threads run"):
        async with handoff.on_dask(client, start_timeout=0.5):
            pass

    go.touch()
    await asyncio.to_thread(client.gather, busy)
    del busy


def test_nodes_end_soon_after_the_app_was_killed(client: Client, cluster: LocalCluster) -> None:
    command = [sys.executable, __file__, cluster.scheduler_address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        line = app.stdout.readline()
        app.kill()

    assert line == f"{SIZE} nodes\n"
    until(lambda: not rest_on(client))


async def test_workers_that_are_threads_of_this_process() -> None:
    async with (
        LocalCluster(n_workers=2, processes=False, asynchronous=True, **THREADS) as cluster,
        Client(cluster, asynchronous=True, set_as_default=False) as client,
        handoff.on_dask(client) as session,
    ):
        run = await session.execute_distributed(graph(4), fetch="all")

    assert run.results[3] == 6


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROTOCOL", 0, r"Dask worker 0 \(tcp://.*\) has handoff_actors .* \(protocol 0\).*workers=\[...\]"),
        ("PYTHON", "3.9", r"Dask worker 0 \(tcp://.*\) runs on Python 3.9, and this process on 3"),
    ],
)
async def test_a_worker_of_another_version_is_named(
    client: Client, name: str, value: object, said: str
) -> None:
    def change(name: str, value: object) -> object:
        from handoff_actors.integrations.engines import dask_worker  # noqa: PLC0415 - in the worker

        earlier: object = getattr(dask_worker, name)
        setattr(dask_worker, name, value)
        return earlier

    workers = client.scheduler_info()["workers"]
    [worker] = [address for address, facts in workers.items() if facts["name"] == 0]
    earlier = client.run(change, name, value, workers=[worker])[worker]
    try:
        with pytest.raises(VersionMismatch, match=said):
            async with handoff.on_dask(client):
                pass
        async with handoff.on_dask(client, workers=["1"]) as session:
            assert len(await session.discover_nodes()) == 1
    finally:
        client.run(change, name, earlier, workers=[worker])


async def test_a_worker_without_this_library_is_named_and_how_to_install_it(client: Client) -> None:
    module = "handoff_actors.integrations.engines.dask_worker"

    def hide(module: str) -> None:
        __import__(module)
        sys.modules[f"{module} as it was"] = sys.modules[module]
        sys.modules[module] = None  # type: ignore[assignment]

    def show(module: str) -> None:
        sys.modules[module] = sys.modules.pop(f"{module} as it was")

    client.run(hide, module)
    try:
        with pytest.raises(
            HandoffError, match=r"Dask worker . .* can't import this library.*pip install.*; Dask worker"
        ):
            async with handoff.on_dask(client):
                pass
    finally:
        client.run(show, module)


async def test_a_client_that_is_closed_in_the_block_takes_the_nodes_with_it(
    cluster: LocalCluster, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    own = await asyncio.to_thread(Client, cluster.scheduler_address, set_as_default=False)

    async with handoff.on_dask(own):
        await asyncio.to_thread(own.close)
        async with asyncio.timeout(10):
            while "no nodes are taken on any more" not in caplog.text:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.05)

    assert "the Dask client is clos" in caplog.records[-1].reason  # type: ignore[attr-defined]
    await asyncio.to_thread(until, lambda: not rest_on(client))
    with pytest.raises(HandoffError, match="client is closed"):
        async with handoff.on_dask(own):
            pass


async def test_only_a_client_of_dasks_that_is_connected_will_do(cluster: LocalCluster) -> None:
    with pytest.raises(TypeError, match=r"client='tcp://127.0.0.1:8786': it must be a distributed.Client"):
        async with handoff.on_dask("tcp://127.0.0.1:8786"):  # type: ignore[arg-type]
            pass
    client = Client(cluster.scheduler_address, asynchronous=True, set_as_default=False)
    with pytest.raises(HandoffError, match="not connected yet: await it"):
        async with handoff.on_dask(client):
            pass
    async with client:
        """One that never was connected could not be closed either."""


async def test_without_dask_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with pytest.raises(ImportError, match=r"on_dask needs Dask's distributed: pip install .*dask"):
        async with handoff.on_dask(object()):  # type: ignore[arg-type]
            pass


async def use_for_ever(address: str) -> None:
    async with (
        Client(address, asynchronous=True) as client,
        handoff.on_dask(client) as session,
    ):
        print(f"{len(await session.discover_nodes())} nodes", flush=True)
        dag = handoff.new()
        dag.call(time.sleep, 3600)
        await session.execute_distributed(dag, progress=False)


if __name__ == "__main__":
    asyncio.run(use_for_ever(sys.argv[1]))
