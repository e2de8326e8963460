"""Pictures of a DAG as text, also of one that is unfinished or invalid."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from handoff_actors.escaping import escape_name
from handoff_actors.graph.argument import Argument, Collocated
from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

#: Words that mean something in a Mermaid flowchart.
_MERMAID_WORDS = frozenset(
    [
        "call",
        "class",
        "classdef",
        "click",
        "default",
        "end",
        "flowchart",
        "graph",
        "href",
        "linkstyle",
        "style",
        "subgraph",
    ]
)

BoxKind = Literal["regular", "inline", "input", "missing"]
LineKind = Literal["result", "hook", "collocation"]


class Box(Struct, frozen=True):
    """One function, or an id that functions refer to and the DAG does not have."""

    label: str
    kind: BoxKind


class Line(Struct, frozen=True):
    """A relation between two boxes, by position: from producer to consumer, or from a function to its partner."""

    start: int
    end: int
    kind: LineKind


class Drawing(Struct, frozen=True):
    """Boxes in the order of adding, missing ones last."""

    boxes: Sequence[Box]
    lines: Sequence[Line]


def draw(functions: Mapping[FunctionId, Function]) -> Drawing:
    """Collect the boxes and lines of a graph, for any of the languages."""
    boxes = [Box(_label(function.id), function.type) for function in functions.values()]
    place_of = {function_id: place for place, function_id in enumerate(functions)}

    def place(function_id: FunctionId) -> int:
        if function_id not in place_of:
            place_of[function_id] = len(boxes)
            boxes.append(Box(_label(function_id), "missing"))
        return place_of[function_id]

    lines: dict[Line, None] = {}
    for function in functions.values():
        hooked = {arg.id for arg in function.args if isinstance(arg, Argument)}
        for producer_id in producer_ids(function):
            kind: LineKind = "hook" if producer_id in hooked else "result"
            lines[Line(place(producer_id), place(function.id), kind)] = None
        if isinstance(function.node, Collocated):
            lines[Line(place(function.id), place(function.node.id), "collocation")] = None
    return Drawing(boxes, list(lines))


def to_mermaid(drawing: Drawing) -> str:
    """Write a Mermaid flowchart."""
    brackets = {"regular": ("[", "]"), "inline": ("([", "])"), "input": ("[/", "/]"), "missing": ("{{", "}}")}
    arrows = {"result": "-->", "hook": "-->|hook|", "collocation": "-.-|collocated|"}
    rows = ["graph TD;"]
    names = _mermaid_names([box.label for box in drawing.boxes])
    for name, box in zip(names, drawing.boxes, strict=True):
        opening, closing = brackets[box.kind]
        rows.append(f'    {name}{opening}"{_escape_mermaid(box.label)}"{closing};')
    rows.extend(f"    {names[line.start]} {arrows[line.kind]} {names[line.end]};" for line in drawing.lines)
    return "\n".join(rows) + "\n"


def to_dot(drawing: Drawing, name: str) -> str:
    """Write a Graphviz digraph."""
    boxes = {
        "regular": "shape=box",
        "inline": "shape=box, style=rounded",
        "input": "shape=parallelogram",
        "missing": "shape=box, style=dashed, color=red",
    }
    arrows = {
        "result": "",
        "hook": ' [label="hook"]',
        "collocation": " [style=dotted, dir=none, constraint=false]",
    }
    rows = [f"digraph {_quote_dot(escape_name(name))} {{"]
    rows.extend(
        f"    f{number} [label={_quote_dot(box.label)}, {boxes[box.kind]}];"
        for number, box in enumerate(drawing.boxes)
    )
    rows.extend(f"    f{line.start} -> f{line.end}{arrows[line.kind]};" for line in drawing.lines)
    return "\n".join([*rows, "}"]) + "\n"


def _label(function_id: FunctionId) -> str:
    text = function_id if isinstance(function_id, str) else repr_of(function_id)
    return escape_name(text)


def _mermaid_names(labels: Sequence[str]) -> list[str]:
    """Name the boxes by their labels, except those that Mermaid would take for something else or for one another."""
    counts = Counter(labels)
    return [
        label if counts[label] == 1 and _is_plain(label) else f"f{number}"
        for number, label in enumerate(labels)
    ]


def _is_plain(label: str) -> bool:
    is_word = re.fullmatch(r"[A-Za-z]\w*", label, re.ASCII) and not re.fullmatch(r"f\d+", label)
    return bool(is_word) and label.lower() not in _MERMAID_WORDS


def _escape_mermaid(label: str) -> str:
    # Mermaid has entities of its own, by number; letters, digits and harmless marks stay readable.
    return "".join(
        character if character.isalnum() or character in " _-.,:/()+" else f"#{ord(character)};"
        for character in label
    )


def _quote_dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
