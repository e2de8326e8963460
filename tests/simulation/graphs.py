"""Graphs that functions return: what they look like follows from the value that the function would have."""

from random import Random

from handoff_actors.core.run.facts.grown_graph import GrownGraph
from handoff_actors.core.run.facts.resumption import Fingerprints, FoundResults, ReusedResult
from handoff_actors.skip import ENCODED_SKIP
from handoff_actors.wire.messages.jobs import (
    PARTS,
    Additions,
    Expansion,
    GraphDigests,
    GrownTemplate,
    Ref,
    StoredPart,
    Template,
)
from tests.simulation.symbols import grown_names, made_by

LARGE_NBYTES = 1_000_000
#: How many of the functions of a graph that is looked up were done before.
FOUND = 0.3


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
        # Half of the graphs are looked up before they are added.
        digests=GraphDigests([name.encode() for name in distinct], [], [value]) if value[-1] % 2 else None,
    )
    known.update(distinct)
    return Additions(expansion, [] if part is None else [part])


def found_in(graph: GrownGraph, random: Random) -> FoundResults:
    """The results of an earlier run that are found for a graph: any of them, or none."""
    (value,) = graph.digests.values
    names = [graph.digests.templates[number].decode() for number in graph.plan.template_of]
    values = [made_by(name, [value]) for name in names[:2]]
    values.append(made_by(names[2], values))
    known = [
        Fingerprints(b"key", b"journal", b"cache", random.choice(((), ((b"cache", 60.0),)))) for _ in names
    ]
    reused: dict[int, ReusedResult] = {}
    in_app: dict[int, bytes] = {}
    for index, found in enumerate(values):
        if random.random() < FOUND:
            is_large = random.random() < FOUND and found != ENCODED_SKIP
            reused[index] = ReusedResult("earlier", len(found) if is_large else found, is_large)
            if is_large:
                in_app[index] = found
    return FoundResults(known, reused, in_app)


def _template(name: str, known: set[str]) -> Template | None:
    code = name.encode()
    return None if name in known else Template(0, code, True, code, False, False, {}, None)
