"""`handoff up`: start nodes on machines that can be reached over SSH."""

import asyncio
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from handoff_actors.addresses import MAX_PORT, split_advertised
from handoff_actors.cli.options.parameters import ADDRESS
from handoff_actors.cli.options.ssh import parallel_option, python_option, ssh_option
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.hosts import print_outcome
from handoff_actors.cli.output.json_values import to_json
from handoff_actors.cli.output.options import json_option
from handoff_actors.deploy.ssh.conversation import SshCommand
from handoff_actors.deploy.ssh.founding import MOST_SEEDS
from handoff_actors.deploy.ssh.hosts import read_hosts
from handoff_actors.deploy.ssh.outcomes import HostOutcome
from handoff_actors.deploy.ssh.record import UpRecord
from handoff_actors.deploy.ssh.up import Up, UpPlan
from handoff_actors.errors import InvalidAddressError
from handoff_actors.transport.keys import KEY_FILE_VARIABLE, KEY_VARIABLE, ClusterKey

#: The options of `handoff node` that `up` gives itself.
_OWN: Final = frozenset(
    {
        "--name",
        "--listen",
        "--advertise",
        "--join",
        "--key-file",
        "--also-accept",
        "--insecure",
        "--log-file",
        "--json",
    }
)
_NODE_OPTIONS: Final = f"{__name__}.node_options"


class UpCommand(click.Command):
    """A command whose words behind `--` are options of `handoff node`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_NODE_OPTIONS] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """See click.Command."""
        return [*super().collect_usage_pieces(ctx), "[-- NODE_OPTIONS...]"]


@click.command(cls=UpCommand)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@ssh_option
@python_option
@click.option(
    "--install",
    is_flag=True,
    help="Install this very handoff_actors on hosts that lack it, in a place of its own.",
)
@click.option(
    "--port",
    type=click.IntRange(0, MAX_PORT),
    default=7070,
    show_default=True,
    metavar="PORT",
    help="The nodes listen at this port, and at the one after it (0: any free ones).",
)
@click.option(
    "--advertise",
    metavar="HOST",
    default="",
    help="Name or address of a host for others to connect to; %h stands for the one that ssh connects to. "
    "[default: the host's own address at which ssh has reached it]",
)
@click.option(
    "--join",
    "seeds",
    type=ADDRESS,
    multiple=True,
    metavar="ADDRESS",
    help="Address of a member of a cluster that the nodes are to join. Repeatable.",
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the cluster key. [default: that of HANDOFF_KEY or HANDOFF_KEY_FILE, else a new one]",
)
@click.option("--no-check", is_flag=True, help="Don't check that this machine can connect to the nodes.")
@parallel_option
@json_option
@click.pass_context
def up(
    ctx: click.Context,
    hosts: tuple[str, ...],
    ssh_words: tuple[str, ...],
    python: str,
    *,
    install: bool,
    port: int,
    advertise: str,
    seeds: tuple[str, ...],
    key_file: Path | None,
    no_check: bool,
    parallel: int,
    as_json: bool,
) -> None:
    """Start a node on each HOST, as ssh knows it, and make one cluster of them.

    A HOST that is the path of a file stands for the hosts in it, one on each line. Hosts whose node is up are left alone.
    Options of `handoff node` follow behind `--`. The exit status is 1 if a host has failed; the others stay up. Stdout
    gets the lines that a shell needs for apps and commands: eval "$(handoff up HOST...)".
    """
    record = UpRecord()
    with one_line_errors():
        key, exports = _key(key_file, record)
        plan = UpPlan(
            hosts=read_hosts(hosts),
            key=key,
            ssh=SshCommand(ssh_words or ("ssh",), python),
            port=port,
            advertise=_checked_advertise(advertise),
            join=seeds,
            install=install,
            checks=not no_check,
            parallel=parallel,
            options=_node_options(ctx),
        )
        outcomes, members = _brought_up(plan, record)
    if as_json:
        click.echo(_json(outcomes, members, exports.get(KEY_FILE_VARIABLE)))
    elif any(outcome.node for outcome in outcomes):
        _print_exports({"HANDOFF_SEEDS": ",".join(members), **exports})
    if any(outcome.state == "failed" for outcome in outcomes):
        ctx.exit(1)


def _brought_up(plan: UpPlan, record: UpRecord) -> tuple[list[HostOutcome], tuple[str, ...]]:
    work = Up(plan, record, print_outcome)
    try:
        outcomes = asyncio.run(work.run())
    finally:
        record.drop_unused_key()
    return outcomes, tuple(work.members)[:MOST_SEEDS]


def _key(given: Path | None, record: UpRecord) -> tuple[ClusterKey, dict[str, str]]:
    """Return the cluster's key, and the variables that give it to apps, where those of this process don't."""
    if given is not None:
        return ClusterKey.from_file(given), {KEY_FILE_VARIABLE: str(given.absolute())}
    key = record.key(os.environ)
    if key is not None:
        return key, {}
    return record.made_key(), {KEY_FILE_VARIABLE: str(record.key_file)}


def _checked_advertise(text: str) -> str:
    if text:
        try:
            _, port = split_advertised(text.replace("%h", "host"))
        except InvalidAddressError as error:
            raise click.UsageError(f"--advertise: {error}") from error
        if port is not None:
            raise click.UsageError("--advertise: leave the port away, which --port gives")
    return text


def _node_options(ctx: click.Context) -> tuple[str, ...]:
    options: tuple[str, ...] = ctx.meta[_NODE_OPTIONS]
    taken = next((word for word in options if word.partition("=")[0] in _OWN), None)
    if taken is not None:
        raise click.UsageError(f"{taken} behind --: `handoff up` gives this option to the nodes itself")
    return options


def _print_exports(variables: dict[str, str]) -> None:
    if KEY_FILE_VARIABLE in variables and KEY_VARIABLE in os.environ:
        # It would count before the file.
        click.echo(f"unset {KEY_VARIABLE}")
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _json(outcomes: Sequence[HostOutcome], members: Sequence[str], key_file: str | None) -> str:
    hosts: list[dict[str, Any]] = [
        {"host": outcome.host, "state": outcome.state, "node": outcome.node, "note": outcome.note or None}
        for outcome in outcomes
    ]
    return to_json({"hosts": hosts, "seeds": members, "key_file": key_file}, indent=2)
