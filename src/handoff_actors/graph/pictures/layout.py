"""Places for the boxes of a picture, and ways for its lines around them, after Sugiyama, Tagawa and Toda (1981).

1. A line that would close a cycle is turned round.
2. Each box gets a layer below all boxes that lead to it. Few layers are wide: where a layer is full, the next is used.
3. A line that passes layers gets a bend in each of them, which takes a place there as a box does. Lines of one style from
   one box have their bends in common, until they part.
4. Boxes and bends of a layer are ordered by the mean of the neighbours above, then below, and so on; the order with the
   fewest crossings stays.
5. Each moves to the mean of its neighbours, as far as those beside it let it.

Lines cross from side to side only between layers, and pass a layer only straight down at a bend. So none touches a box other
than its own.

The layouts of libraries do not fit a picture that is to be there without an extra: grandalf has had no release since 2022,
igraph is under the GPL, fast-sugiyama is compiled for few platforms and knows boxes of one size, and Graphviz is a program.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

#: Boxes in a layer, and parts of all boxes where there are many.
_MOST_ACROSS: Final = 10
_PART_ACROSS: Final = 6
_GAP_BETWEEN_BOXES: Final = 20.0
_GAP_AT_BEND: Final = 10.0
#: To move a bend makes a line crooked, to move a box only leads it elsewhere.
_WEIGHTS: Final = (1.0, 3.0, 9.0)
_MOST_SWEEPS: Final = 12
_MOST_STEPS: Final = 60_000
_MOVES: Final = 8


class Edge(Struct, frozen=True):
    """A line between two different boxes, by position."""

    start: int
    end: int
    #: Lines of one style may share a part of their way.
    style: str
    #: True if it has no say in the layers.
    is_loose: bool


class Position(Struct, frozen=True):
    """The middle of a box or bend, and its layer."""

    column: float
    layer: int


class Layout(Struct, frozen=True):
    """Positions of boxes, and of the ways of lines."""

    #: By box.
    places: Sequence[Position]
    #: By line: its start, its bends, its end. Layers follow one another, downwards or upwards, or both ends are in one.
    routes: Sequence[Sequence[Position]]


def lay_out(widths: Sequence[float], links: Sequence[Edge]) -> Layout:
    """Place boxes of these widths."""
    layers = _layers(len(widths), [(link.start, link.end) for link in links if not link.is_loose])
    graph = _Layered(widths, layers)
    routes = [graph.add(link) for link in links]
    graph.order()
    columns = graph.columns()
    places = [Position(column, layer) for column, layer in zip(columns, graph.layer_of, strict=True)]
    return Layout(places[: len(widths)], [[places[vertex] for vertex in route] for route in routes])


# --- Layers ---------------------------------------------------------------------------------------------------------


def _layers(size: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    below: list[list[int]] = [[] for _ in range(size)]
    for start, end in pairs:
        below[start].append(end)
    order = _turn_cycles(below)
    above: list[list[int]] = [[] for _ in range(size)]
    for start, ends in enumerate(below):
        for end in ends:
            above[end].append(start)
    layers = [0] * size
    for vertex in order:
        layers[vertex] = max((layers[other] + 1 for other in above[vertex]), default=0)
    for vertex in reversed(order):
        # With more lines below than above, it is nearer to the ones below.
        if len(below[vertex]) > len(above[vertex]):
            layers[vertex] = min(layers[other] for other in below[vertex]) - 1
    return _narrowed(layers, above)


def _turn_cycles(below: list[list[int]]) -> list[int]:
    """Turn round what leads back, in place, and list all vertices from top to bottom."""
    entered, left = [False] * len(below), [False] * len(below)
    order: list[int] = []
    turned: list[tuple[int, int]] = []
    for root in range(len(below)):
        path = [(root, iter(tuple(below[root])))] if not entered[root] else []
        entered[root] = True
        while path:
            vertex, following = path[-1]
            other = next(following, None)
            if other is None:
                left[vertex] = True
                order.append(vertex)
                path.pop()
            elif not entered[other]:
                entered[other] = True
                path.append((other, iter(tuple(below[other]))))
            elif not left[other]:
                turned.append((vertex, other))
    for vertex, other in turned:
        below[vertex].remove(other)
        below[other].append(vertex)
    return order[::-1]


def _narrowed(layers: Sequence[int], above: Sequence[Sequence[int]]) -> list[int]:
    most = max(_MOST_ACROSS, len(layers) // _PART_ACROSS)
    count: dict[int, int] = {}
    narrowed = [0] * len(layers)
    for vertex in sorted(range(len(layers)), key=layers.__getitem__):
        layer = max((narrowed[other] + 1 for other in above[vertex]), default=layers[vertex])
        layer = max(layer, layers[vertex])
        while count.get(layer, 0) >= most:
            layer += 1
        narrowed[vertex] = layer
        count[layer] = count.get(layer, 0) + 1
    return narrowed


# --- Order and columns ----------------------------------------------------------------------------------------------


class _Layered:
    """Boxes and bends in layers. Every line leads from one layer to the next."""

    def __init__(self, widths: Sequence[float], layers: Sequence[int]) -> None:
        self._widths = list(widths)
        self._boxes = len(widths)
        self.layer_of = list(layers)
        self._rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
        for vertex, layer in enumerate(layers):
            self._rows[layer].append(vertex)
        self._above: list[list[int]] = [[] for _ in widths]
        self._below: list[list[int]] = [[] for _ in widths]
        self._bends: dict[tuple[int, str, int], int] = {}

    def add(self, link: Edge) -> list[int]:
        """Add a line, and give its vertices from its start to its end."""
        start, end = link.start, link.end
        is_upward = self.layer_of[start] > self.layer_of[end]
        if is_upward:
            start, end = end, start
        route = [start]
        # A line within one layer has its way in the gap below.
        for layer in range(self.layer_of[start] + 1, self.layer_of[end]):
            route.append(self._bend(route[-1], (start, f"{link.style} {is_upward}", layer)))
        if self.layer_of[start] < self.layer_of[end]:
            self._join(route[-1], end)
        route.append(end)
        return route[::-1] if is_upward else route

    def _bend(self, above: int, key: tuple[int, str, int]) -> int:
        bend = self._bends.get(key)
        if bend is None:
            bend = self._bends[key] = len(self.layer_of)
            self.layer_of.append(key[2])
            self._rows[key[2]].append(bend)
            self._widths.append(0.0)
            self._above.append([])
            self._below.append([])
            self._join(above, bend)
        return bend

    def _join(self, above: int, below: int) -> None:
        self._below[above].append(below)
        self._above[below].append(above)

    def order(self) -> None:
        """Order the vertices of each layer so that few lines cross."""
        lines = sum(map(len, self._below))
        best, fewest = self._rows, self._crossings(self._rows)
        rows = [list(row) for row in self._rows]
        for sweep in range(min(_MOST_SWEEPS, 2 + _MOST_STEPS // (1 + lines))):
            if not fewest:
                break
            neighbours = self._below if sweep % 2 else self._above
            rows = self._swept(rows[::-1] if sweep % 2 else rows, neighbours)
            rows = rows[::-1] if sweep % 2 else rows
            crossings = self._crossings(rows)
            if crossings < fewest:
                best, fewest = rows, crossings
        self._rows = best

    def _swept(self, rows: Sequence[Sequence[int]], neighbours: Sequence[Sequence[int]]) -> list[list[int]]:
        position = [0.0] * len(self.layer_of)
        swept: list[list[int]] = []
        for row in rows:
            for place, vertex in enumerate(row):
                position[vertex] = place
            means = {
                vertex: _mean([position[other] for other in neighbours[vertex]], position[vertex])
                for vertex in row
            }
            swept.append(sorted(row, key=means.__getitem__))
            for place, vertex in enumerate(swept[-1]):
                position[vertex] = place
        return swept

    def _crossings(self, rows: Sequence[Sequence[int]]) -> int:
        position = {vertex: place for row in rows for place, vertex in enumerate(row)}
        crossings = 0
        for row in rows[:-1]:
            ends: list[int] = []
            for vertex in row:
                below = [position[other] for other in self._below[vertex]]
                crossings += sum(len(ends) - bisect_right(ends, end) for end in below)
                for end in below:
                    insort(ends, end)
        return crossings

    def columns(self) -> list[float]:
        """Return the middle of each vertex, from 0 on."""
        columns = [0.0] * len(self.layer_of)
        for row in self._rows:
            for left, right in pairwise(row):
                columns[right] = columns[left] + self._distance(left, right)
        for move in range(_MOVES):
            for row in self._rows[::-1] if move % 2 else self._rows:
                self._move(row, columns)
        leftmost = min(
            (columns[vertex] - width / 2 for vertex, width in enumerate(self._widths)), default=0.0
        )
        return [column - leftmost for column in columns]

    def _distance(self, left: int, right: int) -> float:
        gap = _GAP_BETWEEN_BOXES if left < self._boxes and right < self._boxes else _GAP_AT_BEND
        return (self._widths[left] + self._widths[right]) / 2 + gap

    def _move(self, row: Sequence[int], columns: list[float]) -> None:
        """Move each vertex of a layer as near to the mean of its neighbours as those beside it let it, by least squares."""
        offset, offsets, blocks = 0.0, [0.0], list[list[float]]()
        for left, right in pairwise(row):
            offset += self._distance(left, right)
            offsets.append(offset)
        for vertex, offset in zip(row, offsets, strict=True):
            weight, total = self._pull(vertex, columns)
            blocks.append([total - weight * offset, weight, 1])
            # Those that would overlap move as one: this is isotonic regression.
            while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] > blocks[-1][0] * blocks[-2][1]:
                last = blocks.pop()
                blocks[-1] = [mine + theirs for mine, theirs in zip(blocks[-1], last, strict=True)]
        means = [total / weight for total, weight, size in blocks for _ in range(int(size))]
        for vertex, mean, offset in zip(row, means, offsets, strict=True):
            columns[vertex] = mean + offset

    def _pull(self, vertex: int, columns: Sequence[float]) -> tuple[float, float]:
        pulls = [
            (_WEIGHTS[(vertex >= self._boxes) + (other >= self._boxes)], columns[other])
            for other in (*self._above[vertex], *self._below[vertex])
        ]
        # With the column that it has, which decides where there are no neighbours.
        pulls.append((0.01, columns[vertex]))
        return sum(weight for weight, _ in pulls), sum(weight * column for weight, column in pulls)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
