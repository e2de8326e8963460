"""Calls of functions that were called before with the same options: they take no results, and are compiled as one, quickly."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Self
from weakref import ref

import msgspec
from msgspec import Struct

from handoff_actors.graph.argument import Constant
from handoff_actors.graph.containers import PLAIN
from handoff_actors.graph.function import Code, Function
from handoff_actors.graph.mapping import name_of
from handoff_actors.graph.parameters import counts_of
from handoff_actors.graph.placing import holds_result
from handoff_actors.graph.plan import ArgSpec, Plan, TemplateSpec
from handoff_actors.graph.task import options_of_task
from handoff_actors.ids import FunctionId

#: Options that make a call unlike any other.
_OF_ITS_OWN = frozenset({"id", "when", "kwargs"})
_EXTRA: Final = "extra_args"
#: Functions whose calls are compiled quickly.
MOST_PATTERNS: Final = 64


class CallPattern(Struct, eq=False):
    """The properties that calls of one function with the same options have in common. It does not keep the function."""

    fn: "ref[Code]"
    #: What ids of the calls begin with.
    name: str
    options: Mapping[str, object]
    of_task: Mapping[str, object]
    #: The numbers of arguments that fit; None where that is not known.
    counts: range | None
    #: Without its code and arguments.
    function: Function
    #: Without its code; None until there is a second call.
    template: TemplateSpec | None = None

    @classmethod
    def of(cls, fn: Code, options: Mapping[str, Any], function: Function) -> Self | None:
        """The pattern of a function that has been added; None if others can't be like it."""
        is_plain = (
            function.type == "regular"
            and (function.node is None or isinstance(function.node, str))
            and function.argument_inclusion == "variadic"
            and function.run_if == "success"
            and function.cache is None
            and not (function.kwargs or function.when is not None)
            and all(type(arg) is Constant for arg in function.args)
        )
        if not is_plain or not _OF_ITS_OWN.isdisjoint(options):
            return None
        # Copies, as programs fill one dict anew for each call.
        kept = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in options.items()
            if name != _EXTRA
        }
        try:
            kept_fn = ref(fn)
        except TypeError:
            return None
        stripped = replace(function, args=(), extra_args=(), code=None)
        return cls(kept_fn, name_of(fn), kept, options_of_task(fn), counts_of(fn), stripped)

    def fits(self, fn: Code, extra_args: tuple[object, ...], options: Mapping[str, object]) -> bool:
        """True if calls with these may be like the first one."""
        return (
            self.fn() is fn
            and self.options == options
            and options_of_task(fn) is self.of_task
            and not (extra_args and holds_result(extra_args))
        )

    def takes(self, args: tuple[object, ...], extra_args: tuple[object, ...]) -> bool:
        """True if one of them is, with these arguments."""
        return (self.counts is None or len(args) + len(extra_args) in self.counts) and (
            PLAIN.issuperset(map(type, args)) or _are_values(args)
        )


#: The id of a call, its pattern, its function, arguments and extra arguments.
RepeatedCall = tuple[FunctionId, CallPattern, Code, tuple[object, ...], tuple[object, ...]]


def _are_values(args: tuple[object, ...]) -> bool:
    return Constant not in map(type, args) and not holds_result(args)


class RepeatedCalls:
    """Calls that are like earlier ones, with other arguments, in the order of adding."""

    def __init__(self) -> None:
        self._calls: list[RepeatedCall] = []
        #: By the identity of the function.
        self._patterns: dict[int, CallPattern] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(
        self,
        fn: Code,
        calls: Iterable[tuple[object, ...]],
        options: Mapping[str, Any],
        fresh_id: Callable[[str], FunctionId],
    ) -> list[FunctionId]:
        """Add calls, each with its arguments, up to one that is not like an earlier call, and return their ids.

        `fresh_id` makes an id that begins so.
        """
        pattern = self._patterns.get(id(fn))
        if pattern is None:
            return []
        extra_args: tuple[object, ...] = ()
        if _EXTRA in options:
            options = dict(options)
            extra_args = tuple(options.pop(_EXTRA))
        if not pattern.fits(fn, extra_args, options):
            return []
        ids: list[FunctionId] = []
        for args in calls:
            if not pattern.takes(args, extra_args):
                break
            function_id = fresh_id(pattern.name)
            self._calls.append((function_id, pattern, fn, args, extra_args))
            ids.append(function_id)
        return ids

    def note(self, fn: Code, options: Mapping[str, Any], function: Function) -> None:
        """Take note of a function that has been added otherwise: further ones may be like it."""
        pattern = CallPattern.of(fn, options, function)
        if pattern is not None:
            if len(self._patterns) >= MOST_PATTERNS:
                self._patterns.clear()
            self._patterns[id(fn)] = pattern

    def find(self, function_id: FunctionId) -> Function | None:
        """Find a call by its id, as a function; None if it is not there, or was taken off."""
        return next((function_of(call) for call in self._calls if call[0] == function_id), None)

    def take(self, most: int) -> list[RepeatedCall]:
        """Take calls off, up to so many, the oldest first."""
        taken = self._calls[:most]
        del self._calls[:most]
        return taken


def function_of(call: RepeatedCall) -> Function:
    """The call as a function of a DAG."""
    function_id, pattern, code, args, extra_args = call
    like = pattern.function
    return Function(
        function_id,
        tuple(map(Constant, args)),
        code,
        extra_args=extra_args,
        cost=like.cost,
        node=like.node,
        max_retries=like.max_retries,
        retry_backoff=like.retry_backoff,
        retry_on=like.retry_on,
        timeout=like.timeout,
        priority=like.priority,
        env_vars=like.env_vars,
        working_dir=like.working_dir,
    )


def plan_of(calls: Sequence[RepeatedCall], dag_id: FunctionId) -> Plan:
    """Compile calls."""
    size = len(calls)
    plan = Plan.empty(dag_id)
    plan.size = size
    plan.ids = [call[0] for call in calls]
    plan.index_of = {function_id: index for index, function_id in enumerate(plan.ids)}
    plan.producers, plan.dependents = [()] * size, [()] * size
    plan.bottom_level, plan.constants_of, plan.group_of = [1] * size, [-1] * size, [-1] * size
    plan.sinks = list(range(size))
    templates: dict[CallPattern, int] = {}
    # By identity: equal values of different types must stay apart, and a shared value is sent once.
    numbers: dict[int, int] = {}
    values, rows = plan.values, plan.args
    for index, (_, _, _, args, extra_args) in enumerate(calls):
        row: list[ArgSpec] = []
        for arg in args:
            place = numbers.get(id(arg))
            if place is None:
                place = numbers[id(arg)] = len(values)
                values.append(arg)
            row.append(~place)
        rows.append(tuple(row))
        if extra_args:
            plan.constants_of[index] = len(plan.constants)
            plan.constants.append((extra_args, {}))
    for _, alike in groupby(calls, itemgetter(1)):
        _add_pattern(plan, templates, list(alike))
    return plan


def _add_pattern(plan: Plan, templates: dict[CallPattern, int], calls: Sequence[RepeatedCall]) -> None:
    """Add to a plan what the next calls have in common, which are of one pattern."""
    size, pattern = len(calls), calls[0][1]
    like = pattern.function
    added = range(len(plan.template_of), len(plan.template_of) + size)
    number = templates.setdefault(pattern, len(templates))
    if number == len(plan.templates):
        plan.templates.append(_template_of(calls[0]))
    plan.template_of += [number] * size
    plan.priority += [int(like.priority)] * size
    plan.node_of += [like.node] * size  # type: ignore[list-item]  # see `CallPattern.of`
    if like.max_retries is not None:
        plan.max_retries |= dict.fromkeys(added, int(like.max_retries))
    if like.retry_backoff is not None:
        first_s, factor, most_s = like.retry_backoff
        plan.retry_backoff |= dict.fromkeys(added, (float(first_s), float(factor), float(most_s)))


def _template_of(call: RepeatedCall) -> TemplateSpec:
    _, pattern, code, *_ = call
    if pattern.template is None:
        alone = function_of(call)
        template = Plan.of({alone.id: alone}, None).templates[0]
        pattern.template = msgspec.structs.replace(template, code=len)
    return msgspec.structs.replace(pattern.template, code=code)
