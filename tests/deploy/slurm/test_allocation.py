"""`handoff alloc slurm` with a real Slurm, from no node to a run and back to none."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.slurm import SlurmCluster, why_not

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not()), reason=why_not())]

HANDOFF = (sys.executable, "-m", "handoff_actors.cli")
#: So many functions that each need a whole machine, and take so long.
APP = """
import json, sys, time
import handoff_actors as handoff

def work(number, seconds):
    time.sleep(seconds)
    return number

dag = handoff.new()
for number in range(int(sys.argv[1])):
    dag.call(work, number, float(sys.argv[2]), cost={"cpu": 4})
run = handoff.run_sync(dag, allocation_timeout=1)
print(json.dumps(sorted(run.results.values())))
"""
FAST = ("--idle", "2s", "--poll", "0.5", "--cpu", "4")
#: All cores of a machine for each job.
WHOLE = ("--", "--cpus-per-task=4")


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
        self.closing = ExitStack()
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
        app = self.closing.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", APP, str(count), str(seconds)],
                env=self.cluster.variables(self.variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        # An app may wait for nodes that never come.
        self.closing.callback(app.kill)
        return app

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
        made.closing.close()
        if jobs := cluster.jobs():
            cluster.ask("scancel", *jobs)
            cluster.wait_until(lambda: not cluster.jobs())


def test_a_run_gets_as_many_nodes_as_it_fills_survives_a_cancelled_job_and_leaves_none(
    cluster: SlurmCluster,
) -> None:
    with allocation(cluster, "demand", "--nodes", "0..4", "--time", "10m", *FAST, *WHOLE) as made:
        assert (made.members(), cluster.jobs()) == (["alloc-slurm"], {})
        app = made.app(2, 1.5)
        made.until(lambda: made.said().count("job joined") == 2)
        first, _ = sorted(cluster.jobs())

        cluster.ask("scancel", first)

        out, err = app.communicate(timeout=40)
        assert json.loads(out or "[]") == [0, 1], f"{err}\n{made.said()}"
        made.until(lambda: not cluster.jobs())
        assert made.said().count("job submitted") == 2
        made.end()
        assert f"job ended soon after its node joined job='{first}'" in made.said()
        assert list(made.directory.glob("*.node")) == []


def test_jobs_of_an_earlier_life_are_found_again_and_ended_with_the_command(cluster: SlurmCluster) -> None:
    options = ("--nodes", "2", *FAST, *WHOLE, "--nodelist=n1")
    with allocation(cluster, "kept", *options) as made:
        made.until(lambda: "job joined" in made.said())
        made.process.kill()
        made.process.wait()
        jobs = cluster.jobs()
        assert sorted(jobs.values()) == ["PENDING", "RUNNING"]

        made.start()

        made.until(lambda: made.said().count("job found") == 2)
        made.until(lambda: made.said().count("job joined") == 2)
        assert cluster.jobs() == jobs
        made.end()
        made.until(lambda: not cluster.jobs())


def test_job_without_a_node_is_said_with_the_end_of_its_log(cluster: SlurmCluster) -> None:
    setup = ("--setup", "echo no such module >&2; exit 3")
    with allocation(cluster, "broken", "--nodes", "1", *setup, *FAST) as made:
        made.until(lambda: "job ended before its node joined" in made.said())

        assert "state='FAILED (NonZeroExitCode)'" in made.said()
        assert "said='no such module'" in made.said()


def test_what_sbatch_would_refuse_is_the_error_of_the_command(cluster: SlurmCluster) -> None:
    directory = cluster.directory / "none"

    refused = cluster.run(*HANDOFF, "alloc", "slurm", "--join-file", str(directory), "--", "-p", "nowhere")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Error: sbatch: invalid partition specified: nowhere; allocation failure: Invalid partition name specified\n"
    )
    assert not directory.exists()
