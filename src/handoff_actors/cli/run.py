"""`handoff run`: execute a DAG and print its results."""

import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import NoReturn

import click
import uvloop

from handoff_actors.cli.loading import load_dag
from handoff_actors.cli.outcome import Outcome, failure_json, remote_traceback
from handoff_actors.cli.parameters import credentials_options, join_option, json_option
from handoff_actors.cli.progress import print_failures
from handoff_actors.cli.streams import stdout_to_stderr
from handoff_actors.client.execute_options import ExecuteOptions
from handoff_actors.client.session import Session
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.errors import HandoffError
from handoff_actors.escaping import escape_text
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId
from handoff_actors.transport.credentials import Credentials

#: The exit status that shells report for a command that SIGINT has ended.
INTERRUPTED = 130


@click.command()
@click.argument("target", metavar="MODULE:DAG")
@join_option(help="Address of any member of the cluster to use. [default: a node within this process]")
@click.option("--max-retries", type=click.IntRange(min=0), default=3, show_default=True)
@click.option("--max-concurrency", type=click.IntRange(min=1), help="Most functions in flight at a time.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time limit of the whole run.",
)
@click.option("--strategy", type=click.Choice(list(POLICIES)), default="most_spare", show_default=True)
@click.option(
    "--fetch",
    "wanted",
    multiple=True,
    metavar="ID",
    help="Print the result of this function, too. Repeatable; 'all' prints all results.",
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Record finished functions in this file, and don't run those again that it already has.",
)
@credentials_options
@json_option
def run(
    target: str,
    seeds: tuple[str, ...],
    max_retries: int,
    max_concurrency: int | None,
    timeout: float | None,
    strategy: str,
    wanted: tuple[str, ...],
    journal: str | None,
    credentials: Credentials,
    as_json: bool,
) -> None:
    """Run a DAG and print the results of its sinks.

    MODULE is a module, or the path of a .py file; DAG an object in it, or a function that returns one. Progress goes
    to stderr, results to stdout. The exit status is 1 if the run fails, 130 if Ctrl-C has cancelled it.
    """
    options: ExecuteOptions = {
        "allocation_strategy": strategy,
        "max_retries": max_retries,
        "max_concurrency": max_concurrency,
        "timeout": timeout,
        "journal": journal,
    }
    try:
        with stdout_to_stderr() if as_json else nullcontext():
            outcome = _run(target, seeds, credentials, wanted, options)
    except HandoffError as error:
        _fail(error, as_json=as_json)
    except KeyboardInterrupt:
        click.echo("cancelled", err=True)
        sys.exit(INTERRUPTED)
    click.echo(outcome.summary(), err=True)
    click.echo(outcome.json() if as_json else outcome.lines())


def _run(
    target: str,
    seeds: Sequence[str],
    credentials: Credentials,
    wanted: Collection[str],
    options: ExecuteOptions,
) -> Outcome:
    dag = load_dag(target, for_cluster=bool(seeds))
    plan = Plan.compile(dag)
    shown = _shown(plan, wanted)

    async def main() -> Outcome:
        watched: ExecuteOptions = {**options, "fetch": shown, "on_event": print_failures, "progress": True}
        async with Session(seeds, key=credentials.cluster_key, insecure=credentials.is_insecure) as session:
            return Outcome.of(await session.execute_distributed(dag, **watched), shown)

    return uvloop.run(main())


def _shown(plan: Plan, wanted: Collection[str]) -> list[FunctionId]:
    """List the sinks, and the functions asked for, in the order of adding."""
    unknown = set(wanted) - {"all"} - set(map(str, plan.index_of))
    if unknown:
        raise click.BadParameter(
            f"the DAG has no function {min(unknown)!r} with a result", param_hint="--fetch"
        )
    sinks = set(plan.sinks)
    return [
        function_id
        for function_id, index in plan.index_of.items()
        if index in sinks or "all" in wanted or str(function_id) in wanted
    ]


def _fail(error: HandoffError, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(failure_json(error))
    click.echo(f"Error: {error}", err=True)
    traceback = remote_traceback(error)
    if traceback is not None:
        click.echo(escape_text(traceback), err=True)
    sys.exit(1)
