"""Graphs that functions return: what they look like follows from the value that the function would have."""

from handoff_actors.wire.messages.jobs import (
    PARTS,
    Additions,
    Expansion,
    GrownTemplate,
    Ref,
    StoredPart,
    Template,
)
from tests.simulation.symbols import grown_names

LARGE_NBYTES = 1_000_000


def part_for(run: int, index: int, attempt: int) -> StoredPart:
    """The part that this attempt has made; no other one has its index."""
    return StoredPart(PARTS + (run << 44) + (index << 20) + attempt, LARGE_NBYTES)


def additions_of(value: bytes, part: StoredPart | None, known: set[str]) -> Additions:
    """The graph of a function with this value, which is an argument of two functions, large or not.

    Code of the names in `known` has been sent before.
    """
    names = grown_names(value)
    distinct = list(dict.fromkeys(names))
    expansion = Expansion(
        result=2,
        args=[(~0,), (~0,), (0, 1)],
        producers=[(), (), (0, 1)],
        dependents=[(2,), (2,), ()],
        bottom_level=[2, 2, 1],
        template_of=[distinct.index(name) for name in names],
        templates=[GrownTemplate(name.encode(), name, _template(name, known)) for name in distinct],
        constants_of=[-1, -1, -1],
        values=[value if part is None else Ref(part.index, part.nbytes, [])],
    )
    known.update(distinct)
    return Additions(expansion, [] if part is None else [part])


def _template(name: str, known: set[str]) -> Template | None:
    code = name.encode()
    return None if name in known else Template(0, code, True, code, False, False, {}, None)
