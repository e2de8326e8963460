"""Tables on a terminal."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from handoff_actors.cli.standing import NODE_COLUMNS, RUN_COLUMNS, Row

#: Columns of text; the others are numbers.
_TEXTS = {"name", "address", "capabilities", "spare", "run", "of", "nodes"}


def node_table(rows: Sequence[Row], *, fold: bool = True) -> Table:
    """Nodes; with `fold` what is too wide goes on in another line, else it is cut."""
    return _table(NODE_COLUMNS, rows, fold=fold)


def run_table(rows: Sequence[Row], *, fold: bool = True) -> Table:
    """Runs, in the same way."""
    return _table(RUN_COLUMNS, rows, fold=fold)


def _table(columns: Row, rows: Sequence[Row], *, fold: bool) -> Table:
    table = Table()
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in _TEXTS else "right",
            overflow="fold" if fold else "ellipsis",
            no_wrap=not fold,
        )
    for row in rows:
        # Names are other people's text: rich must not read markup into them.
        table.add_row(*map(escape, row))
    return table
