"""Pictures of a DAG as text, in the languages of Mermaid and Graphviz."""

import re
from collections import Counter
from collections.abc import Sequence

from handoff_actors.escaping import escape_name
from handoff_actors.graph.pictures.drawing import TIMES, Drawing, draw

__all__ = ["draw", "to_dot", "to_mermaid"]

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
#: In a label, beside letters and digits.
_HARMLESS = f" _-.,:/()+{TIMES}"


def to_mermaid(drawing: Drawing) -> str:
    """Write a Mermaid flowchart."""
    brackets = {
        "regular": ("[", "]"),
        "inline": ("([", "])"),
        "input": ("[/", "/]"),
        "missing": ("{{", "}}"),
        "rest": (">", "]"),
    }
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
        "rest": "shape=plaintext",
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
        character if character.isalnum() or character in _HARMLESS else f"#{ord(character)};"
        for character in label
    )


def _quote_dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
