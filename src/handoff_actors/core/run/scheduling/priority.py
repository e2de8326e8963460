"""Priorities: the longest path from each function to a sink, in functions, or in seconds once durations are known.

The average duration of a kind (a template) stands for all functions of that kind; a kind without a finished function
counts as the longest. The first function of such a kind goes before all others, since its duration decides their order.
Kinds that are a negligible share of all work go first, too: they delay no other kind, and their dependents can start.
If all functions are of one kind, seconds would not change the order, and nothing is recorded.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf

from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.part import ProgramPart, put
from handoff_actors.core.run.scheduling.requirements import SMOOTHING
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.moving_average import smoothed

#: Computing the levels takes about a microsecond per function. They are computed again once the functions have run a
#: hundred times as long since then, and either RECOMPUTE_GROWTH times as many have ended, or the first of a kind has.
RECOMPUTE_AFTER_S = 0.0001
RECOMPUTE_GROWTH = 1.25
#: Kinds that together are less than this share of all work go first: the others end that much later at most.
NEGLIGIBLE_SHARE = 0.01


class Priority:
    """The levels of all functions of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        #: By function; higher levels are more urgent.
        self.level: list[int] | list[float] = plan.bottom_level
        #: Number of times that levels have been computed. Levels of different versions can't be compared.
        self.version = 0
        #: Number of functions of each kind; empty if there is only one kind.
        self._counts: dict[int, int] = Counter(plan.template_of) if len(plan.templates) > 1 else {}
        #: Kinds with several functions, none of which has ended or been sent first as a probe; and the probes.
        self._unknown = {kind for kind, count in self._counts.items() if count > 1}
        self._probes: set[Index] = set()
        #: Average seconds by kind.
        self._seconds: dict[int, float] = {}
        self._spent_s = 0.0
        self._ended = 0
        self._due_at = 1.0

    def levels_for(self, indices: Iterable[Index]) -> Sequence[float] | Mapping[Index, float]:
        """Urgencies of ready functions by their indices, as `of` gives them; of others, too, in most cases."""
        if self._unknown or self._probes:
            return {index: self.of(index) for index in indices}
        return self.level

    def of(self, index: Index) -> float:
        """Urgency of a ready function; infinite for the first function of an unknown kind."""
        if self._unknown:
            kind = self._plan.template_of[index]
            if kind in self._unknown:
                self._unknown.discard(kind)
                self._probes.add(index)
        return inf if index in self._probes else self.level[index]

    def add(self, part: ProgramPart) -> None:
        """Take functions that are in the plan by now. From then on levels stay as they are, and new ones are by hops."""
        self._counts.clear()
        self._unknown.clear()
        if self.level is not self._plan.bottom_level:
            levels = self.level = [*map(float, self.level)]
            put(levels, part.indices, [float(self._plan.bottom_level[index]) for index in part.indices])

    def remove(self, indices: Iterable[Index]) -> None:
        """Forget functions that are no more in the plan."""
        discard_all(indices, self._probes)

    def assume(self, seconds: Mapping[int, float | None]) -> None:
        """Start from durations of earlier runs, by kind; None if unknown."""
        self._seconds = {kind: known for kind, known in seconds.items() if known is not None}
        self._unknown.difference_update(self._seconds)
        if self._counts and max(self._seconds.values(), default=0.0) >= RECOMPUTE_AFTER_S:
            self._recompute_levels()

    @property
    def learns(self) -> bool:
        """True if durations matter: the functions are of several kinds, and none have been added."""
        return bool(self._counts)

    def learn(self, index: Index, seconds: float) -> bool:
        """Record the duration of a function. True if the levels have been computed again."""
        if not self._counts:
            return False
        kind = self._plan.template_of[index]
        known = self._seconds.get(kind)
        self._seconds[kind] = smoothed(known, seconds, SMOOTHING)
        self._spent_s += seconds
        self._ended += 1
        if known is None:
            self._unknown.discard(kind)
            self._due_at = self._ended
        if self._ended < self._due_at or self._spent_s < RECOMPUTE_AFTER_S * self._plan.size:
            return False
        self._due_at = self._ended * RECOMPUTE_GROWTH
        self._spent_s = 0.0
        self._recompute_levels()
        return True

    def _recompute_levels(self) -> None:
        plan = self._plan
        longest = max(self._seconds.values())
        own = [self._seconds.get(kind, longest) for kind in plan.template_of]
        levels = list(own)
        # Every function is nearer to a sink than its producers, and that order, by hops, is known.
        for index in sorted(range(plan.size), key=plan.bottom_level.__getitem__):
            level = levels[index]
            for producer in plan.producers[index]:
                levels[producer] = max(levels[producer], own[producer] + level)
        negligible = self._negligible(sum(own))
        if negligible:
            kinds = zip(plan.template_of, levels, strict=True)
            levels = [inf if kind in negligible else level for kind, level in kinds]
        self.level = levels
        self.version += 1

    def _negligible(self, all_s: float) -> set[int]:
        """The kinds with the least work, as many as are together below NEGLIGIBLE_SHARE."""
        work_s = sorted((seconds * self._counts[kind], kind) for kind, seconds in self._seconds.items())
        so_far_s = accumulate(seconds for seconds, _ in work_s)
        return {
            kind
            for (_, kind), sum_s in zip(work_s, so_far_s, strict=True)
            if sum_s < NEGLIGIBLE_SHARE * all_s
        }
