"""More large values than an app, a node or a function may have open files."""

import subprocess
import sys

import pytest

from tests.daemons import environment

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


def _printed(run: str, soft: int, hard: int) -> list[int]:
    script = SCRIPT.format(run=run, soft=soft, hard=hard)
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return list(map(int, ended.stdout.split()))
