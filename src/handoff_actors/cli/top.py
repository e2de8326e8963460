"""`handoff top`: the current nodes and runs, again and again."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress

import click
import uvloop

from handoff_actors.actors.node.cluster_monitor import ClusterMonitor, MonitoredNode
from handoff_actors.cli.monitor.finding import find_cluster
from handoff_actors.cli.monitor.standing import fields, plain_picture, summary
from handoff_actors.cli.options.join import JoinOptions, join_options
from handoff_actors.cli.options.parameters import Seconds, credentials_options
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.json_values import to_json
from handoff_actors.cli.output.options import json_option
from handoff_actors.transport.credentials import Credentials


@click.command()
@join_options(required=True, seeds_help="Address of any member of the cluster.")
@credentials_options
@click.option(
    "--interval",
    "interval_s",
    type=Seconds(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates.",
)
@click.option("--once", is_flag=True, help="Print the state once and end.")
@json_option
def top(
    join: JoinOptions,
    credentials: Credentials,
    interval_s: float,
    once: bool,
    as_json: bool,
) -> None:
    """Watch a cluster: its nodes and runs, and their running and queued functions. q or Ctrl-C ends it.

    When piped, or with --json, each update is written below the one before.
    """
    with one_line_errors():
        uvloop.run(_watch(join, credentials, None if once else interval_s, as_json=as_json))


async def _watch(
    join: JoinOptions,
    credentials: Credentials,
    interval_s: float | None,
    *,
    as_json: bool,
) -> None:
    async with ClusterMonitor("handoff top", credentials) as monitor, AsyncExitStack() as closing:
        await find_cluster(monitor, join)
        ending = asyncio.Event()
        show = _written(as_json=as_json)
        if interval_s is not None and sys.stdout.isatty() and not as_json:
            # rich takes as long to import as a look takes.
            from handoff_actors.cli.monitor.screen import Screen  # noqa: PLC0415

            show = closing.enter_context(Screen(ending.set)).show
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ending.set)
        while not ending.is_set():
            show(await monitor.take())
            if interval_s is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await ending.wait()


def _written(*, as_json: bool) -> Callable[[Sequence[MonitoredNode]], None]:
    def show(members: Sequence[MonitoredNode]) -> None:
        if as_json:
            click.echo(to_json({"nodes": [fields(member) for member in members]}))
        else:
            click.echo(f"{summary(members)}\n\n{plain_picture(members)}\n")

    return show
