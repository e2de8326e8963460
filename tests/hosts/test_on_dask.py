"""A Dask cluster whose scheduler, workers and client are on hosts of their own, as commands start it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.hosts.network import Host

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(90)]

#: The scheduler's machine lacks this library.
SCHEDULER = """
import sys
sys.modules["handoff_actors"] = None
from distributed.cli.dask_scheduler import main
main()
"""
APP = """
import asyncio, json, os, sys
import handoff_actors as handoff
from distributed import Client

def network(number):
    return os.stat("/proc/self/ns/net").st_ino

def left(dask_scheduler):
    claimed = [amount for ws in dask_scheduler.workers.values() for amount in ws.used_resources.values()]
    return len(dask_scheduler.tasks) + sum(claimed)

async def main():
    async with Client(sys.argv[1], asynchronous=True) as client:
        await client.wait_for_workers(2, timeout=30)
        async with handoff.on_dask(client) as session:
            nodes = await session.discover_nodes()
            dag = handoff.new()
            for number in range(4):
                dag.call(network, number, id=number, cost={"cpu": 1, "gpu": 1})
            run = await session.execute_distributed(dag, fetch="all")
        hosts = set(run.results.values())
        return {
            "nodes": {name.rpartition("-")[0]: offer for name, offer in nodes.items()},
            "hosts": len(hosts - {network(0)}),
            "left": await client.run_on_scheduler(left),
        }

print(json.dumps(asyncio.run(main())))
"""


@pytest.fixture
def scheduler(hosts: list[Host], tmp_path: Path) -> Iterator[str]:
    """The address of the scheduler, for which two workers have been started."""
    one, *others, _ = hosts
    address = f"tcp://{one.address}:8786"
    serve = [sys.executable, "-c", SCHEDULER, "--host", one.address, "--port", "8786", "--no-dashboard"]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    offer = [
        "--resources",
        "GPU=1",
        "--memory-limit",
        "500MB",
        "--local-directory",
        str(tmp_path),
        "--no-nanny",
    ]
    workers = [
        (host, [*work, *offer, "--host", host.address, "--name", f"w{number}"])
        for number, host in enumerate(others)
    ]
    with ExitStack() as ending:
        processes = [
            ending.enter_context(subprocess.Popen([*host.prefix, *command], stderr=subprocess.DEVNULL))
            for host, command in [(one, serve), *workers]
        ]
        yield address
        # A worker that is told to end while its scheduler ends may not come to that.
        for process in reversed(processes):
            process.kill()


def test_nodes_are_reached_at_the_addresses_of_their_workers(hosts: list[Host], scheduler: str) -> None:
    seen = hosts[-1].run_script(APP, scheduler)

    offer = {"cpu": 1.0, "memory": 500.0, "gpu": 1.0}
    assert seen == {"nodes": {"dask-w0": offer, "dask-w1": offer}, "hosts": 2, "left": 0}
