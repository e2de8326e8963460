"""Sessions on a real Ray cluster: several of its nodes on this machine, each with processes of its own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

import handoff_actors as handoff

ray = pytest.importorskip("ray", reason="Ray is not installed: it has no wheels for this Python")

from tests.integrations.engines.ray_machines import SETTINGS, RayMachine  # noqa: E402

pytestmark = pytest.mark.processes

WITHIN_S = 40.0
#: The resources of the head, in Ray's names.
OFFER = {"CPU": 2.0, "GPU": 2.0}
APP = """
import asyncio, sys
import handoff_actors as handoff

async def main():
    async with handoff.on_ray(cpu=1) as session:
        run = asyncio.create_task(session.execute_distributed(sleeping()))
        print("\\n".join(await session.discover_nodes()), flush=True)
        await run

def sleeping():
    dag = handoff.new()
    dag.call(__import__("time").sleep, 1000)
    return dag

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayMachine]:
    """A Ray cluster of one node with two cores and two GPUs, to which this process is connected."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="ray-", dir="/tmp") as directory:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        made = RayMachine(Path(directory), num_cpus=2, num_gpus=2)
        patch.setenv("RAY_ADDRESS", made.address)
        try:
            made.wait_until_started()
            ray.init()
            yield made
        finally:
            ray.shutdown()
            made.close()


@asynccontextmanager
async def another(head: RayMachine, **options: Any) -> AsyncIterator[RayMachine]:
    added = RayMachine(head.directory, head.address, **options)
    try:
        yield await asyncio.to_thread(added.wait_until_started)
    finally:
        await asyncio.to_thread(added.close)


@pytest.fixture(autouse=True)
async def nothing_left(head: RayMachine) -> AsyncIterator[None]:
    """No process of ours may be left afterwards, no claim, nor any value."""
    yield
    async with asyncio.timeout(WITHIN_S):
        while left := head.nodes():
            await asyncio.to_thread(psutil.wait_procs, left, 0.1)
        while not OFFER.items() <= ray.available_resources().items():  # noqa: ASYNC110 - Ray tells nobody
            await asyncio.sleep(0.05)
        # The zygote of a node that was killed outlives it until it has removed what the node leaves.
        while any(head.stores.iterdir()):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)


def facts() -> tuple[str | None, str | None, str | None]:
    return tuple(os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"))  # type: ignore[return-value]


def calls(count: int, **options: Any) -> handoff.DAG:
    dag = handoff.new()
    for number in range(count):
        dag.call(facts, id=number, **options)
    return dag


async def number_of_nodes(session: handoff.Session, number: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len(await session.discover_nodes()) != number:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)


async def test_nodes_offer_what_they_claim_of_ray_and_give_it_back(head: RayMachine) -> None:
    async with handoff.on_ray() as session:
        [offer] = (await session.discover_nodes()).values()
        run = await session.execute_distributed(calls(4, cost={"cpu": 1, "gpu": 1}), fetch="all")
        free = ray.available_resources()
        address = ray.get_runtime_context().gcs_address

    assert offer == {"cpu": 2, "gpu": 2, "memory": offer["memory"]}
    assert offer["memory"] > 100
    assert {(threads, device) for threads, device, _ in run.results.values()} <= {("1", "0"), ("1", "1")}
    assert {address for _, _, address in run.results.values()} == {address}
    assert (free.get("CPU", 0), free.get("GPU", 0)) == (0, 0)
    assert ray.is_initialized()


async def test_sessions_with_claims_of_their_own_share_a_ray_node_and_its_gpus(head: RayMachine) -> None:
    share = partial(handoff.on_ray, cpu=1, gpu=1, memory=200)
    async with share() as one, share() as other:
        offers = [*(await one.discover_nodes()).values(), *(await other.discover_nodes()).values()]
        runs = [
            await session.execute_distributed(calls(1, cost={"gpu": 1}), fetch="all")
            for session in (one, other)
        ]

    assert offers == 2 * [{"cpu": 1, "gpu": 1, "memory": 200}]
    assert {run.results[0][1] for run in runs} == {"0", "1"}


async def test_a_connection_that_is_made_for_the_block_ends_with_it(head: RayMachine) -> None:
    await asyncio.to_thread(ray.shutdown)
    try:
        async with handoff.on_ray(cpu=1) as one:
            async with handoff.on_ray(cpu=1):
                pass
            await one.execute_distributed(calls(1))

        assert not ray.is_initialized()
    finally:
        await asyncio.to_thread(ray.init)


async def test_a_busy_ray_node_is_an_error_that_says_so_or_is_used_once_it_is_free(head: RayMachine) -> None:
    busy = ray.remote(num_cpus=2)(BusyActor).remote()
    await busy.ready.remote()
    with pytest.raises(
        handoff.HandoffError, match=r"Ray has its resources: 0 CPU of 2 CPU are free, and 1 CPU are claimed"
    ):
        async with handoff.on_ray(start_timeout=2.0):
            pass
    asyncio.get_running_loop().call_later(0.5, ray.kill, busy)
    async with handoff.on_ray() as session:
        assert [offer["cpu"] for offer in (await session.discover_nodes()).values()] == [2]


class BusyActor:
    def ready(self) -> None:
        pass


async def test_a_ray_node_that_comes_later_is_used_and_may_go(head: RayMachine) -> None:
    async with handoff.on_ray() as session:
        async with another(head, num_cpus=1):
            await number_of_nodes(session, 2)
            await session.execute_distributed(calls(6))
        await number_of_nodes(session, 1)
        run = await session.execute_distributed(calls(2))

    assert len(run.allocations) == 2


async def test_a_node_that_is_killed_or_whose_actor_is_is_replaced(head: RayMachine) -> None:
    async with handoff.on_ray() as session:
        for is_actor in (False, True):
            known = (await session.discover_nodes()).keys()
            [node] = head.nodes()
            (psutil.Process(node.ppid()) if is_actor else node).kill()
            async with asyncio.timeout(WITHIN_S):
                while not (await session.discover_nodes()).keys() - known:  # noqa: ASYNC110 - nobody is told
                    await asyncio.sleep(0.05)
        run = await session.execute_distributed(calls(1))

    assert len(run.allocations) == 1


async def test_the_death_of_the_app_ends_its_nodes(head: RayMachine) -> None:
    app = await asyncio.create_subprocess_exec(sys.executable, "-c", APP, stdout=subprocess.PIPE)
    assert app.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        while not (await app.stdout.readline()).startswith(b"ray-"):
            pass
    assert head.nodes()

    app.send_signal(signal.SIGKILL)
    await app.wait()

    # The fixture sees to it that nothing is left.


async def test_cancelling_the_block_frees_all(head: RayMachine) -> None:
    is_entered = asyncio.Event()

    async def use() -> None:
        async with handoff.on_ray() as session:
            is_entered.set()
            await session.execute_distributed(sleeping())

    async with asyncio.TaskGroup() as tasks:
        used = tasks.create_task(use())
        await is_entered.wait()
        used.cancel()

    assert not head.nodes()


def sleeping() -> handoff.DAG:
    dag = handoff.new()
    dag.call(asyncio.sleep, 1000)
    return dag


async def test_a_worker_without_the_library_is_an_error_that_names_the_ray_node(
    head: RayMachine, tmp_path: Path
) -> None:
    bare = tmp_path / "handoff_actors"
    bare.mkdir()
    (bare / "__init__.py").write_text("raise ImportError('no module of that name')")

    with pytest.raises(handoff.HandoffError, match=r"Ray node \S+ \(\w{8}\) can't import handoff_actors"):
        async with handoff.on_ray(runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path)}}):
            pass


async def test_a_claim_that_no_ray_node_could_ever_meet_is_an_error(head: RayMachine) -> None:
    with pytest.raises(handoff.HandoffError, match="it has 2 CPU in all, and 64 CPU are claimed"):
        async with handoff.on_ray(cpu=64, start_timeout=0.5):
            pass


async def test_without_ray_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, head: RayMachine
) -> None:
    monkeypatch.delitem(sys.modules, "handoff_actors.integrations.engines.ray_engine", raising=False)
    monkeypatch.delitem(sys.modules, "handoff_actors.integrations.engines.ray_cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.exceptions", None)

    with pytest.raises(ImportError, match=r"on_ray needs Ray: pip install .*\[ray\]"):
        async with handoff.on_ray():
            pass
