"""The progress bar of a run."""

from contextlib import AbstractContextManager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from handoff_actors.cli.progress import Tally

WIDTH = 40


def shown_bar(tally: Tally) -> AbstractContextManager[object]:
    """Draw a tally on stderr ten times a second: an event costs nothing more than to be counted."""
    return Live(
        get_renderable=lambda: _bar(tally),
        console=Console(stderr=True),
        refresh_per_second=10,
        redirect_stdout=False,
    )


def _bar(tally: Tally) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=max(1, tally.total), completed=len(tally.done), width=WIDTH), str(tally))
    return row
