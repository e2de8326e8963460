"""More large values than an app, a node or a function may have open files."""

import contextlib
import socket
import subprocess
import sys
import time

import psutil
import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons, environment
from tests.docs.quotes import check_quoted

pytestmark = pytest.mark.processes

SCRIPT = """
import resource
import handoff_actors as handoff

resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))

def make(number):
    import numpy as np
    return np.full(9000, number)

def total(values):
    return sum(int(value[-1]) for value in values)

def limits():
    return resource.getrlimit(resource.RLIMIT_NOFILE)

dag = handoff.new()
made = [dag.call(make, number, id=number) for number in range(400)]
dag.call(total, *made, id="total", argument_inclusion="as_list", max_retries=0)
dag.call(limits, id="limits")
run = {run}(dag, fetch="all", progress=False)
home = [run.results[number] for number in range(400)]
print(run.results["total"], sum(int(value[0]) for value in home), *run.results["limits"], *limits())
"""


@pytest.mark.parametrize(
    "run", ["handoff.run_sync", "cluster = handoff.LocalCluster(nodes=1).start()\nrun = cluster.run_sync"]
)
def test_values_take_no_descriptors(run: str) -> None:
    expected = sum(range(400))

    assert _printed(run, 200, 200) == [expected, expected, 200, 200, 200, 200]


def test_only_processes_of_our_own_raise_their_limit() -> None:
    expected = sum(range(400))

    assert _printed("handoff.run_sync", 200, 2000) == [expected, expected, 2000, 2000, 200, 2000]


def sized(nbytes: int) -> bytes:
    return bytes(nbytes)


async def test_a_node_whose_descriptors_are_taken_serves_those_that_it_knows(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", prefix=("prlimit", "--nofile=100:100"))
    process = psutil.Process(node.process.pid)
    async with handoff.Session([node.address]) as session:

        async def large_value() -> int:
            dag = handoff.new()
            dag.call(sized, 1_000_000, id="large")
            run = await session.execute_distributed(dag, fetch="all", progress=False)
            return len(run.results["large"])

        assert await large_value() == 1_000_000
        with contextlib.ExitStack() as idle:
            node.wait_until(lambda: connected_and_out_of_descriptors(node, idle))
            began = sum(process.cpu_times()[:2]), time.monotonic()
            for _ in range(5):
                assert await large_value() == 1_000_000
            spent = sum(process.cpu_times()[:2]) - began[0]
            assert spent < 0.5 + (time.monotonic() - began[1]) / 2

        # Those that hold nothing any more make room for who comes next.
        async with handoff.Session([node.address]) as another:
            assert list(await another.discover_nodes()) == ["n1"]
    assert node.log().count("out of descriptors") == 1
    check_quoted("troubleshooting.md", "ERROR out of descriptors", node.log())


def connected_and_out_of_descriptors(node: Daemon, idle: contextlib.ExitStack) -> bool:
    """Connect to a node once more, and say nothing; True if that was one connection too many."""
    host, port = node.address.removeprefix("tcp://").split(":")
    silent = idle.enter_context(socket.socket())
    silent.setblocking(False)
    silent.connect_ex((host, int(port)))
    return "out of descriptors: newcomers get no answer" in node.log()


def _printed(run: str, soft: int, hard: int) -> list[int]:
    script = SCRIPT.format(run=run, soft=soft, hard=hard)
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return list(map(int, ended.stdout.split()))
