"""`handoff render`: the picture of a DAG, as text."""

import click

from handoff_actors.cli.loading import load_dag
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.render import draw
from handoff_actors.graph.svg import to_svg


@click.command()
@click.argument("target", metavar="MODULE:DAG")
@click.option(
    "--format", "language", type=click.Choice(["mermaid", "dot", "svg"]), default="mermaid", show_default=True
)
def render(target: str, language: str) -> None:
    """Print the picture of a DAG, valid or not. No function runs."""
    click.echo(_picture(load_dag(target, for_cluster=False), language).rstrip())


def _picture(dag: DAG, language: str) -> str:
    match language:
        case "dot":
            return dag.to_dot()
        case "svg":
            return to_svg(draw(dag.functions))
        case _:
            return dag.to_mermaid()
