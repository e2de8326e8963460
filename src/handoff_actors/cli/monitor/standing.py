"""The state of a cluster's nodes and runs, as rows for people and as fields for programs."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from handoff_actors.actors.node.cluster_monitor import MonitoredNode
from handoff_actors.cli.resources import amounts
from handoff_actors.display.function_progress import progress_text as progress_of
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Resources
from handoff_actors.report.table import count
from handoff_actors.wire.messages.members import Advert, RunProgress, ServedRun

Row = tuple[str, ...]
_MEGABYTE: Final = 1e6

NODE_COLUMNS: Row = (
    "name",
    "address",
    "capabilities",
    "spare",
    "running",
    "queued",
    "workers",
    "stored bytes",
    "runs",
)
RUN_COLUMNS: Row = ("run", "dag", "of", "nodes", "done", "running", "queued", "stored bytes")

STAGE_COLUMNS: Row = ("stage", "run", "nodes", "workers", "items", "queued")

FUNCTION_COLUMNS: Row = ("function", "run", "node", "done")


class RunStanding(Struct):
    """The state of one run, summed over all nodes."""

    owner: str
    dag_name: str = ""
    nodes: list[str] = field(default_factory=list)
    #: The furthest that some node has been told; None: none has yet.
    progress: RunProgress | None = None
    running: int = 0
    queued: int = 0
    stored: int = 0
    #: The functions among the running ones that wait for runs of their own.
    waiting: int = 0

    @property
    def running_text(self) -> str:
        """The number of functions that run, and of those that wait."""
        return f"{self.running}, {self.waiting} wait" if self.waiting else str(self.running)


def node_rows(members: Sequence[MonitoredNode]) -> list[Row]:
    """A row for each node, under NODE_COLUMNS."""
    return [_node_row(member) for member in members]


def run_rows(members: Sequence[MonitoredNode]) -> list[Row]:
    """A row for each run that some node serves, under RUN_COLUMNS."""
    return [
        (
            run,
            standing.dag_name,
            standing.owner,
            ", ".join(standing.nodes),
            progress_text(standing.progress),
            standing.running_text,
            str(standing.queued),
            str(standing.stored),
        )
        for run, standing in standings(members).items()
    ]


def function_rows(members: Sequence[MonitoredNode]) -> list[Row]:
    """A row for each function that runs and has reported its progress, under FUNCTION_COLUMNS."""
    return [
        (
            function.label or "?",
            served.dag_name or run_name(served),
            member.advert.name,
            progress_of(function.done, function.total),
        )
        for member in members
        for served in member.runs or ()
        for function in served.reporting
    ]


def stage_rows(members: Sequence[MonitoredNode]) -> list[Row]:
    """A row for each stage of the streams that some node serves, under STAGE_COLUMNS."""
    return [
        (
            stage.label,
            standing.dag_name or run,
            ", ".join(stage.nodes),
            str(stage.workers),
            f"{stage.items}{f', {stage.failed} failed' if stage.failed else ''}",
            str(stage.queued + stage.with_workers),
        )
        for run, standing in standings(members).items()
        if standing.progress is not None
        for stage in standing.progress.stages
    ]


def standings(members: Sequence[MonitoredNode]) -> dict[str, RunStanding]:
    """Sum up every run that some node serves, by its name."""
    found: dict[str, RunStanding] = {}
    for member in members:
        for served in member.runs or ():
            standing = found.setdefault(run_name(served), RunStanding(served.owner))
            standing.dag_name = standing.dag_name or served.dag_name
            standing.nodes.append(member.advert.name)
            standing.progress = _furthest(standing.progress, served.progress)
            standing.running += served.running
            standing.waiting += served.waiting
            standing.queued += served.queued
            standing.stored += served.stored
    return found


def summary(members: Sequence[MonitoredNode]) -> str:
    """Sum up the whole cluster in one line."""
    adverts = [member.advert for member in members]
    running, queued = (sum(getattr(advert, load) for advert in adverts) for load in ("running", "queued"))
    offered = _sum([advert.capabilities for advert in adverts])
    spare = _sum([advert.spare for advert in adverts])
    return (
        f"{count(len(members), 'node')}, {count(len(standings(members)), 'run')}, "
        f"{running} running, {queued} queued; spare {amounts(spare)} of {amounts(offered)}"
    )


def printable(row: Row) -> Row:
    """Escape a row for a terminal: names, owners and addresses are other people's text."""
    return tuple(map(escape_name, row))


def plain(columns: Row, rows: Sequence[Row]) -> str:
    """Format rows as columns of text."""
    lines = [columns, *map(printable, rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def plain_picture(members: Sequence[MonitoredNode]) -> str:
    """Format nodes, what is wrong with them, what workers keep, runs, and stages and functions with their progress, if any, as text."""
    runs, stages, functions = run_rows(members), stage_rows(members), function_rows(members)
    lines = [*complaints(members), *kept_objects(members)]
    pictures = [
        plain(NODE_COLUMNS, node_rows(members)),
        *(["\n".join(lines)] if lines else []),
        *([plain(RUN_COLUMNS, runs)] if runs else []),
        *([plain(STAGE_COLUMNS, stages)] if stages else []),
        *([plain(FUNCTION_COLUMNS, functions)] if functions else []),
    ]
    return "\n\n".join(pictures)


def complaints(members: Sequence[MonitoredNode]) -> list[str]:
    """Say in a line each why runs should not use a node, and which members one can't reach."""
    lines: list[str] = []
    for member in members:
        advert = member.advert
        if advert.out_of_use:
            trouble = "is out of use" if advert.workers else "starts no nodes"
            lines.append(f"{advert.name} {trouble}: {advert.out_of_use}")
        if advert.unreachable:
            lines.append(f"{advert.name} can't reach {', '.join(advert.unreachable)}")
        if member.is_suspect:
            lines.append(f"{advert.name} is suspect: nothing has been heard of it for a while")
    return list(map(escape_name, lines))


def kept_objects(members: Sequence[MonitoredNode]) -> list[str]:
    """Say in a line for each object of `per_worker` how many workers of which node keep it."""
    return [
        escape_name(
            f"{member.advert.name} keeps {kept.name} in {count(kept.copies, 'worker')},"
            f" {kept.nbytes / _MEGABYTE:.0f} MB"
        )
        for member in members
        for kept in member.advert.warm
    ]


def fields(member: MonitoredNode) -> dict[str, object]:
    """The fields of a node, for programs."""
    advert = member.advert
    return {
        "name": advert.name,
        "incarnation": advert.incarnation,
        "address": advert.address,
        "capabilities": advert.capabilities,
        "spare": advert.spare,
        "running": advert.running,
        "queued": advert.queued,
        "workers": advert.workers,
        "stored": advert.stored,
        "leaving": advert.leaving,
        "suspect": member.is_suspect,
        "out_of_use": advert.out_of_use or None,
        "ends_in_s": None if advert.ends_in_s is None else round(advert.ends_in_s, 1),
        "can_start": advert.can_start,
        "unreachable": advert.unreachable,
        "objects": [
            {"name": kept.name, "workers": kept.copies, "bytes": kept.nbytes} for kept in advert.warm
        ],
        "answers": member.runs is not None,
        "version": advert.version,
        "python": advert.python,
        "runs": None if member.runs is None else [_run_fields(served) for served in member.runs],
    }


def run_name(served: ServedRun) -> str:
    """The number of a run, as in the names of its values' files."""
    return f"{served.run:016x}"


def progress_text(progress: RunProgress | None) -> str:
    """The functions of a run that are done, as "412/1000, 3 retried"; "?" if that is not known yet. Of a stream: how many stages it has."""
    if progress is None:
        return "?"
    if progress.stages:
        return count(len(progress.stages), "stage")
    retried = f", {progress.retried} retried" if progress.retried else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    skipped = f", {progress.skipped} skipped" if progress.skipped else ""
    return f"{progress.done}/{progress.functions}{retried}{failed}{skipped}"


def node_name(member: MonitoredNode) -> str:
    """A node's name, marked if the node is leaving, out of use or suspect."""
    leaving = " (leaving)" if member.advert.leaving else ""
    out_of_use = " (out of use)" if member.advert.out_of_use else ""
    suspect = " (suspect)" if member.is_suspect else ""
    return f"{member.advert.name}{leaving}{out_of_use}{suspect}"


def offer_text(advert: Advert) -> str:
    """The resources of a node, or of those that it could have started."""
    if advert.can_start and not advert.workers:
        return f"starts nodes of {amounts(advert.can_start)}"
    return amounts(advert.capabilities)


def served_runs(member: MonitoredNode) -> str:
    """The number of runs that a node serves; "?" if it has not answered."""
    return "?" if member.runs is None else str(len(member.runs))


def _run_fields(served: ServedRun) -> dict[str, object]:
    return {
        "run": run_name(served),
        "dag": served.dag_name or None,
        "owner": served.owner,
        "progress": None if served.progress is None else _progress_fields(served.progress),
        "running": served.running,
        "waiting": served.waiting,
        "queued": served.queued,
        "stored": served.stored,
        "closing": served.closing,
        "reporting": [
            {"function": function.label or None, "done": function.done, "total": function.total}
            for function in served.reporting
        ],
    }


def _progress_fields(progress: RunProgress) -> dict[str, object]:
    return {
        "functions": progress.functions,
        "done": progress.done,
        "retried": progress.retried,
        "failed": progress.failed,
        "skipped": progress.skipped,
        "stages": [
            {
                "function": stage.label,
                "nodes": stage.nodes,
                "workers": stage.workers,
                "items": stage.items,
                "failed": stage.failed,
                "queued": stage.queued,
                "with_workers": stage.with_workers,
            }
            for stage in progress.stages
        ],
    }


def _furthest(one: RunProgress | None, other: RunProgress | None) -> RunProgress | None:
    """Choose the later of two, as the same client has told them to two nodes."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=_how_far)


def _how_far(progress: RunProgress) -> tuple[int, ...]:
    items = sum(stage.items for stage in progress.stages)
    return progress.done, progress.failed, progress.retried, items


def _node_row(member: MonitoredNode) -> Row:
    advert = member.advert
    return (
        node_name(member),
        advert.address,
        offer_text(advert),
        amounts(advert.spare),
        str(advert.running),
        str(advert.queued),
        str(advert.workers),
        str(advert.stored),
        served_runs(member),
    )


def _sum(all_resources: Sequence[Resources]) -> Resources:
    total: Resources = {}
    for resources in all_resources:
        for resource, amount in resources.items():
            total[resource] = total.get(resource, 0.0) + amount
    return total
