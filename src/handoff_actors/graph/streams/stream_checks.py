"""Check that the results of a stream's stages can be joined: each join needs one result of each producer for an item.

A generator gives an item of its own for each of its results. So all that one stage takes, and all results of the stream, must have
come by way of the same generators. Results of `finish` belong to no item that was pushed, and so to none of another branch.

Vertices are given by number, each after its producers; `producers` is by number.
"""

from collections.abc import Collection, Sequence

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of


def generators_before(
    ids: Sequence[FunctionId],
    producers: Sequence[Sequence[int]],
    sinks: Sequence[int],
    generators: Collection[int],
) -> list[tuple[int, ...]]:
    """List for each vertex the generators through which its items have come. Raises InvalidFunctionError where they differ."""
    before: list[tuple[int, ...]] = []
    after: list[tuple[int, ...]] = []
    for number, taken in enumerate(producers):
        _check_alike(ids, taken, after, "takes from {} and from {}", number)
        own = after[taken[0]] if taken else ()
        before.append(own)
        after.append((*own, number) if number in generators else own)
    _check_alike(ids, sinks, after, "gives a result of the stream, {1}, beside {0}", None)
    return before


def _check_alike(
    ids: Sequence[FunctionId],
    taken: Sequence[int],
    after: Sequence[tuple[int, ...]],
    doing: str,
    number: int | None,
) -> None:
    for other in taken[1:]:
        first = taken[0]
        if after[other] != after[first]:
            names = repr_of(ids[first]), repr_of(ids[other])
            reason = (
                f"{doing.format(*names)}, whose items can't be matched: those of {names[0]} come {_way(ids, after[first])},"
                f" those of {names[1]} {_way(ids, after[other])}; let both come from the same generators"
            )
            raise InvalidFunctionError(ids[other if number is None else number], reason)


def _way(ids: Sequence[FunctionId], generators: Sequence[int]) -> str:
    if not generators:
        return "from no generator"
    return f"from the generator {', then '.join(repr_of(ids[each]) for each in generators)}"


def check_finishes(
    ids: Sequence[FunctionId],
    producers: Sequence[Sequence[int]],
    sinks: Sequence[int],
    finishing: Sequence[int],
) -> None:
    """Raise InvalidFunctionError if what a stage gives at the end would have nothing to be joined with."""
    for stage in finishing:
        behind = {stage}
        for number, taken in enumerate(producers):
            own = [each for each in taken if each in behind]
            if own:
                behind.add(number)
                _check_joined(ids, stage, f"{repr_of(ids[number])}, behind it, takes from", taken, behind)
        _check_joined(ids, stage, "the stream has the result of", sinks, behind)


def _check_joined(
    ids: Sequence[FunctionId], stage: int, doing: str, taken: Sequence[int], behind: Collection[int]
) -> None:
    for each in taken:
        if each not in behind:
            reason = (
                f"it has finish, and {doing} {repr_of(ids[each])}, too, which gives nothing that could be joined with the results of"
                f" finish: have all results go through one of {repr_of(ids[stage])} and the stages behind it"
            )
            raise InvalidFunctionError(ids[stage], reason)
