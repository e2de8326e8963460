"""How urgent functions are: the way that is left from each to a sink, in functions, or in seconds once some are known.

What functions of a kind (a template) have taken stands for what others of it will take; a kind of which none has ended
is taken for an average one. Where all are of one kind, seconds would change no order, and nothing is learned.
"""

from collections.abc import Mapping

from handoff_actors.core.needs import SMOOTHING
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index

#: To work out the levels takes about a microsecond for each function. It is done again once the functions themselves
#: have taken a hundred times that since, and this many times as many as then have ended, or the first of its kind.
WORTH_S = 0.0001
GROWTH = 1.25


class Urgency:
    """The levels of all functions of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        #: By function; the higher, the more urgent.
        self.level: list[int] | list[float] = plan.bottom_level
        self._has_kinds = len(plan.templates) > 1
        #: By template.
        self._seconds: dict[int, float] = {}
        self._spent_s = 0.0
        self._ended = 0
        self._due_at = 1.0

    def assume(self, seconds: Mapping[int, float | None]) -> None:
        """Start from what functions took in earlier runs, by template; None: that is not known."""
        self._seconds = {kind: known for kind, known in seconds.items() if known is not None}
        if self._has_kinds and max(self._seconds.values(), default=0.0) >= WORTH_S:
            self.level = self._levels()

    def learn(self, index: Index, seconds: float) -> bool:
        """Take note of what a function took; whether the levels are others now."""
        if not self._has_kinds:
            return False
        kind = self._plan.template_of[index]
        known = self._seconds.get(kind)
        self._seconds[kind] = seconds if known is None else known + SMOOTHING * (seconds - known)
        self._spent_s += seconds
        self._ended += 1
        if known is None:
            self._due_at = self._ended
        if self._ended < self._due_at or self._spent_s < WORTH_S * self._plan.size:
            return False
        self._due_at = self._ended * GROWTH
        self._spent_s = 0.0
        self.level = self._levels()
        return True

    def _levels(self) -> list[float]:
        plan = self._plan
        average = sum(self._seconds.values()) / len(self._seconds)
        own = [self._seconds.get(kind, average) for kind in plan.template_of]
        levels = list(own)
        # One function is nearer to a sink than those whose values it takes: by hops, that order is known.
        for index in sorted(range(plan.size), key=plan.bottom_level.__getitem__):
            level = levels[index]
            for producer in plan.producers[index]:
                levels[producer] = max(levels[producer], own[producer] + level)
        return levels
