"""`handoff nodes`: the members of a cluster and their state."""

import sys
from collections.abc import Sequence

import click
import uvloop
from rich.console import Console

from handoff_actors.actors.node.cluster_monitor import ClusterMonitor, MonitoredNode
from handoff_actors.cli.monitor.finding import find_cluster
from handoff_actors.cli.monitor.standing import complaints, fields, kept_objects, plain_picture, stage_rows
from handoff_actors.cli.monitor.tables import node_table, run_table, stage_table
from handoff_actors.cli.options.join import JoinOptions, join_options
from handoff_actors.cli.options.parameters import credentials_options
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.json_values import to_json
from handoff_actors.cli.output.options import json_option
from handoff_actors.transport.credentials import Credentials


@click.command()
@join_options(required=True, seeds_help="Address of any member of the cluster.")
@credentials_options
@json_option
def nodes(join: JoinOptions, credentials: Credentials, as_json: bool) -> None:
    """Show every member of a cluster: its resources, those to spare, its functions, and the runs that it serves."""
    with one_line_errors():
        members = uvloop.run(_members(join, credentials))
    if as_json:
        click.echo(to_json([fields(member) for member in members], indent=2))
    elif sys.stdout.isatty():
        _print_tables(members)
    else:
        click.echo(plain_picture(members))


async def _members(join: JoinOptions, credentials: Credentials) -> list[MonitoredNode]:
    async with ClusterMonitor("handoff nodes", credentials) as monitor:
        await find_cluster(monitor, join)
        return await monitor.take()


def _print_tables(members: Sequence[MonitoredNode]) -> None:
    console = Console()
    console.print(node_table(members))
    for line in (*complaints(members), *kept_objects(members)):
        console.print(line, markup=False, highlight=False)
    if any(member.runs for member in members):
        console.print(run_table(members))
    stages = stage_rows(members)
    if stages:
        console.print(stage_table(stages))
