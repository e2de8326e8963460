"""What functions need of a node, in classes: all functions of a class can take each other's place."""

from collections.abc import Callable, Sequence
from operator import add

from msgspec import Struct

from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY, PythonAffinity
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.jobs import Template

#: A node is sent about this much work more than it can start at once, so that it never waits for us.
AHEAD_S = 0.005
#: What a function costs a node beside the user's code.
OVERHEAD_S = 0.00001
MAX_AHEAD = 512
#: Weight of the latest function in the average of what its class, or its kind, takes.
SMOOTHING = 0.3


class RequirementClass(Struct, eq=False):
    """What a function claims and how it runs, and how long such functions have taken."""

    number: int
    cost: Resources
    is_async: bool
    #: Seconds that such functions take: a moving average, None as long as none is known.
    seconds: float | None = None
    #: The only minor version of Python that can run it; "": any. See `core.run.scheduling.python_affinity`.
    python: str = ""

    @property
    def ahead(self) -> int:
        """How many functions beyond those that can run at once a node is sent, for each of those."""
        if self.seconds is None:
            return 1
        return max(1, min(MAX_AHEAD, int(AHEAD_S / (self.seconds + OVERHEAD_S))))


class Requirements:
    """The classes of a plan."""

    def __init__(self, plan: Plan, affinity: PythonAffinity = NO_AFFINITY) -> None:
        self.classes: list[RequirementClass] = []
        self._numbers: dict[tuple[tuple[tuple[str, float], ...], bool, str], RequirementClass] = {}
        self._of_template = [
            self._class(
                template.cost,
                affinity.python * (number in affinity.templates),
                # Coroutines share a process, and so an environment: one with its own runs as sync functions do.
                is_async=template.is_async and template.environment is None,
            )
            for number, template in enumerate(plan.templates)
        ]
        #: By function.
        self.of = [self._of_template[template] for template in plan.template_of]
        if affinity.may_bind_other_functions(plan):
            self._bind_other_functions(plan, affinity)
        #: By group: what all of its members claim together, and the least that a node must offer for all of them.
        self.sum_of_group = [self._of_group(plan, members, add) for members in plan.groups]
        self.peak_of_group = [self._of_group(plan, members, max) for members in plan.groups]

    def assume(self, templates: Sequence[Template], durations: Durations) -> None:
        """Start from what functions took in earlier runs, where that is known of all in a class."""
        known: dict[RequirementClass, list[float | None]] = {}
        for template, need in zip(templates, self._of_template, strict=False):
            known.setdefault(need, []).append(durations.of(template.digest))
        for need, seconds in known.items():
            sure = [each for each in seconds if each is not None]
            if len(sure) == len(seconds):
                need.seconds = max(sure)

    def _bind_other_functions(self, plan: Plan, affinity: PythonAffinity) -> None:
        for index, need in enumerate(self.of):
            if not need.python and affinity.binds(plan, index):
                self._bind(index, affinity.python)
        for hook in plan.hooks:
            # A serialize hook runs where the function has run whose result it takes.
            if self.of[hook.index].python:
                self._bind(hook.producer, affinity.python)

    def _bind(self, index: int, python: str) -> None:
        need = self.of[index]
        self.of[index] = self._class(need.cost, python, is_async=need.is_async)

    def _class(self, cost: Resources, python: str, *, is_async: bool) -> RequirementClass:
        key = (tuple(sorted(cost.items())), is_async, python)
        need = self._numbers.get(key)
        if need is None:
            need = self._numbers[key] = RequirementClass(
                len(self.classes), dict(cost), is_async, None, python
            )
            self.classes.append(need)
        return need

    def _of_group(
        self, plan: Plan, members: Sequence[int], combine: Callable[[float, float], float]
    ) -> RequirementClass:
        total: Resources = {}
        for member in members:
            for resource, amount in plan.templates[plan.template_of[member]].cost.items():
                total[resource] = combine(total.get(resource, 0.0), amount)
        python = next((need.python for need in map(self.of.__getitem__, members) if need.python), "")
        return self._class(total, python, is_async=False)
