"""`handoff render`: the picture of a DAG, as text."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.json_values import json_keys, to_json
from handoff_actors.cli.output.options import json_option
from handoff_actors.cli.output.streams import reserve_stdout, result_stream
from handoff_actors.cli.targets.command import TargetCommand, target_arguments
from handoff_actors.cli.targets.loading import load_dag
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import producer_ids
from handoff_actors.graph.pictures.render import draw
from handoff_actors.graph.pictures.svg import to_svg
from handoff_actors.report.naming import code_name
from handoff_actors.text import str_of

_PICTURES: Final[Mapping[str, Callable[[DAG], str]]] = {
    "mermaid": DAG.to_mermaid,
    "dot": DAG.to_dot,
    "svg": lambda dag: to_svg(draw(dag.functions)),
}
_LANGUAGES: Final = {".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}
_STDOUT: Final = "-"


@click.command(cls=TargetCommand)
@target_arguments
@click.option(
    "--format",
    "language",
    type=click.Choice(list(_PICTURES)),
    help="Language of the picture. [default: that of the file's name, else mermaid]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    default=_STDOUT,
    help="Write the picture to this file: .mmd, .dot or .svg. [default: -, which is stdout]",
)
@json_option
def render(
    target: str, arguments: tuple[str, ...], language: str | None, output: str, *, as_json: bool
) -> None:
    """Print the picture of a DAG, valid or not. No function runs.

    MODULE:DAG and ARGUMENTS are as for `handoff run`. With --json, print the functions of the DAG in place of a picture.
    """
    if language is None and not as_json:
        language = _language_of(output)
    reserve_stdout()
    dag = load_dag(target, arguments, for_cluster=False)
    text = functions_json(dag) if language is None else _PICTURES[language](dag).rstrip()
    if output == _STDOUT:
        click.echo(text, file=result_stream())
        return
    with one_line_errors():
        Path(output).write_text(f"{text}\n", encoding="utf-8")


def functions_json(dag: DAG) -> str:
    """Describe the functions of a DAG as JSON."""
    keys = dict(zip(dag.functions, json_keys(dag.functions), strict=True))
    functions = [
        {
            "id": keys[function.id],
            "code": None if function.code is None else code_name(function.code),
            "type": function.type,
            "cost": function.cost,
            "inputs": [keys.get(id_, str_of(id_)) for id_ in dict.fromkeys(producer_ids(function))],
        }
        for function in dag.functions.values()
    ]
    return to_json({"dag": str_of(dag.id), "functions": functions}, indent=2)


def _language_of(output: str) -> str:
    if output == _STDOUT:
        return "mermaid"
    suffix = Path(output).suffix.lower()
    if suffix not in _LANGUAGES:
        raise click.BadParameter(
            f"{output!r} ends with none of {', '.join(_LANGUAGES)}; give the language with --format",
            param_hint="--output",
        )
    return _LANGUAGES[suffix]
