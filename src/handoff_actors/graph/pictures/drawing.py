"""The boxes and lines that pictures of a DAG are made of, also of one that is unfinished or invalid.

A picture of hundreds of boxes can't be read. So where there are more than that, functions of one kind are one box, and the
lines between two kinds one line. `kinds.py` has the ways to group them: the finest that leaves a readable picture is used.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from handoff_actors.escaping import escape_name
from handoff_actors.graph.argument import Argument, Collocated
from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.graph.naming import code_name, definition_of, short_code_name
from handoff_actors.graph.pictures.kinds import Kinds, by_ancestry, by_producers, numbered
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of, shortened

#: A picture of more is folded.
MOST_BOXES: Final = 60
MOST_LINES: Final = 240
#: Where even one box for each code is more than that, only the first ones are shown. Mermaid draws less than 500 lines.
MOST_BOXES_EVER: Final = 200
MOST_LINES_EVER: Final = 400
#: Characters of an id or a name.
MOST_OF_LABEL: Final = 200
#: Before the number of functions in a box.
TIMES: Final = "×"
#: Ids that the title of a folded box names.
_NAMED_MEMBERS: Final = 3

BoxKind = Literal["regular", "inline", "input", "missing", "rest"]
LineKind = Literal["result", "hook", "collocation"]


class Box(Struct, frozen=True):
    """A function, several functions of one kind, an id that the DAG does not have, or the rest that is not shown."""

    label: str
    kind: BoxKind
    #: The ids in it, the first ones if they are many.
    title: str = ""


class Line(Struct, frozen=True, order=True):
    """A relation between two boxes, by position: from producer to consumer, or from a function to its partner."""

    start: int
    end: int
    kind: LineKind


class Drawing(Struct, frozen=True):
    """Boxes in the order of adding, missing ones last."""

    boxes: Sequence[Box]
    lines: Sequence[Line]


class _Graph(NamedTuple):
    """A DAG by the positions of its functions; missing ones come last."""

    functions: Sequence[Function]
    #: Of functions and missing ones.
    ids: Sequence[FunctionId]
    #: By function; one may be there twice.
    producers: Sequence[Sequence[int]]
    #: Producers and consumers with a hook between them.
    hooked: frozenset[tuple[int, int]]
    #: Collocated functions, each with its partner.
    partners: Sequence[tuple[int, int]]


def draw(functions: Mapping[FunctionId, Function], *, fold: bool | None = None) -> Drawing:
    """Collect the boxes and lines of a graph, for any of the languages.

    `fold` makes one box of functions of one kind; None does so if the picture could not be read otherwise.
    """
    graph = _graph_of(functions)
    kinds = list(range(len(graph.ids)))
    if fold is False or (fold is None and _is_readable(graph, kinds)):
        return _drawing(graph, kinds)
    for kinds in _foldings(graph):
        if _is_readable(graph, kinds):
            break
    return _cut(_drawing(graph, kinds))


# --- The graph ------------------------------------------------------------------------------------------------------


def _graph_of(functions: Mapping[FunctionId, Function]) -> _Graph:
    place_of = {function_id: place for place, function_id in enumerate(functions)}
    producers: list[tuple[int, ...]] = []
    hooked: set[tuple[int, int]] = set()
    partners: list[tuple[int, int]] = []
    for place, function in enumerate(functions.values()):
        ids = producer_ids(function)
        try:
            producers.append(tuple(map(place_of.__getitem__, ids)))
        except KeyError:
            producers.append(tuple([place_of.setdefault(producer, len(place_of)) for producer in ids]))
        if ids is not function.args:
            hooks = [arg.id for arg in function.args if isinstance(arg, Argument)]
            hooked.update((place_of[producer], place) for producer in hooks)
        if isinstance(function.node, Collocated):
            partners.append((place, place_of.setdefault(function.node.id, len(place_of))))
    producers.extend(() for _ in range(len(place_of) - len(producers)))
    return _Graph(list(functions.values()), list(place_of), producers, frozenset(hooked), partners)


def _foldings(graph: _Graph) -> Iterator[Kinds]:
    """Group the functions, from fine to coarse."""
    codes = _codes_of(graph)
    exact = by_ancestry(codes, graph.producers, MOST_BOXES)
    if exact is not None:
        yield exact
    yield by_producers(codes, graph.producers)
    yield codes


def _codes_of(graph: _Graph) -> list[int]:
    # The same object serves many functions, and thousands of objects, such as closures, may have one definition.
    codes = {id(function.code): function.code for function in graph.functions}
    key_of = {number: (code_name(code), definition_of(code)) for number, code in codes.items()}
    keys: list[Hashable] = [(function.type, key_of[id(function.code)]) for function in graph.functions]
    return numbered([*keys, *(["missing"] * (len(graph.ids) - len(keys)))])


def _is_readable(graph: _Graph, kinds: Kinds) -> bool:
    return len(set(kinds)) <= MOST_BOXES and len(_lines(graph, kinds)) <= MOST_LINES


def _lines(graph: _Graph, kinds: Kinds) -> list[Line]:
    lines: dict[tuple[int, int, LineKind], None] = {}
    for place, (kind, taken) in enumerate(zip(kinds, graph.producers, strict=True)):
        for producer in taken:
            is_hook = graph.hooked and (producer, place) in graph.hooked
            lines[kinds[producer], kind, "hook" if is_hook else "result"] = None
    for place, partner in graph.partners:
        lines[kinds[place], kinds[partner], "collocation"] = None
    return [Line(start, end, style) for start, end, style in lines]


# --- The drawing ----------------------------------------------------------------------------------------------------


def _drawing(graph: _Graph, kinds: Kinds) -> Drawing:
    # Kinds have numbers in the order of other functions where they were found from top to bottom.
    kinds = numbered(kinds)
    members: list[list[int]] = [[] for _ in set(kinds)]
    for place, kind in enumerate(kinds):
        members[kind].append(place)
    return Drawing([_box(graph, places) for places in members], _lines(graph, kinds))


def _box(graph: _Graph, places: Sequence[int]) -> Box:
    first, count = places[0], len(places)
    function = graph.functions[first] if first < len(graph.functions) else None
    kind: BoxKind = "missing" if function is None else function.type
    ids = [_label(graph.ids[place]) for place in (*places[:_NAMED_MEMBERS], *places[-1:])]
    if count == 1:
        return Box(ids[0], kind, ids[0])
    name = kind if function is None or function.code is None else short_code_name(function.code)
    title = ", ".join(ids[:count] if count <= _NAMED_MEMBERS else [*ids[:-1], "...", ids[-1]])
    return Box(f"{_shown(name)} {TIMES}{count}", kind, title)


def _cut(drawing: Drawing) -> Drawing:
    boxes, lines = list(drawing.boxes[:MOST_BOXES_EVER]), drawing.lines
    lines = [line for line in lines if line.start < len(boxes) and line.end < len(boxes)][:MOST_LINES_EVER]
    left_out = {"boxes": len(drawing.boxes) - len(boxes), "lines": len(drawing.lines) - len(lines)}
    said = [f"{count} more {things}" for things, count in left_out.items() if count]
    if said:
        boxes.append(Box(f"... and {', '.join(said)}", "rest"))
    return Drawing(boxes, lines)


def _label(function_id: FunctionId) -> str:
    return _shown(function_id if isinstance(function_id, str) else repr_of(function_id, MOST_OF_LABEL))


def _shown(text: str) -> str:
    return escape_name(shortened(text, MOST_OF_LABEL))
