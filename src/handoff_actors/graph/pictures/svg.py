"""A picture of a DAG as SVG, laid out by `layout.py`: it needs no network, no script and no other program."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Final
from unicodedata import east_asian_width

from handoff_actors.graph.pictures.drawing import Box, Drawing, Line
from handoff_actors.graph.pictures.layout import Edge, Position, lay_out

_MAX_LABEL: Final = 22
_LETTER, _PADDING, _NARROWEST = 7.2, 20.0, 50.0
_BOX_HEIGHT: Final = 30
_GAP_DOWN: Final = 50
_MARGIN: Final = 10
#: How far a line of a box to itself reaches out.
_LOOP: Final = 18
_HEAD, _HALF_HEAD = 8, 4
#: Between lines of different styles with the same ends.
_LINES_APART: Final = 10
_MOST_BESIDE: Final = 2
_FILLS: Final = {
    "regular": "#dbe9f6",
    "inline": "#eef5dc",
    "input": "#fbe6c8",
    "missing": "#fbd5d5",
    "rest": "#eeeeee",
}
_DASHES: Final = {"result": "", "hook": ' stroke-dasharray="8 3"', "collocation": ' stroke-dasharray="2 3"'}
_TITLES: Final = {"result": "", "hook": "<title>hook</title>", "collocation": "<title>collocated</title>"}
#: Seen on white and on black.
_LINE: Final = "#708090"

_Point = tuple[float, float]


def to_svg(drawing: Drawing) -> str:
    """Draw all of it."""
    loops = {line.start for line in drawing.lines if line.start == line.end}
    labels = [box.label if box.kind == "rest" else _short(box.label) for box in drawing.boxes]
    widths = [max(_NARROWEST, _width(label) + _PADDING) for label in labels]
    rooms = [width + 2 * _LOOP * (number in loops) for number, width in enumerate(widths)]
    links = [line for line in drawing.lines if line.start != line.end]
    layout = lay_out(
        rooms, [Edge(line.start, line.end, line.kind, line.kind == "collocation") for line in links]
    )
    parts = [_draw_loop(layout.places[number], widths[number]) for number in sorted(loops)]
    shifts = _shifts(links)
    parts.extend(
        _draw_line(line, route, shift)
        for line, route, shift in zip(links, layout.routes, shifts, strict=True)
    )
    parts.extend(map(_draw_box, drawing.boxes, labels, widths, layout.places))
    sides = [place.column + room / 2 for place, room in zip(layout.places, rooms, strict=True)]
    sides += [place.column for route in layout.routes for place in route]
    bottoms = [_bottom(place) for place in layout.places]
    width = round(max(sides, default=0) + 2 * _MARGIN)
    height = round(max(bottoms, default=0) + _GAP_DOWN / 2 + _MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        f"{''.join(parts)}</svg>"
    )


def _short(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"


def _width(label: str) -> float:
    return _LETTER * sum(1 + (east_asian_width(letter) in "WF") for letter in label)


def _shifts(lines: Sequence[Line]) -> list[int]:
    """Say how far to the right each line begins and ends, so that those with the same ends are beside one another."""
    seen: Counter[frozenset[int]] = Counter()
    shifts: list[int] = []
    for line in lines:
        ends = frozenset((line.start, line.end))
        shifts.append(min(seen[ends], _MOST_BESIDE) * _LINES_APART)
        seen[ends] += 1
    return shifts


# --- Places ---------------------------------------------------------------------------------------------------------


def _top(place: Position) -> int:
    return _MARGIN + place.layer * (_BOX_HEIGHT + _GAP_DOWN)


def _bottom(place: Position) -> int:
    return _top(place) + _BOX_HEIGHT


def _across(place: Position) -> float:
    return _MARGIN + place.column


# --- Parts ----------------------------------------------------------------------------------------------------------


def _draw_box(box: Box, label: str, width: float, place: Position) -> str:
    radius = _BOX_HEIGHT // 2 if box.kind == "inline" else 3
    middle, top = _across(place), _top(place)
    title = f"{box.title or box.label} ({box.kind})"
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{middle - width / 2:.1f}" y="{top}" width="{width:.1f}" height="{_BOX_HEIGHT}" rx="{radius}" '
        f'fill="{_FILLS[box.kind]}" stroke="#456"/>'
        f'<text x="{middle:.1f}" y="{top + _BOX_HEIGHT // 2 + 4}" text-anchor="middle" fill="#000">'
        f"{escape(label)}</text></g>"
    )


def _draw_line(line: Line, route: Sequence[Position], shift: int) -> str:
    head = 0 if line.kind == "collocation" else _HEAD
    end = route[-1]
    if route[0].layer == end.layer:
        return _stroke(_way_below(route[0], end), line)
    is_downward = route[0].layer < end.layer
    drawn = _stroke(_way(route, shift, head, is_downward=is_downward), line)
    if not head:
        return drawn
    tip = _across(end) + shift, _top(end) if is_downward else _bottom(end)
    return drawn + _draw_head(tip, (0, -1 if is_downward else 1))


def _way(route: Sequence[Position], shift: int, head: int, *, is_downward: bool) -> str:
    """Go from box to box: in curves between layers, and straight through each layer at a bend."""
    enter, leave, sign = (_top, _bottom, 1) if is_downward else (_bottom, _top, -1)
    at = (_across(route[0]) + shift, float(leave(route[0])))
    way = [f"M{_text(*at)}"]
    for place in route[1:-1]:
        way.append(_curve(at, (_across(place), enter(place))))
        at = (_across(place), leave(place))
        way.append(f"V{at[1]}")
    way.append(_curve(at, (_across(route[-1]) + shift, enter(route[-1]) - sign * head)))
    return "".join(way)


def _way_below(start: Position, end: Position) -> str:
    level, lowest = _bottom(start), _bottom(start) + _GAP_DOWN / 2
    bends = _text(_across(start), lowest), _text(_across(end), lowest)
    return f"M{_text(_across(start), level)}C{' '.join(bends)} {_text(_across(end), level)}"


def _draw_loop(place: Position, width: float) -> str:
    right, middle = _across(place) + width / 2, _top(place) + _BOX_HEIGHT / 2
    out, back = middle - _BOX_HEIGHT / 4, middle + _BOX_HEIGHT / 4
    bends = _text(right + _LOOP, out), _text(right + _LOOP, back)
    way = f"M{_text(right, out)}C{' '.join(bends)} {_text(right + _HEAD, back)}"
    return f'<path d="{way}" fill="none" stroke="{_LINE}"/>{_draw_head((right, back), (1, 0))}'


def _draw_head(tip: _Point, back: _Point) -> str:
    """Draw the head of an arrow; `back` leads from its tip to its line. A marker would need an id, which pages may have twice."""
    (across, down), (right, below) = tip, back
    base = across + right * _HEAD, down + below * _HEAD
    corners = (
        _text(base[0] - below * _HALF_HEAD, base[1] - right * _HALF_HEAD),
        _text(base[0] + below * _HALF_HEAD, base[1] + right * _HALF_HEAD),
    )
    return f'<path class="head" d="M{_text(*tip)}L{"L".join(corners)}Z" fill="{_LINE}"/>'


def _stroke(way: str, line: Line) -> str:
    title = _TITLES[line.kind]
    end = f">{title}</path>" if title else "/>"
    return f'<path d="{way}" fill="none" stroke="{_LINE}"{_DASHES[line.kind]}{end}'


def _curve(start: _Point, end: _Point) -> str:
    level = (start[1] + end[1]) / 2
    return f"C{_text(start[0], level)} {_text(end[0], level)} {_text(*end)}"


def _text(across: float, down: float) -> str:
    return f"{across:.1f},{down:.1f}"
