"""`handoff down`: end the nodes that `handoff up` has started."""

import asyncio

import click

from handoff_actors.cli.options.parameters import Seconds
from handoff_actors.cli.options.ssh import parallel_option, python_option, ssh_option
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.hosts import print_outcome
from handoff_actors.cli.output.json_values import to_json
from handoff_actors.cli.output.options import json_option
from handoff_actors.deploy.ssh.conversation import SshCommand
from handoff_actors.deploy.ssh.down import Down, DownPlan
from handoff_actors.deploy.ssh.hosts import read_hosts
from handoff_actors.deploy.ssh.record import UpRecord


@click.command()
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@ssh_option
@python_option
@click.option(
    "--drain",
    "drain_s",
    type=Seconds(min=0),
    default=35.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait this long for running functions before nodes are ended at once.",
)
@click.option("--forget", is_flag=True, help="Only forget the hosts: for machines that are gone for good.")
@parallel_option
@json_option
@click.pass_context
def down(
    ctx: click.Context,
    hosts: tuple[str, ...],
    ssh_words: tuple[str, ...],
    python: str,
    *,
    drain_s: float,
    forget: bool,
    parallel: int,
    as_json: bool,
) -> None:
    """End the nodes that `handoff up` has started on each HOST, and remove all that it has made there.

    Without a HOST: all those that your `handoff up` has started on any machine. The exit status is 1 if a host has failed;
    it stays recorded then.
    """
    record = UpRecord()
    with one_line_errors():
        named = read_hosts(hosts) or tuple(record.hosts())
        if forget:
            if not hosts:
                raise click.UsageError("name each HOST to forget")
            for host in named:
                record.remove(host)
            return
        plan = DownPlan(named, SshCommand(ssh_words, python), drain_s, parallel)
        outcomes = asyncio.run(Down(plan, record, print_outcome).run())
    if as_json:
        hosts_json = [
            {"host": outcome.host, "state": outcome.state, "note": outcome.note or None}
            for outcome in outcomes
        ]
        click.echo(to_json({"hosts": hosts_json}, indent=2))
    elif not named:
        click.echo("no host is up", err=True)
    if any(outcome.state == "failed" for outcome in outcomes):
        ctx.exit(1)
