"""Nodes in jobs of a real Slurm: what they offer, what they are called, how they find one another, and how they end."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import COMMAND
from tests.slurm import Machine, SlurmCluster, why_not

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not()), reason=why_not())]

HANDOFF = (sys.executable, "-P", "-m", COMMAND)
#: Starts before any node, waits for so many, runs functions of so many seconds, and prints where these were.
APP = """
import asyncio, sys, time
import handoff_actors as handoff

def function(seconds):
    time.sleep(seconds)

async def main(nodes, functions, seconds):
    async with handoff.Session() as session:
        while len(await session.discover_nodes()) < nodes:
            await asyncio.sleep(0.05)
        dag = handoff.new()
        for number in range(functions):
            dag.call(function, seconds)
        print("begins", flush=True)
        run = await session.execute_distributed(dag)
        print(",".join(sorted(set(run.allocations.values()))), flush=True)

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
"""


@pytest.fixture
def slurm() -> Iterator[SlurmCluster]:
    """Two machines with four cores, 4,000 MB and two GPUs each, where the directory of members is yet to be made."""
    with SlurmCluster([Machine("n1", gpus=2), Machine("n2", gpus=2)], ["JobRequeue=1"]) as cluster:
        yield cluster


def join(slurm: SlurmCluster) -> Path:
    return slurm.directory / "shared" / "join"


def variables(slurm: SlurmCluster) -> dict[str, str]:
    return {"HANDOFF_JOIN_FILE": str(join(slurm)), "HANDOFF_JOIN_WAIT": "30"}


def members(slurm: SlurmCluster) -> dict[str, dict[str, Any]]:
    listed = slurm.ask(*HANDOFF, "nodes", "--json", variables=variables(slurm))
    return {member["name"]: member for member in json.loads(listed)}


def wait_for_members(slurm: SlurmCluster, count: int) -> dict[str, dict[str, Any]]:
    slurm.wait_until(lambda: len(list(join(slurm).glob("*.node"))) == count)
    slurm.wait_until(lambda: len(members(slurm)) == count)
    return members(slurm)


def test_srun_starts_nodes_that_an_app_on_the_login_node_finds(slurm: SlurmCluster) -> None:
    app = slurm.popen(sys.executable, "-c", APP, "3", "12", "0.1", variables=variables(slurm), log="app.out")
    job = slurm.popen("srun", "-N2", "-n3", "-c1", *HANDOFF, "node", variables=variables(slurm))
    assert app.wait(50) == 0, slurm.log()
    nodes = members(slurm)

    slurm.ask("scancel", "1")
    job.wait(20)

    assert {name.rpartition(".")[0] for name in nodes} == {"n1-1.0", "n2-1.0"}
    assert slurm.read("app.out") == f"begins\n{','.join(sorted(nodes))}\n"
    assert [node["capabilities"]["cpu"] for node in nodes.values()] == [1.0, 1.0, 1.0]
    assert list(join(slurm).glob("*.node")) == []


def test_tasks_of_one_machine_share_its_memory_and_its_gpus(slurm: SlurmCluster) -> None:
    slurm.popen(
        "srun", "-N1", "-n2", "-c1", "--mem=1000", "--gres=gpu:2", "--time=30", *HANDOFF, "node",
        variables=variables(slurm),
    )  # fmt: skip

    nodes = wait_for_members(slurm, 2)

    assert [node["capabilities"] for node in nodes.values()] == [
        {"cpu": 1.0, "gpu": 1.0, "memory": 524.0}
    ] * 2
    # The job's time limit, which srun has in no variable, less the time to drain.
    assert all(1700 < node["ends_in_s"] < 1800 - 25 for node in nodes.values())


def test_a_node_that_slurm_tells_to_end_finishes_its_functions(slurm: SlurmCluster) -> None:
    script = f"srun {' '.join(HANDOFF)} node"
    slurm.ask("sbatch", "-N1", "-c1", "--output=job.out", "--wrap", script, variables=variables(slurm))
    app = slurm.popen(sys.executable, "-c", APP, "1", "1", "2", variables=variables(slurm), log="app.out")
    slurm.wait_until(lambda: "begins" in slurm.read("app.out"))
    slurm.wait_until(lambda: next(iter(members(slurm).values()))["running"] == 1)

    # As at the end of its time, when Slurm sends SIGTERM twice; to every process of the job, the workers too.
    slurm.ask("scancel", "1")

    assert app.wait(20) == 0, slurm.log()
    assert ": Killed" not in slurm.read("job.out"), slurm.read("job.out")
    slurm.wait_until(lambda: not slurm.jobs())


def test_a_requeued_job_has_nodes_of_another_name(slurm: SlurmCluster) -> None:
    script = f"exec {' '.join(HANDOFF)} node --idle 100"
    slurm.ask("sbatch", "-N1", "--requeue", "--wrap", script, variables=variables(slurm))
    first = wait_for_members(slurm, 1)

    slurm.ask("scontrol", "requeue", "1")
    # Slurm has it wait for two minutes, from some time after it is pending.
    slurm.wait_until(lambda: "BeginTime" in slurm.ask("squeue", "--noheader", "--format=%r"))
    # slurmd refuses one that starts in the second in which its earlier life was ended.
    slurm.ask("scontrol", "update", "job=1", "starttime=now+2")
    # It keeps a file once it serves; the earlier node has removed its own.
    slurm.wait_until(lambda: slurm.jobs().get("1") == "RUNNING", within_s=40)
    [again] = wait_for_members(slurm, 1)

    assert first.keys().isdisjoint({again})
    assert again.startswith(("n1-1r1.", "n2-1r1."))


def test_an_idle_node_gives_its_machine_back(slurm: SlurmCluster) -> None:
    job = slurm.popen("srun", "-K", "-N2", *HANDOFF, "node", "--idle", "1s", variables=variables(slurm))

    # KillOnBadExit is for tasks that fail.
    assert job.wait(30) == 0
    slurm.wait_until(lambda: not slurm.jobs())
    assert slurm.read("srun.out").count("draining") == 2
