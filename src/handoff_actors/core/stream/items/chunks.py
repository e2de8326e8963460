"""Items that follow one another and go through a stream as one, a chunk, as long as nothing happens to one of them alone.

What one item costs the app, many then share. A chunk is made of pushes that come together, in a stream that is a chain. As soon
as one of its items is other than the rest of them (it fails, is skipped, is large, or may have killed its worker), or only some
of them are wanted, it is divided.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, cast

from handoff_actors.core.stream.events import ItemChunk, ItemOutcome, NewItem
from handoff_actors.graph.streams.stream_plan import StreamPlan

#: So many chunks have room in a stream, so that all its stages have something to do at once.
CHUNKS_IN_FLIGHT: Final = 8
MOST_ITEMS: Final = 512
#: A larger value costs more than what it would share with others.
_MOST_NBYTES: Final = 4096


def is_chain(plan: StreamPlan) -> bool:
    """True if each item is on one edge alone at any time: nothing is joined, and nothing gives several results."""
    return len(plan.inputs) == len(plan.sinks) == 1 and all(
        len(vertex.consumers) <= 1
        and len(vertex.producers) == (not vertex.is_input)
        and not vertex.is_generator
        for vertex in plan.vertices
    )


def groups_of(items: Sequence[NewItem], most: int) -> Iterator[tuple[NewItem, Sequence[bytes]]]:
    """Divide items, of one input, into those that go on as one: they have the same owner, and small values.

    Gives the first of each group, with the values of all; with none for an item that is not small.
    """
    first, values = items[0], list[bytes]()
    for item in items:
        value = item.values[0][0]
        is_small = isinstance(value, bytes) and len(value) <= _MOST_NBYTES
        if values and not (is_small and len(values) < most and item.owner == first.owner):
            yield first, values
            values = []
        if not is_small:
            yield item, ()
            continue
        if not values:
            first = item
        values.append(cast("bytes", value))
    if values:
        yield first, values


def size_of(values: Sequence[ItemOutcome]) -> int:
    """The number of items that these values are of, which each stage takes together."""
    first = values[0]
    return len(first.values) if isinstance(first, ItemChunk) else 1


def part(chunk: ItemChunk, start: int, end: int) -> bytes | ItemChunk:
    """A part of the values of a chunk; of a single one, just that."""
    return chunk.values[start] if end - start == 1 else ItemChunk(chunk.values[start:end])


def runs_of(outcomes: Sequence[ItemOutcome]) -> Iterator[tuple[ItemOutcome, int]]:
    """Divide what the items of a chunk have come to: values that go on as one, and all else. Each with the number of its items."""
    for kind, group in groupby(outcomes, type):
        alike = list(group)
        if kind is bytes and len(alike) > 1:
            yield ItemChunk(cast("list[bytes]", alike)), len(alike)
        else:
            yield from ((outcome, 1) for outcome in alike)
