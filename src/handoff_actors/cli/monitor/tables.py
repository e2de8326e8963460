"""Tables on a terminal."""

from collections.abc import Sequence

from rich import box
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from handoff_actors.actors.node.cluster_monitor import MonitoredNode
from handoff_actors.cli.monitor.standing import (
    FUNCTION_COLUMNS,
    NODE_COLUMNS,
    RUN_COLUMNS,
    STAGE_COLUMNS,
    Row,
    RunStanding,
    node_name,
    node_rows,
    offer_text,
    printable,
    progress_text,
    run_rows,
    served_runs,
)

#: Columns of text; the others are numbers.
_TEXTS = {
    "name",
    "address",
    "capabilities",
    "spare",
    "spare of offered",
    "run",
    "dag",
    "of",
    "nodes",
    "done",
    "function",
    "stage",
    "node",
}
_GIVE_WAY = {"spare of offered", "of", "nodes"}
_SPARED_WIDTH = 24


def node_table(members: Sequence[MonitoredNode]) -> Table:
    """Make the full table of nodes."""
    return _filled(Table(), NODE_COLUMNS, node_rows(members), is_cut=False)


def run_table(members: Sequence[MonitoredNode]) -> Table:
    """Make the full table of runs."""
    return _filled(Table(), RUN_COLUMNS, run_rows(members), is_cut=False)


def stage_table(rows: Sequence[Row]) -> Table:
    """Make the full table of stages of streams."""
    return _filled(Table(), STAGE_COLUMNS, rows, is_cut=False)


def live_node_table(members: Sequence[MonitoredNode]) -> Table:
    """Make a table of the nodes' changing state, a line for each node."""
    columns = ("name", "spare of offered", "running", "queued", "workers", "stored", "runs")
    return _filled(Table(box=box.SIMPLE), columns, [_live_row(member) for member in members], is_cut=True)


def live_run_table(runs: Sequence[tuple[str, RunStanding]]) -> Table:
    """Make a table of the runs' changing state, a line for each run; a run without a name has its number."""
    # A narrow terminal cuts off the last ones.
    columns = ("dag", "done", "running", "queued", "stored", "nodes", "of")
    rows = [
        (
            it.dag_name or run,
            progress_text(it.progress),
            it.running_text,
            str(it.queued),
            decimal(it.stored),
            ", ".join(it.nodes),
            it.owner,
        )
        for run, it in runs
    ]
    return _filled(Table(box=box.SIMPLE), columns, rows, is_cut=True)


def live_stage_table(rows: Sequence[Row]) -> Table:
    """Make a table of stages of streams, a line for each."""
    return _filled(Table(box=box.SIMPLE), STAGE_COLUMNS, rows, is_cut=True)


def live_function_table(rows: Sequence[Row]) -> Table:
    """Make a table of functions that report progress, a line for each."""
    return _filled(Table(box=box.SIMPLE), FUNCTION_COLUMNS, rows, is_cut=True)


def _live_row(member: MonitoredNode) -> Row:
    advert = member.advert
    shares = (
        f"{resource} {advert.spare.get(resource, 0.0):.12g}/{amount:.12g}"
        for resource, amount in advert.capabilities.items()
    )
    return (
        node_name(member),
        ", ".join(shares) or offer_text(advert),
        str(advert.running),
        str(advert.queued),
        str(advert.workers),
        decimal(advert.stored),
        served_runs(member),
    )


def _filled(table: Table, columns: Row, rows: Sequence[Row], *, is_cut: bool) -> Table:
    """Fill a table with rows. Text that is too wide is cut, or goes on in another line."""
    rows = list(map(printable, rows))
    for number, column in enumerate(columns):
        widest = max(len(row[number]) for row in [columns, *rows])
        table.add_column(
            column,
            # Columns that are long anyway give way first.
            min_width=min(_SPARED_WIDTH, widest) if is_cut and column not in _GIVE_WAY else None,
            max_width=_SPARED_WIDTH if is_cut and column == "dag" else None,
            justify="left" if column in _TEXTS else "right",
            overflow="ellipsis" if is_cut else "fold",
            no_wrap=is_cut,
        )
    for row in rows:
        # Names are other people's text: rich must not read markup into them.
        table.add_row(*map(escape, row))
    return table
