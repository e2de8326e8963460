"""A picture of a DAG as SVG, laid out here: it needs no network, no script and no other program.

Boxes stand in layers, each below all its producers; within a layer they are ordered by the positions of their producers.
"""

from collections.abc import Iterable, Sequence
from html import escape

from handoff_actors.graph.render import Box, Drawing, Line

#: A picture of more could not be read, nor drawn fast by a browser.
MAX_BOXES = 200

_MAX_LABEL = 22
_BOX_WIDTH, _BOX_HEIGHT = 170, 30
_GAP_ACROSS, _GAP_DOWN = 20, 45
_MARGIN = 10
_FILLS = {"regular": "#dbe9f6", "inline": "#eef5dc", "input": "#fbe6c8", "missing": "#fbd5d5"}
_DASHES = {"result": "", "hook": ' stroke-dasharray="8 3"', "collocation": ' stroke-dasharray="2 3"'}

_Place = tuple[int, int]


def to_svg(drawing: Drawing) -> str:
    """Draw the first functions, up to MAX_BOXES, and say how many others there are."""
    boxes = drawing.boxes[:MAX_BOXES]
    lines = [line for line in drawing.lines if line.start < len(boxes) and line.end < len(boxes)]
    places = _places(len(boxes), [line for line in lines if line.kind != "collocation"])
    width = max((left + _BOX_WIDTH for left, _ in places), default=_BOX_WIDTH) + _MARGIN
    height = max((top + _BOX_HEIGHT for _, top in places), default=0) + _MARGIN
    parts = [_draw_line(line, places) for line in lines]
    parts.extend(_draw_box(box, place) for box, place in zip(boxes, places, strict=True))
    left_out = len(drawing.boxes) - len(boxes)
    if left_out:
        height += _BOX_HEIGHT
        parts.append(f'<text x="{_MARGIN}" y="{height - _MARGIN}">... and {left_out} more functions</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        f"{''.join(parts)}</svg>"
    )


def _places(box_count: int, lines: Sequence[Line]) -> list[_Place]:
    producers: list[list[int]] = [[] for _ in range(box_count)]
    for line in lines:
        producers[line.end].append(line.start)
    column = [0.0] * box_count
    places: list[_Place] = [(0, 0)] * box_count
    for depth, layer in enumerate(_layers(producers)):
        # Below the middle of its producers: that crosses few lines.
        layer.sort(
            key=lambda box: sum(column[above] for above in producers[box]) / max(len(producers[box]), 1)
        )
        for number, box in enumerate(layer):
            column[box] = number - (len(layer) - 1) / 2
        for box in layer:
            places[box] = (round(column[box] * (_BOX_WIDTH + _GAP_ACROSS)), depth * (_BOX_HEIGHT + _GAP_DOWN))
    leftmost = min((left for left, _ in places), default=0)
    return [(left - leftmost + _MARGIN, top + _MARGIN) for left, top in places]


def _layers(producers: Sequence[Iterable[int]]) -> list[list[int]]:
    """Split boxes into layers. Cycles, and all below them, are the last: an invalid graph has a picture, too."""
    waiting = {box: set(above) for box, above in enumerate(producers)}
    layers: list[list[int]] = []
    while waiting:
        layer = [box for box, above in waiting.items() if above.isdisjoint(waiting)] or list(waiting)
        layers.append(layer)
        for box in layer:
            del waiting[box]
    return layers


def _draw_box(box: Box, place: _Place) -> str:
    left, top = place
    label = box.label if len(box.label) <= _MAX_LABEL else box.label[: _MAX_LABEL - 1] + "…"
    radius = _BOX_HEIGHT // 2 if box.kind == "inline" else 3
    return (
        f"<g><title>{escape(f'{box.label} ({box.kind})')}</title>"
        f'<rect x="{left}" y="{top}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="{radius}" '
        f'fill="{_FILLS[box.kind]}" stroke="#456"/>'
        f'<text x="{left + _BOX_WIDTH // 2}" y="{top + _BOX_HEIGHT // 2 + 4}" text-anchor="middle">'
        f"{escape(label)}</text></g>"
    )


def _draw_line(line: Line, places: Sequence[_Place]) -> str:
    start_left, start_top = places[line.start]
    end_left, end_top = places[line.end]
    half = _BOX_WIDTH // 2
    return (
        f'<line x1="{start_left + half}" y1="{start_top + _BOX_HEIGHT}" x2="{end_left + half}" y2="{end_top}" '
        f'stroke="#678"{_DASHES[line.kind]}/>'
    )
