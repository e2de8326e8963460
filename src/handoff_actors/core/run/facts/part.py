"""A part of a run's program: what the run has begun with, or what was added in one go."""

from collections.abc import Collection, Iterable, Sequence
from typing import Self, TypeVar

from msgspec import Struct

from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index

T = TypeVar("T")


class ProgramPart(Struct, eq=False):
    """The numbers that a part has in the program of its run, each list in the order of the part's own numbers."""

    indices: Sequence[Index]
    templates: Sequence[int]
    constants: Sequence[int]
    values: Sequence[int]
    groups: Sequence[int]
    #: Indices of values that the app itself has for it.
    app_values: Collection[Index] = ()
    #: Its functions that have not been removed.
    left: int = 0
    #: The function that has returned it, and how often one at that index has returned a graph; -1: none has.
    parent: Index = -1
    step: int = 0
    #: The part that the parent belonged to before.
    within: "ProgramPart | None" = None
    #: As of `Expansion`.
    result_name: str = ""
    items: int = 0
    stages: int = 0

    @classmethod
    def whole(cls, plan: Plan) -> Self:
        """The part that a plan is as a whole."""
        templates, groups = range(len(plan.templates)), range(len(plan.groups))
        constants, values = range(len(plan.constants)), range(len(plan.values))
        return cls(range(plan.size), templates, constants, values, groups)


def put(into: list[T], places: Sequence[int], items: Iterable[T]) -> None:
    """Set items at places, of which those beyond the end follow each other."""
    if not places:
        return
    size = len(into)
    if places[0] == size and places[-1] == size + len(places) - 1:
        into.extend(items)
        return
    for place, item in zip(places, items, strict=True):
        if place < size:
            into[place] = item
        else:
            into.append(item)
