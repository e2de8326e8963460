"""A graph that a function has returned, whose functions are looked up in the journal and the cache before they are added.

The ids of its functions derive from their parent's and a number, and so do the keys of their rows in the journal: a run that
was killed finds them again once the parent, called again, has returned the same graph. The function whose result is the
parent's has no row of its own: its result is recorded as the parent's.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from handoff_actors.core.run.facts.resumption import Combine, Digests, Fingerprints, fingerprints
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import GraphDigests, Template

#: A function is cached under as many fingerprints: its own, and that of the last one in its place.
_MOST_CACHED_AS: Final = 2


class GrownGraph(Struct, frozen=True):
    """A graph as it is looked up."""

    plan: Plan
    #: The function whose result is the parent's.
    result: Index
    parent: Fingerprints
    #: As of `Parent`.
    step: int
    digests: GraphDigests
    templates: Sequence[Template]
    #: Parts among the values, by number: the function that has made them, and the place of each.
    parts: Mapping[int, tuple[Fingerprints, int]]

    def __repr__(self) -> str:
        return f"<graph of {self.plan.dag_id!r}: {self.plan.ids}, result {self.result}, step {self.step}>"

    def fingerprints(self, combine: Combine, salt: bytes) -> list[Fingerprints]:
        """Compute the fingerprints of its functions, those of the result as if it were beside the parent.

        `salt` stands for the ids in those of the cache. What the parent has no fingerprints for, its functions have none for.
        """
        plan = self.plan
        keys = journal = cache = [b""] * plan.size
        cached = cached_functions(plan)
        templates = self._templates(combine)
        if self.parent.key:
            start = combine(b"added", self.parent.key, self.step.to_bytes(8, "little"))
            keys = [combine(start, number.to_bytes(8, "little")) for number in range(plan.size)]
            values = self._values(combine, [owner.journal for owner, _ in self.parts.values()])
            journal = fingerprints(plan, Digests(keys, templates, self.digests.constants, values), combine)
        if self.parent.cache or cached:
            values = self._values(combine, [owner.cache for owner, _ in self.parts.values()])
            ids = [salt] * plan.size
            cache = fingerprints(plan, Digests(ids, templates, self.digests.constants, values), combine)
        return identified(keys, journal, cache, cached)

    def _templates(self, combine: Combine) -> list[bytes]:
        """The digests of code, with what it takes from its parent's surroundings."""
        found: list[bytes] = []
        for digest, template in zip(self.digests.templates, self.templates, strict=True):
            environment = template.environment
            if environment is None:
                found.append(digest)
                continue
            variables = [part for item in sorted(environment.variables.items()) for part in item]
            found.append(combine(digest, environment.directory, *variables))
        return found

    def _values(self, combine: Combine, owners: Sequence[bytes]) -> list[bytes]:
        values = list(self.digests.values)
        for (number, (_, place)), owner in zip(self.parts.items(), owners, strict=True):
            values[number] = combine(b"part", owner, place.to_bytes(8, "little")) if owner else b""
        return values


def identified(
    keys: Sequence[bytes], journal: Sequence[bytes], cache: Sequence[bytes], cached: Mapping[Index, float]
) -> list[Fingerprints]:
    """Put together what functions are known by, each list by index; `cached` are those with the option, and for how long."""
    found: list[Fingerprints] = []
    for index, parts in enumerate(zip(keys, journal, cache, strict=True)):
        ttl_s = cached.get(index)
        is_cached = ttl_s is not None and parts[2]
        found.append(Fingerprints(*parts, ((parts[2], ttl_s),) if is_cached and ttl_s is not None else ()))
    return found


def in_place_of(parent: Fingerprints, result: Fingerprints) -> Fingerprints:
    """Return the fingerprints of a function in whose place another one is from now on: its own, but it is cached as either."""
    cached_as = (*parent.cached_as[: _MOST_CACHED_AS - 1], *result.cached_as)
    return parent._replace(cached_as=cached_as or parent.cached_as)


def cached_functions(plan: Plan) -> dict[Index, float]:
    """Return the functions of a plan whose results are cached, and for how many seconds."""
    spans = {
        number: spec.cache_s
        for number, spec in enumerate(plan.templates)
        if spec.cache_s is not None and spec.run_if == "success"
    }
    if not spans:
        return {}
    return {index: spans[number] for index, number in enumerate(plan.template_of) if number in spans}
