"""Tables of plain text."""

from collections.abc import Sequence

from handoff_actors.escaping import escape_name

Row = Sequence[str]

#: Longer ones are cut.
MOST_LETTERS = 40


def aligned(heads: Row, rows: Sequence[Row]) -> str:
    """Columns side by side, the first one to the left and numbers to the right."""
    lines = [[_short(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    to_left = [
        all(not row[place][:1].isdigit() for row in lines[1:] if row[place]) for place in range(len(heads))
    ]
    to_left[0] = True
    return "\n".join(
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(line, widths, to_left, strict=True)
        ).rstrip()
        for line in lines
    )


def seconds(amount: float) -> str:
    """A duration with three digits that count: "1.25 s", "12.5 ms", "125 us"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if amount >= size:
            return f"{_digits(amount / size)} {unit}"
    return f"{amount * 1e6:.0f} us"


def nbytes(amount: float) -> str:
    """A size: "12 B", "1.50 MB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if amount >= size:
            return f"{_digits(amount / size)} {unit}"
    return f"{amount:.0f} B"


def count(number: int, noun: str) -> str:
    """A number with its noun in the right form: "1 function", "2 functions"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _digits(number: float) -> str:
    if number >= 100:  # noqa: PLR2004 - three digits
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"  # noqa: PLR2004 - as above


def _short(cell: str) -> str:
    cell = escape_name(" ".join(cell.split()))
    return cell if len(cell) <= MOST_LETTERS else f"{cell[: MOST_LETTERS - 1]}…"
