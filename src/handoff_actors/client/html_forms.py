"""Sessions, clusters, runs and results as a notebook shows them: tables of bounded size, made of facts that are here."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from handoff_actors.escaping import escape_name
from handoff_actors.ids import FunctionId
from handoff_actors.report.html_table import paragraph, picked, table
from handoff_actors.report.table import nbytes, seconds
from handoff_actors.text import repr_of, str_of

if TYPE_CHECKING:
    from handoff_actors.actors.node.local_node import LocalNode
    from handoff_actors.client.standing import SessionStanding
    from handoff_actors.core.run.view import RunView
    from handoff_actors.report.report import Report


#: Gives the text of a result.
Shown = Callable[[FunctionId], str]


def results_table(view: "RunView", shown: Shown) -> str:
    """Make a table of results, with the node, the attempts, the time and the bytes of each."""
    ids, left_out = picked(list(view.plan.index_of))
    rows = [_result_row(view, function_id, shown(function_id)) for function_id in ids]
    return table(("function", "value", "node", "attempts", "ran", "bytes"), rows, left_out)


def run_form(view: "RunView", shown: Shown, report: "Report") -> str:
    """Make the form of a run: its sum, and its results."""
    summary = repr(report).strip("<>").removeprefix("Report: ")
    return paragraph(f"Run of DAG {repr_of(view.plan.dag_id)}: {summary}") + results_table(view, shown)


def _result_row(view: "RunView", function_id: FunctionId, value: str) -> Sequence[str]:
    index = view.plan.index_of[function_id]
    size = nbytes(view.result_nbytes(index)) if view.is_done(index) else ""
    ran, attempts = seconds(view.ran_s[index]), view.tries(index)
    return str_of(function_id), value, view.node[index] or "", str(attempts), ran, size


def failures_table(failures: Mapping[FunctionId, Exception]) -> str:
    """Make a table of functions that have failed."""
    ids, left_out = picked(list(failures))
    rows = [
        (str_of(function_id), type(failures[function_id]).__name__, str_of(failures[function_id]))
        for function_id in ids
    ]
    return table(("function", "error", "reason"), rows, left_out)


def session_form(standing: "SessionStanding | str") -> str:
    """Make the form of a session: its nodes, and its runs."""
    if isinstance(standing, str):
        return paragraph(f"Session: {standing}")
    parts = [paragraph(f"Session: {standing.text()}")]
    if standing.nodes:
        nodes, left_out = picked(standing.nodes)
        rows = [
            (
                advert.name,
                "this process" if advert.name == standing.own_node else advert.address,
                resources(advert.capabilities),
                resources(advert.spare),
                str(advert.running),
                str(advert.queued),
            )
            for advert in nodes
        ]
        parts.append(table(("node", "address", "offers", "spare", "running", "queued"), rows, left_out))
    if standing.runs:
        runs, left_out = picked(standing.runs)
        lines = [
            (
                str_of(runner.plan.dag_id),
                f"{runner.plan.size - runner.view.remaining:,} of {runner.plan.size:,}",
            )
            for runner in runs
        ]
        parts.append(table(("run", "done"), lines, left_out))
    return "".join(parts)


def cluster_form(summary: str, nodes: Sequence["LocalNode"]) -> str:
    """Make the form of a cluster on this machine: its nodes."""
    if not nodes:
        return paragraph(summary)
    shown, left_out = picked(nodes)
    rows = [
        (node.name, node.address, str(node.pid), "running" if node.is_running else "ended") for node in shown
    ]
    return paragraph(summary) + table(("node", "address", "process", "state"), rows, left_out)


def resources(amounts: Mapping[str, float]) -> str:
    """Write resources as people do: "cpu 4, memory 8000"."""
    return ", ".join(f"{escape_name(name)} {amount:.12g}" for name, amount in amounts.items())
