"""Tables of HTML for notebooks. They have the letters and colours of the page, be it light or dark, and a bounded size."""

from collections.abc import Sequence
from html import escape
from typing import Final, TypeVar

from handoff_actors.escaping import escape_name
from handoff_actors.text import encodable, shortened

#: Rows that are shown of a longer table.
FIRST_ROWS: Final = 10
LAST_ROWS: Final = 5
#: Characters of a cell.
MOST_OF_CELL: Final = 100

T = TypeVar("T")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left_out: int = 0) -> str:
    """Make a table of text, which is shortened and escaped here. `left_out` rows are missing before the last ones."""
    sides = [_side([row[place] for row in rows]) for place in range(len(heads))]
    lines = [_row("th", heads, sides), *(_row("td", row, sides) for row in rows)]
    if left_out:
        notice = (
            f'<tr><td colspan="{len(heads)}" style="text-align:center">... {left_out:,} more ...</td></tr>'
        )
        lines.insert(1 + FIRST_ROWS, notice)
    return f"<table>{''.join(lines)}</table>"


def picked(entries: Sequence[T]) -> tuple[list[T], int]:
    """Pick the first and the last rows of a long table, and count those left out."""
    left_out = len(entries) - FIRST_ROWS - LAST_ROWS
    if left_out <= 0:
        return list(entries), 0
    return [*entries[:FIRST_ROWS], *entries[-LAST_ROWS:]], left_out


def paragraph(text: str) -> str:
    """Make a paragraph of lines of text, escaped here."""
    lines = [escape(escape_name(encodable(line))) for line in text.split("\n")]
    return f"<p>{'<br>'.join(lines)}</p>"


def _row(cell: str, texts: Sequence[str], sides: Sequence[str]) -> str:
    cells = [
        f'<{cell} style="text-align:{side};padding:0.1em 0.6em">{_shown(text)}</{cell}>'
        for text, side in zip(texts, sides, strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _side(column: Sequence[str]) -> str:
    return "right" if all(text[:1].isdigit() for text in column if text) else "left"


def _shown(text: str) -> str:
    return escape(escape_name(encodable(shortened(" ".join(shortened(text, 1000).split()), MOST_OF_CELL))))
