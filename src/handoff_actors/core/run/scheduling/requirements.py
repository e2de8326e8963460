"""Requirements of functions, in classes: functions of one class are interchangeable for placement."""

import operator
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from handoff_actors.core.resources import summed
from handoff_actors.core.run.facts.part import ProgramPart, put
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY, PythonAffinity
from handoff_actors.graph.plan import OUTER, ArgSpec, CallSpec, Plan
from handoff_actors.ids import Index, Resources

#: A node is sent about this much work more than it can start at once, beside what lasts for a round trip, so that it never
#: waits for a message.
AHEAD_S = 0.005
#: Overhead of a node per function, besides the user's code.
OVERHEAD_S = 0.00001
MAX_AHEAD = 4096
#: Weight of the latest function in the moving average of the durations of its class, or of its kind.
SMOOTHING = 0.3


NO_CLAIM: Resources = {}
#: A claim in order, whether functions are async, their version of Python, the claims of their objects in order, and whether
#: they are stages.
RequirementKey = tuple[tuple[tuple[str, float], ...], bool, str, tuple[tuple[str, float], ...], bool]


NO_KEY: RequirementKey = ((), False, "", (), False)


class RequirementClass(Struct, eq=False):
    """The claim, Python version and mode (sync or async) that functions share, and their average duration."""

    number: int
    cost: Resources
    #: Functions take none of the usual workers of their node: coroutines, and stages.
    is_async: bool
    #: Moving average of the durations of such functions; None if unknown.
    seconds: float | None = None
    #: The only minor version of Python that can run them; "": any. See `core.run.scheduling.python_affinity`.
    python: str = ""
    #: Equal for classes of different runs that need the same; made here where it is not given.
    key: RequirementKey = NO_KEY
    claims_no_cpu: bool = False
    #: The claims of the objects of `per_worker` that such functions need. Sync functions have a copy each, whose claim is
    #: part of `cost`; coroutines share one.
    warm: Resources = {}
    #: The claim without objects, and with them: what a node must offer.
    own: Resources = {}
    least: Resources = {}
    #: Each goes on for as long as its app likes: none is sent to wait behind others, and how long they take says nothing.
    is_stage: bool = False

    def __post_init__(self) -> None:
        self.own = self.least = self.cost
        if self.key is NO_KEY:
            self.key = _key(self.own, self.warm, self.python, is_async=self.is_async, is_stage=self.is_stage)
        if self.warm:
            self.least = summed(self.own, self.warm)
            self.cost = self.own if self.is_async else self.least
        self.claims_no_cpu = "cpu" not in self.cost

    def ahead(self, round_trip_s: float) -> int:
        """Number of functions per slot that a node is sent in advance, beyond those that can run at once.

        They last until the end of one of them has been heard of, `round_trip_s` later, and the next has arrived.
        """
        if self.seconds is None:
            return 1
        return max(1, min(MAX_AHEAD, int((AHEAD_S + round_trip_s) / (self.seconds + OVERHEAD_S))))


class Requirements:
    """The requirement classes of a plan."""

    def __init__(
        self, plan: Plan, affinity: PythonAffinity = NO_AFFINITY, whole: ProgramPart | None = None
    ) -> None:
        self.classes: list[RequirementClass] = []
        self._numbers: dict[RequirementKey, RequirementClass] = {}
        #: By number, in the order of which templates come; those that are gone included.
        self._of_template: list[RequirementClass] = []
        #: The class of each function.
        self.of: list[RequirementClass] = []
        #: Templates of the objects of `per_worker` that functions need, where they need any.
        self.warm: dict[Index, frozenset[int]] = {}
        #: By collocated group: the sum of its members' claims, and the largest claim, which a node must offer at least.
        self.sum_of_group: list[RequirementClass] = []
        self.peak_of_group: list[RequirementClass] = []
        self.add(plan, whole or ProgramPart.whole(plan), plan, affinity)

    def add(self, plan: Plan, part: ProgramPart, added: Plan, affinity: PythonAffinity) -> None:
        """Take functions that are in the plan by now; `added` and `affinity` are about them alone, as numbered by themselves."""
        classes = self._of_template
        # Those that the run has already need the same again: the code that binds one is its own.
        for place, number in enumerate(part.templates):
            if number == len(classes):
                template, python = added.templates[place], affinity.python * (place in affinity.templates)
                # Coroutines share a process, and so an environment: one with its own runs as sync functions do.
                is_async = template.is_stage or (template.is_async and template.environment is None)
                is_stage = template.is_stage
                classes.append(self._class(template.cost, python, is_async=is_async, is_stage=is_stage))
        put(self.of, part.indices, [classes[plan.template_of[index]] for index in part.indices])
        self._add_warm(plan, part, added)
        if affinity.may_bind_other_functions(added):
            self._bind_other_functions(part.indices, added, affinity)
        if part.groups:
            members = [plan.groups[group] for group in part.groups]
            put(self.sum_of_group, part.groups, [self._of_group(each, operator.add) for each in members])
            put(self.peak_of_group, part.groups, [self._of_group(each, max) for each in members])

    def assume(self, usual_s: Sequence[float | None]) -> None:
        """Start from durations of earlier runs, by template, for classes of which all templates have one."""
        known: dict[RequirementClass, list[float | None]] = {}
        for need, seconds in zip(self._of_template, usual_s, strict=False):
            known.setdefault(need, []).append(seconds)
        for need, each_s in known.items():
            sure = [seconds for seconds in each_s if seconds is not None]
            if len(sure) == len(each_s):
                need.seconds = max(sure)

    def _bind_other_functions(self, indices: Sequence[Index], added: Plan, affinity: PythonAffinity) -> None:
        for place, index in enumerate(indices):
            if not self.of[index].python and affinity.binds(added, place):
                self._bind(index, affinity.python)
        for hook in added.hooks:
            # A serialize hook runs on the node of the producer whose result it takes.
            if self.of[indices[hook.index]].python and hook.producer < OUTER:
                self._bind(indices[hook.producer], affinity.python)

    def _bind(self, index: int, python: str) -> None:
        need = self.of[index]
        self.of[index] = self._class(
            need.own, python, need.warm, is_async=need.is_async, is_stage=need.is_stage
        )

    def _add_warm(self, plan: Plan, part: ProgramPart, added: Plan) -> None:
        if self.warm:
            # Indices are used again.
            for index in part.indices:
                self.warm.pop(index, None)
        for place, needed in _warm_of(added).items():
            index, numbers = part.indices[place], frozenset(map(part.templates.__getitem__, needed))
            self.warm[index] = numbers
            self.of[index] = self._with_warm(plan, self.of[index], numbers)

    def _with_warm(self, plan: Plan, need: RequirementClass, numbers: Iterable[int]) -> RequirementClass:
        warm = summed(*(plan.templates[number].cost for number in sorted(numbers)))
        return self._class(need.own, need.python, warm, is_async=need.is_async, is_stage=need.is_stage)

    def _class(
        self,
        own: Resources,
        python: str,
        warm: Resources = NO_CLAIM,
        *,
        is_async: bool,
        is_stage: bool = False,
    ) -> RequirementClass:
        key = _key(own, warm, python, is_async=is_async, is_stage=is_stage)
        need = self._numbers.get(key)
        if need is None:
            need = self._numbers[key] = RequirementClass(
                len(self.classes),
                dict(own),
                is_async,
                None,
                python,
                key,
                warm=dict(warm),
                is_stage=is_stage,
            )
            self.classes.append(need)
        return need

    def _of_group(self, members: Sequence[int], combine: Callable[[float, float], float]) -> RequirementClass:
        total: Resources = {}
        for member in members:
            for resource, amount in self.of[member].least.items():
                total[resource] = combine(total.get(resource, 0.0), amount)
        python = next((need.python for need in map(self.of.__getitem__, members) if need.python), "")
        return self._class(total, python, is_async=False)


def _key(own: Resources, warm: Resources, python: str, *, is_async: bool, is_stage: bool) -> RequirementKey:
    return tuple(sorted(own.items())), is_async, python, tuple(sorted(warm.items())), is_stage


def _warm_of(plan: Plan) -> dict[Index, frozenset[int]]:
    """The templates of the objects that functions need, also in inline functions among their arguments."""
    templates = {number for number, spec in enumerate(plan.templates) if spec.warm is not None}
    if not templates:
        return {}
    return {
        index: frozenset(needed)
        for index, args in enumerate(plan.args)
        if (needed := templates.intersection(_templates_called(args)))
    }


def _templates_called(args: Iterable[ArgSpec]) -> set[int]:
    pending = [spec for spec in args if isinstance(spec, CallSpec)]
    # Shared calls are entered once: paths through diamonds of them are far more than calls.
    entered: dict[int, int] = {}
    while pending:
        call = pending.pop()
        if id(call) not in entered:
            entered[id(call)] = call.template
            pending += [spec for spec in call.args if isinstance(spec, CallSpec)]
    return set(entered.values())
