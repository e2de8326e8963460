"""`handoff demo`: a small DAG on a node within this process, and where each function ran."""

import click
import uvloop

from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.options import json_option
from handoff_actors.cli.output.outcome import Outcome
from handoff_actors.cli.output.streams import reserve_stdout, result_stream
from handoff_actors.client.run import Run
from handoff_actors.client.session import Session
from handoff_actors.graph.dag import DAG

TEXT = "the quick brown fox jumps over the lazy dog"


def words(text: str) -> list[str]:
    """Split a text into words."""
    return text.split()


def longest(found: list[str]) -> str:
    """The longest word, the first one of several."""
    return max(found, key=len)


def distinct(found: list[str]) -> int:
    """The number of different words."""
    return len(set(found))


def sentence(word: str, count: int) -> str:
    """A sentence with both results."""
    return f"{count} different words, the longest of them {word!r}"


def demo_dag() -> DAG:
    """Make the DAG: one function, two that take its result, and one that takes both of theirs."""
    dag = DAG("demo")
    found = dag.call(words, TEXT, id="words")
    word = dag.call(longest, found, id="longest", cost={"cpu": 1})
    count = dag.call(distinct, found, id="distinct", cost={"cpu": 1})
    dag.call(sentence, word, count, id="sentence")
    return dag


@click.command()
@json_option
def demo(as_json: bool) -> None:
    """Run a small DAG on this machine and show where each function ran."""
    dag = demo_dag()
    if as_json:
        reserve_stdout()
    else:
        click.echo(dag.to_mermaid())
    with one_line_errors():
        text = uvloop.run(_story(dag, as_json=as_json))
    click.echo(text, file=result_stream())


async def _story(dag: DAG, *, as_json: bool) -> str:
    async with Session(seeds=(), local_node={"cpu": 2}, name="here") as session:
        run = await session.execute_distributed(dag)
        return Outcome.of(run, ["sentence"]).json() if as_json else _described(run)


def _described(run: Run) -> str:
    lines = [
        f"{entry.function_id} ran on node {entry.node}, in process {entry.worker}, "
        f"from {entry.started_at * 1000:.1f} to {entry.finished_at * 1000:.1f} ms"
        for entry in run.report.values()
    ]
    return "\n".join([*lines, f"result: {run.results['sentence']}"])
