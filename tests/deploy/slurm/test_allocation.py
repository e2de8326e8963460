"""`handoff alloc slurm` with a real Slurm, from no node to a run and back to none."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.slurm import SlurmCluster, why_not

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not()), reason=why_not())]

HANDOFF = (sys.executable, "-m", "handoff_actors.cli")
#: So many functions that each need a whole machine, and take so long.
APP = """
import json, os, sys, time
import handoff_actors as handoff

def work(number, seconds):
    time.sleep(seconds)
    return number, os.environ["SLURMD_NODENAME"]

dag = handoff.new()
for number in range(int(sys.argv[1])):
    dag.call(work, number, float(sys.argv[2]), cost={"cpu": 4})
run = handoff.run_sync(dag, allocation_timeout=1)
print(json.dumps(sorted(run.results.values())))
"""
FAST = ("--idle", "1s", "--poll", "0.5")


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """Two machines of four cores."""
    with SlurmCluster() as made:
        yield made


class Allocation:
    """A running `handoff alloc slurm`, with a join directory of its own."""

    def __init__(self, cluster: SlurmCluster, directory: Path, *options: str) -> None:
        self.cluster = cluster
        self.directory = directory
        self.variables = {"HANDOFF_JOIN_FILE": str(directory)}
        self.log = f"{directory.name}.log"
        self._options = options
        self.start()

    def start(self) -> None:
        said = len(self.said())
        self.process = self.cluster.popen(
            *HANDOFF, "alloc", "slurm", *self._options, variables=self.variables, log=self.log
        )
        self.until(lambda: "serves at" in self.said()[said:])

    def said(self) -> str:
        return self.cluster.read(self.log)

    def until(self, condition: object) -> None:
        assert callable(condition)
        try:
            self.cluster.wait_until(condition)
        except AssertionError as error:
            raise AssertionError(f"{self.said()}\n{error}") from error

    def app(self, count: int, seconds: float) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", APP, str(count), str(seconds)],
            env=self.cluster.variables(self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def members(self) -> list[str]:
        listed = self.cluster.ask(*HANDOFF, "nodes", "--json", variables=self.variables)
        return [member["name"] for member in json.loads(listed)]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.said()


@contextmanager
def allocation(cluster: SlurmCluster, name: str, *options: str) -> Iterator[Allocation]:
    directory = cluster.directory / name
    made = Allocation(cluster, directory, *options)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        if jobs := cluster.jobs():
            cluster.ask("scancel", *jobs)
            cluster.wait_until(lambda: not cluster.jobs())


def test_a_run_gets_as_many_nodes_as_it_fills_and_leaves_none(cluster: SlurmCluster) -> None:
    with allocation(cluster, "demand", "--nodes", "0..2", "--time", "10m", *FAST) as made:
        assert (made.members(), cluster.jobs()) == (["alloc-slurm"], {})

        out, err = made.app(4, 0.5).communicate(timeout=40)

        assert {place for _, place in json.loads(out)} == {"n1", "n2"}, err
        made.until(lambda: not cluster.jobs())
        assert made.said().count("job submitted") == 2
        assert "WARNING" not in made.said()
        made.end()
        assert list(made.directory.glob("*.node")) == []


def test_job_that_is_cancelled_loses_nothing_of_a_run(cluster: SlurmCluster) -> None:
    with allocation(cluster, "cancelled", "--nodes", "0..2", "--drain", "0", *FAST) as made:
        app = made.app(2, 3.0)
        made.until(lambda: made.said().count("job joined") == 2)
        first, *_ = cluster.jobs()

        cluster.ask("scancel", first)

        out, err = app.communicate(timeout=40)
        assert [number for number, _ in json.loads(out)] == [0, 1], err
        made.until(lambda: "job ended soon after its node joined" in made.said())


def test_kept_nodes_are_found_again_and_drained_at_the_end(cluster: SlurmCluster) -> None:
    with allocation(cluster, "kept", "--nodes", "1..2", *FAST) as made:
        made.until(lambda: "job joined" in made.said())
        made.process.kill()
        made.process.wait()
        (job,) = cluster.jobs()

        made.start()

        made.until(lambda: "job found" in made.said())
        made.until(lambda: re.search(f"job joined job='{job}'", made.said().split("job found")[1]))
        assert list(cluster.jobs()) == [job]
        made.end()
        made.until(lambda: not cluster.jobs())


def test_job_without_a_node_is_said_with_the_end_of_its_log(cluster: SlurmCluster) -> None:
    with allocation(
        cluster, "broken", "--nodes", "1", "--setup", "echo no such module >&2; exit 3", *FAST
    ) as made:
        made.until(lambda: "job ended before its node joined" in made.said())

        assert "state='FAILED (NonZeroExitCode)'" in made.said()
        assert "said='no such module'" in made.said()
        made.end()


def test_pending_jobs_are_cancelled_at_the_end_and_running_ones_left(cluster: SlurmCluster) -> None:
    with allocation(
        cluster, "pending", "--nodes", "0..2", *FAST, "--", "--nodelist=n1", "--exclusive"
    ) as made:
        app = made.app(2, 1.0)
        made.until(lambda: made.said().count("job submitted") == 2 and "job joined" in made.said())
        assert sorted(cluster.jobs().values()) == ["PENDING", "RUNNING"]

        made.end()

        assert list(cluster.jobs().values()) == ["RUNNING"]
        out, err = app.communicate(timeout=40)
        assert len(json.loads(out)) == 2, err
        made.until(lambda: not cluster.jobs())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["-p", "nowhere"],
            "invalid partition specified: nowhere; allocation failure: Invalid partition name specified",
        ),
        (["-c", "64"], "allocation failure: Requested node configuration is not available"),
    ],
)
def test_what_sbatch_would_refuse_is_the_error_of_the_command(
    cluster: SlurmCluster, options: list[str], said: str
) -> None:
    refused = cluster.run(
        *HANDOFF, "alloc", "slurm", "--join-file", str(cluster.directory / "none"), "--", *options
    )

    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"Error: sbatch: {said}\n")
    assert not (cluster.directory / "none").exists()
