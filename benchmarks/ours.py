"""handoff_actors, by its public API alone."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import handoff_actors as handoff
from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import Workload

ROOT = Path(__file__).parent.parent


def dag_of(workload: Workload) -> handoff.DAG:
    """The workload in our terms: each function claims a core."""
    dag = handoff.DAG()
    for step in workload.steps:
        dag.add_function(
            handoff.Function(step.key, step.takes, step.code, cost={"cpu": 1}, timeout=workload.timeout_s)
        )
    return dag


class OurCluster:
    """The default session of this process."""

    def __init__(self) -> None:
        self._release_last_run: Callable[[], Awaitable[object]] | None = None

    async def prepare(self, workload: Workload) -> Execute:
        """Release the last run's values first, as an app does when it is done with them."""
        if self._release_last_run is not None:
            await self._release_last_run()
        dag = dag_of(workload)

        async def execute() -> Mapping[str, object]:
            run = await handoff.execute_distributed(dag)
            self._release_last_run = run.release
            return {key: run.results[key] for key in workload.expected}

        return execute


@asynccontextmanager
async def embedded() -> AsyncIterator[OurCluster]:
    await handoff.register_local_node({"cpu": WORKERS}, workers=WORKERS)
    try:
        yield OurCluster()
    finally:
        await handoff.shutdown()


@asynccontextmanager
async def daemons() -> AsyncIterator[OurCluster]:
    async with start_daemon("daemon") as address:
        await handoff.connect([address])
        try:
            yield OurCluster()
        finally:
            await handoff.shutdown()


@asynccontextmanager
async def start_daemon(name: str, *options: str, workers: int = WORKERS) -> AsyncIterator[str]:
    """Start a node in a process of its own; yields its address."""
    node = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("handoff"),
        *("node", "--name", name, "--listen", "tcp://127.0.0.1:0", "--json", "--log-level", "warning"),
        *("--cpu", str(workers), "--workers", str(workers), *options),
        # The node's workers import the workloads.
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield await served_address(node)
    finally:
        # A node that could not start has ended by itself.
        if node.returncode is None:
            node.terminate()
        await node.wait()


async def wait_for_nodes(session: handoff.Session, count: int) -> list[str]:
    """Wait until a session knows of so many nodes; return their names."""
    # No public call waits for this.
    while len(names := await session.discover_nodes()) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return list(names)


async def served_address(node: asyncio.subprocess.Process) -> str:
    """Return the address of a daemon, which it prints once it serves."""
    assert node.stdout is not None
    address: str = json.loads(await node.stdout.readline())["address"]
    return address


CONTENDER = Contender(embedded, daemons)
