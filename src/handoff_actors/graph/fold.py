"""Turn the arguments of one function into argument specs: inline functions and hooks become calls within it.

An inline function is folded anew for each consumer, since hooks inside it are told the consumer's node. Within
one consumer it is folded once and shared, however often it occurs; evaluating the specs computes it each time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from types import MethodType

from msgspec import Struct

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Argument, Constant, ItemsOf, PerWorker
from handoff_actors.graph.checks import is_coroutine_code
from handoff_actors.graph.environment import Environment
from handoff_actors.graph.function import ArgumentInclusion, Function, RunIf, conditions_of, producer_ids
from handoff_actors.graph.placing import Skeleton
from handoff_actors.graph.spec import ArgSpec, CallSpec, Hook, HookId, ListOf, NodeOf, TemplateSpec, WarmSpec
from handoff_actors.ids import FunctionId, Index, Resources
from handoff_actors.retry_on import RetryOn
from handoff_actors.stage_mark import is_stage_code
from handoff_actors.time_spans import seconds_in

#: Calls nest as deep as inline functions and hooks do, in messages and on the stack of a worker; msgspec gives up
#: below 500, and Python's own stack holds 1,000 frames.
MAX_INLINE_DEPTH = 200
#: Each path from a consumer to an inline function is one call: diamonds of them double with every layer.
MAX_INLINE_CALLS = 100_000


class Fold:
    """Fold functions one after another, numbering templates, constants, values and hooks on the way."""

    def __init__(
        self,
        functions: Mapping[FunctionId, Function],
        order: Iterable[FunctionId],
        index_of: Mapping[FunctionId, Index],
        first_hook: Index,
        *,
        ignore_cost: bool,
    ) -> None:
        self.templates: list[TemplateSpec] = []
        self.constants: list[tuple[tuple[object, ...], dict[str, object]]] = []
        self.values: list[object] = []
        #: Numbers of the constants with placeholders.
        self.placed: set[int] = set()
        self.hooks: list[Hook] = []
        self.hook_ids: list[HookId] = []
        #: Templates of the hooks, in the order of the hooks.
        self.hook_templates: list[int] = []
        self._functions = functions
        self._index_of = index_of
        self._first_hook = first_hook
        self._ignore_cost = ignore_cost
        inline_ids = [function_id for function_id in order if functions[function_id].type == "inline"]
        check_inline_sizes([functions[function_id] for function_id in inline_ids])
        self._inline_place = {function_id: place for place, function_id in enumerate(inline_ids)}
        self._template_numbers: dict[object, int] = {}
        #: The function whose template number was looked up last, and that number.
        self._last: Function | None = None
        self._last_number = 0
        self._value_numbers: dict[int, int] = {}
        self._constants_of_inline: dict[FunctionId, int] = {}
        #: The calls that make objects of `per_worker`, by identity of these and by environment. They are kept alive.
        self._warm_calls: dict[tuple[int, Environment | None], tuple[PerWorker[object], CallSpec]] = {}

    def args_of(self, function: Function) -> tuple[ArgSpec, ...]:
        """Fold the arguments of a regular function."""
        index_of = self._index_of
        try:
            args = [index_of[arg] for arg in function.args]
            if function.when is not None:
                args += [index_of[condition] for condition in conditions_of(function)]
            return tuple(args)
        except KeyError:
            return self._fold_consumer(function)

    def template_of(self, function: Function) -> int:
        """Return the number of the function's template, which it may share with others."""
        # Functions that are alike mostly come one after the other; to compare costs is quicker than to hash one.
        if self._last is None or not _are_alike(function, self._last):
            cost = None if self._ignore_cost else function.cost
            self._last, self._last_number = (
                function,
                self._template(
                    function.code,
                    function.argument_inclusion,
                    cost,
                    function.timeout,
                    Environment.of(function.env_vars, function.working_dir),
                    function.retry_on,
                    function.run_if,
                    len(conditions_of(function)),
                    function.cache,
                ),
            )
        return self._last_number

    def constants_of(self, function: Function) -> int:
        """Return the number of the function's own extra arguments; -1 if there are none."""
        skeleton = function.argument_inclusion
        if isinstance(skeleton, Skeleton):
            self.placed.add(len(self.constants))
            self.constants.append(
                ((*skeleton.args, *function.extra_args), {**skeleton.kwargs, **function.kwargs})
            )
            return len(self.constants) - 1
        if not function.extra_args and not function.kwargs:
            return -1
        self.constants.append((tuple(function.extra_args), dict(function.kwargs)))
        return len(self.constants) - 1

    def _fold_consumer(self, function: Function) -> tuple[ArgSpec, ...]:
        environment = Environment.of(function.env_vars, function.working_dir)
        consumer = _Consumer(function.id, self._index_of[function.id], {}, function.retry_on, environment)
        inner_positions = count(len(function.args))
        for inline in self._inlines_within(function):
            args = self._fold_args(inline, consumer, inner_positions)
            consumer.calls[inline.id] = CallSpec(
                self._inline_template(inline), args, self._inline_constants(inline)
            )
        conditions = [self._fold_condition(condition, consumer) for condition in conditions_of(function)]
        return (*self._fold_args(function, consumer, count()), *conditions)

    def _fold_condition(self, condition: FunctionId, consumer: "_Consumer") -> ArgSpec:
        if isinstance(condition, Constant):
            return ~self._value(condition.value)
        return consumer.calls[condition] if condition in consumer.calls else self._index_of[condition]

    def _inlines_within(self, function: Function) -> list[Function]:
        """List the inline functions behind the function's arguments, producers first."""
        if not self._inline_place:
            return []
        found: set[FunctionId] = set()
        pending = [function]
        while pending:
            for producer_id in producer_ids(pending.pop()):
                if producer_id in self._inline_place and producer_id not in found:
                    found.add(producer_id)
                    pending.append(self._functions[producer_id])
        return [self._functions[inline_id] for inline_id in sorted(found, key=self._inline_place.__getitem__)]

    def _inline_template(self, inline: Function) -> int:
        return self._template(inline.code, inline.argument_inclusion)

    def _inline_constants(self, inline: Function) -> int:
        if inline.id not in self._constants_of_inline:
            self._constants_of_inline[inline.id] = self.constants_of(inline)
        return self._constants_of_inline[inline.id]

    def _fold_args(
        self, function: Function, consumer: "_Consumer", positions: Iterator[int]
    ) -> tuple[ArgSpec, ...]:
        specs: list[ArgSpec] = []
        for arg, position in zip(function.args, positions, strict=False):
            if isinstance(arg, Constant):
                specs.append(~self._value(arg.value))
            elif isinstance(arg, Argument):
                specs.append(self._fold_hooks(arg, consumer, position))
            elif isinstance(arg, PerWorker):
                specs.append(self._warm_call(arg, consumer.environment))
            else:
                specs.append(consumer.calls[arg] if arg in consumer.calls else self._index_of[arg])
        return tuple(specs)

    def _warm_call(self, made: PerWorker[object], environment: Environment | None) -> CallSpec:
        key = (id(made), environment)
        if key not in self._warm_calls:
            kwargs = dict(made.kwargs)
            constants = -1
            if made.args or kwargs:
                constants = len(self.constants)
                self.constants.append((made.args, kwargs))
            self._warm_calls[key] = made, CallSpec(len(self.templates), (), constants)
            self.templates.append(
                TemplateSpec(
                    made.load,
                    is_coroutine_code(made.load),
                    as_list=False,
                    cost={}
                    if self._ignore_cost
                    else {name: float(amount) for name, amount in made.cost.items()},
                    timeout=None,
                    environment=environment,
                    warm=WarmSpec(made.name, made.idle, made.args, kwargs),
                )
            )
        return self._warm_calls[key][1]

    def _fold_hooks(self, arg: Argument, consumer: "_Consumer", position: int) -> ArgSpec:
        spec: ArgSpec
        target = NodeOf(consumer.index)
        if arg.id in consumer.calls:
            source = target
            spec = consumer.calls[arg.id]
            if arg.serialize is not None:
                spec = CallSpec(self._template(arg.serialize), (spec, source, target), -1)
        else:
            index = self._index_of[arg.id]
            if isinstance(arg, ItemsOf):
                return ListOf(index)
            spec, source = index, NodeOf(index)
            if arg.serialize is not None:
                spec = self._add_hook(arg.serialize, arg.id, consumer, position)
        if arg.deserialize is not None:
            spec = CallSpec(self._template(arg.deserialize), (spec, source, target), -1)
        return spec

    def _add_hook(
        self, code: Callable[..., object], producer_id: FunctionId, consumer: "_Consumer", position: int
    ) -> Index:
        index = self._first_hook + len(self.hooks)
        self.hooks.append(Hook(index, self._index_of[producer_id], consumer.index))
        self.hook_templates.append(self._template(code, retry_on=consumer.retry_on))
        self.hook_ids.append(HookId("serialize", producer_id, consumer.id, position))
        return index

    def _template(
        self,
        code: Callable[..., object] | None,
        inclusion: ArgumentInclusion | Skeleton = "variadic",
        cost: Mapping[str, float] | None = None,
        timeout: float | None = None,
        environment: Environment | None = None,
        retry_on: RetryOn = None,
        run_if: RunIf = "success",
        conditions: int = 0,
        cache: float | str | None = None,
    ) -> int:
        assert code is not None, "only inputs have no code, and they have no plan"
        rule_key = retry_on if isinstance(retry_on, tuple) else id(retry_on)
        is_placed = isinstance(inclusion, Skeleton)
        kind = "placed" if is_placed else inclusion
        claims = frozenset(cost.items()) if cost else None
        key = (_code_key(code), kind, timeout, claims, environment, rule_key, run_if, conditions, cache)
        number = self._template_numbers.get(key)
        if number is None:
            number = self._template_numbers[key] = len(self.templates)
            claimed: Resources = {name: float(amount) for name, amount in cost.items()} if cost else {}
            timeout_s = None if timeout is None else float(timeout)
            self.templates.append(
                TemplateSpec(
                    code,
                    is_coroutine_code(code),
                    inclusion == "as_list",
                    claimed,
                    timeout_s,
                    environment,
                    retry_on,
                    placed_from=0 if is_placed else None,
                    run_if=run_if,
                    conditions=conditions,
                    cache_s=None if cache is None else seconds_in("cache", cache),
                    is_stage=is_stage_code(code),
                )
            )
        return number

    def _value(self, value: object) -> int:
        # By identity: equal values of different types must stay apart, and a shared value is sent once.
        number = self._value_numbers.setdefault(id(value), len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


def _code_key(code: Callable[..., object]) -> object:
    # Each access to a method makes a new object for the same thing.
    return (id(code.__self__), id(code.__func__)) if isinstance(code, MethodType) else id(code)


def _are_alike(one: Function, other: Function) -> bool:
    return (
        one.code is other.code
        and one.cost == other.cost
        and one.timeout == other.timeout
        and one.argument_inclusion == other.argument_inclusion
        and one.env_vars == other.env_vars
        and one.working_dir == other.working_dir
        and one.retry_on is other.retry_on
        and one.run_if == other.run_if
        and one.cache == other.cache
        and (one.when is other.when or len(conditions_of(one)) == len(conditions_of(other)))
    )


class _Consumer(Struct):
    id: FunctionId
    index: Index
    #: The inline functions behind its arguments, as far as they are folded.
    calls: dict[FunctionId, CallSpec]
    retry_on: RetryOn
    environment: Environment | None


def check_inline_sizes(inlines: Sequence[Function]) -> None:
    """Raise InvalidFunctionError for more inline calls than can be sent or evaluated. `inlines`: producers first."""
    depths: dict[FunctionId, int] = {}
    sizes: dict[FunctionId, int] = {}
    for inline in inlines:
        inner = [_producer_and_hook_count(arg) for arg in inline.args]
        depth = 1 + max((depths.get(producer_id, 0) + hooks for producer_id, hooks in inner), default=0)
        size = 1 + sum(sizes.get(producer_id, 0) + hooks for producer_id, hooks in inner)
        if depth > MAX_INLINE_DEPTH:
            reason = (
                f"its inline functions nest {depth} deep, {MAX_INLINE_DEPTH} is the most; make some regular"
            )
            raise InvalidFunctionError(inline.id, reason)
        if size > MAX_INLINE_CALLS:
            reason = f"it stands for {size} inline calls, {MAX_INLINE_CALLS} is the most; make some of them regular"
            raise InvalidFunctionError(inline.id, reason)
        depths[inline.id] = depth
        sizes[inline.id] = size


def _producer_and_hook_count(arg: FunctionId) -> tuple[FunctionId, int]:
    if isinstance(arg, Argument):
        return arg.id, (arg.serialize is not None) + (arg.deserialize is not None)
    return arg, 0
