"""Groups functions that a picture can show as one, because they are of one kind.

Functions are of one kind if they run the same code, and the functions that they take from are of the same kinds. That is
exact where it ends in few kinds: a thousand files that are each loaded, cleaned and counted are three. In a long chain of
the same code each function would be a kind of its own; there the code of its producers has to do, or its own alone.

Functions are known by their positions, and so are kinds: `kinds[function]`.
"""

from collections.abc import Hashable, Iterable, Sequence

Kinds = list[int]
#: By function: the functions that it takes from.
Producers = Sequence[Sequence[int]]


def by_ancestry(codes: Sequence[int], producers: Producers, most: int) -> Kinds | None:
    """Group functions whose code, and that of all functions above, is the same.

    Returns None for more kinds than `most`, and for a graph with a cycle.
    """
    order = _order(producers)
    if len(order) < len(producers):
        return None
    number_of: dict[Hashable, int] = {}
    kinds = [0] * len(codes)
    for function in order:
        above = frozenset([kinds[producer] for producer in producers[function]])
        kinds[function] = number_of.setdefault((codes[function], above), len(number_of))
        if len(number_of) > most:
            return None
    return kinds


def by_producers(codes: Sequence[int], producers: Producers) -> Kinds:
    """Group functions whose code, and that of the functions that they take from, is the same."""
    return numbered(
        (code, frozenset([codes[producer] for producer in taken]))
        for code, taken in zip(codes, producers, strict=True)
    )


def numbered(values: Iterable[Hashable]) -> Kinds:
    """Number the distinct values in the order of their first use."""
    number_of: dict[Hashable, int] = {}
    return [number_of.setdefault(value, len(number_of)) for value in values]


def _order(producers: Producers) -> Sequence[int]:
    """List functions below all their producers; those in a cycle, and below one, are left out."""
    if all(not taken or max(taken) < function for function, taken in enumerate(producers)):
        return range(len(producers))
    missing = [len(taken) for taken in producers]
    dependents: list[list[int]] = [[] for _ in producers]
    for function, taken in enumerate(producers):
        for producer in taken:
            dependents[producer].append(function)
    order = [function for function, number in enumerate(missing) if not number]
    for function in order:
        for dependent in dependents[function]:
            missing[dependent] -= 1
            if not missing[dependent]:
                order.append(dependent)
    return order
