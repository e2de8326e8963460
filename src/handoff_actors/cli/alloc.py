"""`handoff alloc`: have a batch system start nodes for functions that wait."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from re import compile as pattern
from typing import Any, Final

import click
import uvloop

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.cli.options.log import log_options
from handoff_actors.cli.options.parameters import (
    AMOUNT,
    DURATION,
    LISTEN_ADDRESS,
    NODE_NAME,
    Duration,
    Seconds,
)
from handoff_actors.cli.output.announcing import announce
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.resources import amounts
from handoff_actors.client.options import check_resources
from handoff_actors.core.cluster.autoscaler import Scale
from handoff_actors.deploy.slurm.allocation import AllocationOptions, allocate
from handoff_actors.deploy.slurm.jobs import NodeJob, check_sbatch_options
from handoff_actors.errors import HandoffError, InvalidKeyError
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Resources
from handoff_actors.process.first_signals import end_at_first_signal
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.user_key import state_home

_RANGE: Final = pattern(r"(?:(?P<least>[0-9]+)\.\.)?(?P<most>[0-9]+)")
#: Jobs that end so soon are of no use.
_SHORTEST_S: Final = 60.0


class TimeLimit(Duration):
    """A time span with a unit."""

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, str) and value.strip().isdecimal():
            # To Slurm it would be minutes, to others seconds.
            self.fail(f"{value!r} has no unit; say {value}m or {value}s", param, ctx)
        return super().convert(value, param, ctx)


class NodeRange(click.ParamType):  # type: ignore[type-arg]  # generic in late versions of click only
    """The least and the greatest number of nodes."""

    name = "range"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        found = _RANGE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is neither a number of nodes nor a range such as 0..8", param, ctx)
        most = int(found["most"])
        least = most if found["least"] is None else int(found["least"])
        if not 0 <= least <= most or most == 0:
            self.fail(f"{value!r} would never allow a node", param, ctx)
        return least, most


@click.group()
def alloc() -> None:
    """Have a batch system start nodes for functions that wait."""


@alloc.command()
@click.option(
    "--nodes",
    "limits",
    type=NodeRange(),
    default="0..1",
    show_default=True,
    metavar="MIN..MAX",
    help="Nodes to have: never fewer than MIN, which don't end when they are idle, nor more than MAX. One number: both.",
)
@click.option(
    "--join-file",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HANDOFF_JOIN_FILE",
    show_envvar=True,
    metavar="DIR",
    help="Directory that all machines share, in which members find one another, with the cluster's key and the jobs' logs. "
    "[default: ~/.local/state/handoff/slurm]",
)
@click.option(
    "--time",
    "time_s",
    type=TimeLimit(),
    metavar="TIME",
    help="Time limit of a job, such as 30m or 1h. A node drains before its end. [default: the partition's]",
)
@click.option(
    "--idle",
    "idle_s",
    type=DURATION,
    default="5m",
    show_default=True,
    metavar="TIME",
    help="End nodes that have served no run for this long, and cancel pending jobs that nobody has needed for this long.",
)
@click.option(
    "--cpu", type=float, metavar="CORES", help="Cores that a node offers. [default: those of its job]"
)
@click.option(
    "--memory", type=float, metavar="MB", help="Memory that a node offers. [default: that of its job]"
)
@click.option(
    "--resource",
    "others",
    type=AMOUNT,
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Another resource that a node offers. Repeatable.",
)
@click.option(
    "--drain",
    "drain_s",
    type=Seconds(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Before the end of its job, a node waits this long for running functions.",
)
@click.option(
    "--python",
    default=sys.executable,
    metavar="PATH",
    help="The Python on compute nodes that has handoff_actors. [default: the one that runs this command]",
)
@click.option(
    "--setup",
    multiple=True,
    metavar="COMMAND",
    help="Shell command that a job runs before the node, such as `module load gcc`. Repeatable.",
)
@click.option(
    "--name",
    type=NODE_NAME,
    default="alloc-slurm",
    show_default=True,
    help="Name of this member, and of its jobs. One that is started again under its name finds its jobs.",
)
@click.option(
    "--listen",
    type=LISTEN_ADDRESS,
    metavar="ADDRESS",
    help="Address of this member. [default: any port at all addresses]",
)
@click.option(
    "--poll",
    "polls_every_s",
    type=Seconds(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Ask squeue this often what has become of jobs.",
)
@click.option(
    "--cancel-running",
    is_flag=True,
    help="At the end, drain all nodes. [default: those that would end when they are idle are left until then]",
)
@log_options
@click.argument("sbatch", nargs=-1, type=click.UNPROCESSED)
def slurm(
    limits: tuple[int, int],
    directory: Path | None,
    time_s: float | None,
    idle_s: float,
    cpu: float | None,
    memory: float | None,
    others: tuple[tuple[str, float], ...],
    drain_s: float,
    python: str,
    setup: tuple[str, ...],
    name: str,
    listen: str | None,
    polls_every_s: float,
    cancel_running: bool,
    sbatch: tuple[str, ...],
) -> None:
    """Have Slurm start nodes for functions that wait: `handoff alloc slurm --nodes 0..8 --time 1h -- -p PARTITION`.

    Each job is one node. Options of sbatch come after `--`, among them those that say how large a node is, such as
    --cpus-per-task and --mem. Apps with the same --join-file wait for nodes, and tell what waits. On SIGTERM or SIGINT,
    pending jobs are cancelled.
    """
    offer = _offer(cpu, memory, others)
    drain_s = min(drain_s, time_s / 2) if time_s is not None else drain_s
    job = NodeJob(
        name,
        _shared(directory),
        python,
        time_s,
        idle_s,
        drain_s,
        _node_options(offer),
        setup,
        sbatch,
    )
    scale = Scale(*limits, idle_s, None if time_s is None else time_s - drain_s)
    options = AllocationOptions(job, scale, offer, polls_every_s, cancel_running, listen)
    _check(time_s, sbatch)
    with one_line_errors():
        end_at_first_signal()
        uvloop.run(
            allocate(options, _credentials(), lambda node, expected: _announced(node, expected, options))
        )


def _shared(directory: Path | None) -> Path:
    """The join directory, by default one of this user's own: homes are mostly shared."""
    if directory is not None:
        return directory.expanduser().absolute()
    with one_line_errors():
        return state_home() / "handoff" / "slurm"
    raise AssertionError


def _offer(cpu: float | None, memory: float | None, others: tuple[tuple[str, float], ...]) -> Resources:
    given = {"cpu": cpu, "memory": memory, **dict(others)}
    try:
        return check_resources({name: amount for name, amount in given.items() if amount is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _node_options(offer: Resources) -> tuple[str, ...]:
    usual = [f"--{name}={offer[name]:g}" for name in ("cpu", "memory") if name in offer]
    others = [
        f"--resource={name}={amount:g}" for name, amount in offer.items() if name not in {"cpu", "memory"}
    ]
    return (*usual, *others)


def _check(time_s: float | None, sbatch: tuple[str, ...]) -> None:
    if time_s is not None and time_s < _SHORTEST_S:
        raise click.UsageError("--time: Slurm counts in minutes; give it 1m at least")
    try:
        check_sbatch_options(sbatch)
    except HandoffError as error:
        raise click.UsageError(str(error)) from error


def _credentials() -> Credentials:
    try:
        # Jobs have the same environment.
        return Credentials.chosen()
    except InvalidKeyError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def _announced(node: NodeActor, expected: Resources, options: AllocationOptions) -> Iterator[None]:
    least, most = options.scale.least, options.scale.most
    nodes = f"{most} nodes" if least == most else f"{least} to {most} nodes"
    wait = announce(
        f"{escape_name(node.name)} serves at {node.address}: {nodes} of {amounts(expected)} each, "
        f"for apps with HANDOFF_JOIN_FILE={os.fspath(options.job.directory)}"
    )
    try:
        yield
    finally:
        wait()
