"""The jobs in which Slurm starts nodes: the options of sbatch, and the script."""

from collections.abc import Sequence
from hashlib import sha256
from math import ceil
from pathlib import Path
from re import compile as pattern
from shlex import join, quote
from typing import Final

from msgspec import Struct

from handoff_actors.core.cluster.autoscaler import JobId
from handoff_actors.errors import HandoffError

#: Options that `NodeJob` gives by itself, as a prefix of the long one, and the short one.
_OWN_OPTIONS: Final = {
    "--nodes": "-N",
    "--time": "-t",
    "--job-name": "-J",
    "--array": "-a",
    "--clusters": "-M",
    "--wrap": "",
    "--parsable": "",
    "--test-only": "",
    "--wait": "-W",
}
_NODE_NAME: Final = pattern(r"-job([0-9]+)$")


class NodeJob(Struct, frozen=True):
    """A job with one node."""

    #: The member that submits it.
    name: str
    #: The directory in which members find one another.
    directory: Path
    #: The interpreter that has handoff_actors, on compute nodes.
    python: str
    #: The limit of its time; None: the partition's.
    time_s: float | None
    idle_s: float
    drain_s: float
    #: Further options of `handoff node`, lines of the script before it, and the user's options of sbatch.
    node_options: Sequence[str] = ()
    setup: Sequence[str] = ()
    sbatch: Sequence[str] = ()

    @property
    def job_names(self) -> tuple[str, str]:
        """The names of jobs that end when they are idle, and of those that are kept: nobody else's jobs have them."""
        digest = sha256(bytes(self.directory)).hexdigest()[:8]
        return f"{self.name}-{digest}", f"{self.name}-{digest}-kept"

    @property
    def logs(self) -> Path:
        """The directory of the jobs' logs."""
        return self.directory / "logs"

    def options(self, *, is_kept: bool) -> list[str]:
        """The options of sbatch. The user's come after those that they may replace.

        No signal before the end: Slurm sends it up to a minute early, and the node knows when its job ends.
        """
        limit = [] if self.time_s is None else [f"--time={ceil(self.time_s / 60)}"]
        return [
            f"--output={self.logs}/%j.log",
            "--no-requeue",
            *limit,
            *self.sbatch,
            f"--job-name={self.job_names[is_kept]}",
            "--nodes=1",
        ]

    def script(self, *, is_kept: bool) -> str:
        """The script that starts a node, in the place of the shell: signals are for the node."""
        idle = [] if is_kept else ["--idle", f"{self.idle_s:g}"]
        options = [
            "--join-file",
            str(self.directory),
            "--drain",
            f"{self.drain_s:g}",
            *idle,
            *self.node_options,
        ]
        node = join([self.python, "-P", "-m", "handoff_actors.cli", "node", *options])
        name = '"$SLURMD_NODENAME-job$SLURM_JOB_ID"'
        return "\n".join(["#!/bin/sh", *self.setup, f"exec {node} --name {name}", ""])


def job_of(node: str) -> JobId | None:
    """The job of a node, by its name; None for a node of no job."""
    found = _NODE_NAME.search(node)
    return None if found is None else JobId(found[1])


def check_sbatch_options(options: Sequence[str]) -> None:
    """Raise HandoffError for an option that is not the user's to give."""
    for option in options:
        given = option.split("=", 1)[0]
        for long, short in _OWN_OPTIONS.items():
            is_short = short and option.startswith(short) and not option.startswith("--")
            if given == long or is_short:
                raise HandoffError(
                    f"sbatch can't be given {quote(option)}: each job is one node, whose {long} this command chooses. "
                    "See its own options, --nodes and --time among them"
                )
