"""handoff_actors, by its public API alone."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import handoff_actors as handoff
from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import Workload

ROOT = Path(__file__).parent.parent


class OurCluster:
    """The default session of this process."""

    def __init__(self) -> None:
        self._release_last_run: Callable[[], Awaitable[object]] | None = None

    async def prepare(self, workload: Workload) -> Execute:
        """Give back the last run's values first, as an app does when it is done with them."""
        if self._release_last_run is not None:
            await self._release_last_run()
        dag = handoff.DAG()
        for step in workload.steps:
            dag.add_function(handoff.Function(step.key, step.takes, step.code, cost={"cpu": 1}))

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
    address = f"tcp://127.0.0.1:{unused_port()}"
    node = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("handoff"),
        *("node", "--name", "daemon", "--listen", address),
        *("--cpu", str(WORKERS), "--workers", str(WORKERS)),
        # Its workers import the workloads.
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # Standard output carries the sample's figures.
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await handoff.connect([address])
        yield OurCluster()
    finally:
        await handoff.shutdown()
        node.terminate()
        await node.wait()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


CONTENDER = Contender(embedded, daemons)
