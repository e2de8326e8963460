"""`handoff run`: execute a DAG and print its results."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, get_args

import click
import uvloop

from handoff_actors.cli.options.join import JoinOptions, join_options
from handoff_actors.cli.options.parameters import (
    VARIABLE,
    Seconds,
    credentials_options,
)
from handoff_actors.cli.output.failures import TracedFailure, remote_traceback
from handoff_actors.cli.output.options import json_option
from handoff_actors.cli.output.outcome import Outcome
from handoff_actors.cli.output.progress import print_failures
from handoff_actors.cli.output.records import ON_STDERR, Records
from handoff_actors.cli.output.streams import reserve_stdout, result_stream, silence
from handoff_actors.cli.targets.command import TargetCommand, target_arguments
from handoff_actors.cli.targets.loading import load_dag
from handoff_actors.client.execute_options import ExecuteOptions
from handoff_actors.client.session import Session
from handoff_actors.core.run.options import OnFailure
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.errors import HandoffError
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId
from handoff_actors.report.report import Report
from handoff_actors.text import str_of
from handoff_actors.transport.credentials import Credentials

if TYPE_CHECKING:
    from handoff_actors.client.run import Run


@click.command(cls=TargetCommand)
@target_arguments
@join_options(seeds_help="Address of any member of the cluster to use. [default: a node within this process]")
@click.option("--max-retries", type=click.IntRange(min=0), default=3, show_default=True)
@click.option("--max-concurrency", type=click.IntRange(min=1), help="Most functions in flight at a time.")
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Time limit of the whole run.",
)
@click.option(
    "--on-failure",
    type=click.Choice(get_args(OnFailure)),
    default="stop",
    show_default=True,
    help="When a function fails for good, stop the run, or continue with all that does not depend on it.",
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
@click.option(
    "--env",
    "variables",
    type=VARIABLE,
    multiple=True,
    metavar="NAME=VALUE",
    help="Environment variable that functions run with. Repeatable.",
)
@click.option(
    "--working-dir",
    type=click.Path(),
    metavar="DIR",
    help="Directory that functions run in and import from: one on each node, or one here, which is sent along.",
)
@click.option(
    "--report",
    is_flag=False,
    flag_value=ON_STDERR,
    type=click.Path(),
    metavar="[FILE]",
    help="Report on each function: a table on stderr, a table in FILE.txt, or JSON in FILE.json.",
)
@click.option(
    "--trace", type=click.Path(), metavar="FILE", help="Write a trace of the run, to be opened in Perfetto."
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print results and errors only: no progress, and nothing that functions print.",
)
@credentials_options
@json_option
def run(
    target: str,
    arguments: tuple[str, ...],
    join: JoinOptions,
    max_retries: int,
    max_concurrency: int | None,
    timeout: float | None,
    on_failure: OnFailure,
    strategy: str,
    wanted: tuple[str, ...],
    journal: str | None,
    variables: tuple[tuple[str, str], ...],
    working_dir: str | None,
    report: str | None,
    trace: str | None,
    quiet: bool,
    credentials: Credentials,
    as_json: bool,
) -> None:
    """Run a DAG and print the results of its sinks.

    MODULE is a module, or the path of a .py file; DAG an object in it, or a function that returns one. The function gets
    the ARGUMENTS, each VALUE or NAME=VALUE. Progress goes to stderr, results to stdout. The exit status is 1 if the run
    fails, 130 if Ctrl-C has cancelled it.
    """
    options: ExecuteOptions = {
        "max_retries": max_retries,
        "max_concurrency": max_concurrency,
        "timeout": timeout,
        "on_failure": on_failure,
        "journal": journal,
        "env_vars": dict(variables),
        "working_dir": working_dir,
        "allocation_strategy": strategy,
        "on_event": None if quiet else print_failures,
        "progress": not quiet,
    }
    records = Records(report, trace).checked()
    if as_json:
        reserve_stdout()
    with _recorded_failures(records), silence() if quiet else nullcontext():
        dag = load_dag(target, arguments, for_cluster=bool(join))
        outcome, functions = _run(dag, _session(join, credentials), wanted, options)
    is_written = _are_written(records, outcome.dag_id, functions)
    _print_and_exit(outcome, as_json=as_json, is_quiet=quiet, is_written=is_written)


def _print_and_exit(outcome: Outcome, *, as_json: bool, is_quiet: bool, is_written: bool) -> None:
    if not is_quiet:
        click.echo(outcome.summary(), err=True)
    outcome.show_failures()
    if as_json or outcome.results:
        click.echo(outcome.json() if as_json else outcome.lines(), file=result_stream())
    click.get_current_context().exit(0 if is_written and not outcome.failures else 1)


def _session(join: JoinOptions, credentials: Credentials) -> Session:
    key, insecure = credentials.cluster_key, credentials.is_insecure
    return Session(join.seeds, key=key, insecure=insecure, join_wait=join.wait_s, join_file=join.file)


def _run(
    dag: DAG, session: Session, wanted: Collection[str], options: ExecuteOptions
) -> tuple[Outcome, Report]:
    shown = _shown(Plan.compile(dag), wanted)

    options = {**options, "fetch": shown}

    async def main() -> tuple[Outcome, Report]:
        async with session:
            ended = await session.execute_distributed(dag, **options)
            return Outcome.of(ended, shown), ended.report

    return uvloop.run(main())


def _shown(plan: Plan, wanted: Collection[str]) -> list[FunctionId]:
    """List the sinks, and the functions asked for, in the order of adding."""
    unknown = set(wanted) - {"all"} - set(map(str_of, plan.index_of))
    if unknown:
        raise click.BadParameter(
            f"the DAG has no function {min(unknown)!r} with a result", param_hint="--fetch"
        )
    sinks = set(plan.sinks)
    return [
        function_id
        for function_id, index in plan.index_of.items()
        if index in sinks or "all" in wanted or str_of(function_id) in wanted
    ]


@contextmanager
def _recorded_failures(records: Records) -> Iterator[None]:
    """Turn an error of the run into one of the command. The records tell how far the run got."""
    try:
        yield
    except HandoffError as error:
        failed: Run | None = getattr(error, "run", None)
        if failed is not None:
            _are_written(records, failed.dag_id, failed.report)
        raise TracedFailure(str(error), remote_traceback(error)) from error


def _are_written(records: Records, dag_id: FunctionId, report: Report) -> bool:
    """Write the records. An error in that is only shown: the outcome of the run matters more."""
    try:
        records.write(dag_id, report)
    except click.ClickException as error:
        error.show()
        return False
    return True
