"""Running allocations, and an app that fills their nodes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.slurm import SlurmCluster

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

    def until(self, condition: Callable[[], object]) -> None:
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
