"""A DAG compiled once into dense integers, by which a run is scheduled.

Regular functions have the indices 0, 1, ... in the order of adding. Inline functions are folded into those that
use them and have no index. Serialize hooks are functions of their own and come after the regular ones.

The plan of a run may grow, by the plans of further graphs: see `core.run.growing.growth`. Functions of such a graph may take results
of functions that the run has already. In the graph's own plan these are numbered from `OUTER` on.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, islice
from operator import attrgetter, ne
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeGuard

from msgspec import Struct, field

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Constant, Handle
from handoff_actors.graph.checks import code_fault
from handoff_actors.graph.fold import Fold
from handoff_actors.graph.function import Function
from handoff_actors.graph.parameters import check_calls
from handoff_actors.graph.spec import ArgSpec, CallSpec, Hook, HookId, ListOf, NodeOf, TemplateSpec
from handoff_actors.graph.validation import collocation_roots, dependency_order
from handoff_actors.ids import FunctionId, Index
from handoff_actors.text import near, repr_of

if TYPE_CHECKING:
    from handoff_actors.graph.dag import DAG

__all__ = ["ArgSpec", "CallSpec", "Hook", "HookId", "ListOf", "NodeOf", "Plan", "TemplateSpec"]

_STREAM_OPTIONS: Final = ("init", "parallelism", "key", "batch_size", "batch_timeout")
_NO_STREAM: Final = (None, 1, None, None, None)
_stream_options = attrgetter(*_STREAM_OPTIONS)
#: The index of the first function in `Plan.outer`: no plan has as many of its own.
OUTER: Final = 1 << 40
#: Ids that an error about an unknown one lists, if none is near.
_IDS_LISTED: Final = 5


class Plan(Struct):
    """A compiled DAG, as a run uses it. Lists are by index, unless a line says otherwise; only `core.run.growing.growth` changes them."""

    dag_id: FunctionId
    #: Serialize hooks have a `HookId`.
    ids: list[FunctionId]
    #: Regular functions only.
    index_of: dict[FunctionId, Index]
    #: The number of indices.
    size: int
    args: list[tuple[ArgSpec, ...]]
    #: The distinct functions whose results it needs, also through inline ones, in the order of first use.
    producers: list[tuple[Index, ...]]
    #: The inverse of `producers`.
    dependents: list[Collection[Index]]
    #: Functions on the longest path from it to a sink, both included.
    bottom_level: list[int]
    priority: list[int]
    template_of: list[int]
    #: By template number.
    templates: list[TemplateSpec]
    #: Position in `constants`; -1: neither extra_args nor kwargs.
    constants_of: list[int]
    #: (extra_args, kwargs) by position.
    constants: list[tuple[tuple[object, ...], dict[str, object]]]
    #: Numbers of those among them with placeholders.
    placed: set[int]
    #: Constants among args, by number.
    values: list[object]
    #: The node it is pinned to; one pin holds for its whole collocation group.
    node_of: list[str | None]
    #: Number of its collocation group, or -1.
    group_of: list[int]
    #: Members of each group, by group number, in the order of adding.
    groups: list[tuple[Index, ...]]
    #: Only for functions that set it.
    max_retries: dict[Index, int]
    #: (first_s, factor, max_s), only for functions that set it.
    retry_backoff: dict[Index, tuple[float, float, float]]
    #: Functions whose result no other function takes.
    sinks: list[Index]
    #: In the order of their indices.
    hooks: list[Hook]
    #: By the hook's own index.
    hook_of: dict[Index, Hook]
    #: Functions of the run that are not in this graph and whose results its functions take.
    outer: list[FunctionId] = field(default_factory=list)
    #: The function that has added it, only for those that a function of the run has added.
    parent_of: dict[Index, FunctionId] = field(default_factory=dict)

    @classmethod
    def empty(cls, dag_id: FunctionId) -> Self:
        """Make the plan of a run that has no function yet."""
        return cls(
            dag_id, [], {}, 0, [], [], [], [], [], [], [], [], [], set(), [], [], [], [], {}, {}, [], [], {}
        )

    @classmethod
    def compile(cls, dag: "DAG", *, local: bool = False) -> Self:
        """Validate and compile; `local` ignores costs and placements. Raises DagError, also for an input."""
        return cls.of(dag.functions, dag.id, local=local)

    @classmethod
    def of(
        cls,
        functions: Mapping[FunctionId, Function],
        dag_id: FunctionId,
        outer: Iterable[FunctionId] = (),
        *,
        local: bool = False,
    ) -> Self:
        """Validate and compile functions, which may take results of `outer` ones. Raises DagError."""
        folded = _folded(functions, outer, local=local)
        regular, index_of, groups, fold = folded.regular, folded.index_of, folded.groups, folded.fold
        edges = _edges(folded)
        consumers = [regular[hook.consumer] for hook in fold.hooks]
        size = len(edges.producers)
        return cls(
            dag_id=dag_id,
            ids=[*index_of, *fold.hook_ids],
            index_of=index_of,
            size=size,
            args=edges.args,
            producers=edges.producers,
            dependents=edges.dependents,
            bottom_level=edges.bottom_level,
            priority=[int(function.priority) for function in (*regular, *consumers)],
            template_of=[*map(fold.template_of, regular), *fold.hook_templates],
            templates=fold.templates,
            constants_of=[*map(fold.constants_of, regular), *([-1] * len(consumers))],
            constants=fold.constants,
            placed=fold.placed,
            values=fold.values,
            node_of=_pins(regular, groups, size, local=local),
            group_of=group_numbers(groups, size),
            groups=groups,
            max_retries=_max_retries([*regular, *consumers]),
            retry_backoff=_retry_backoff([*regular, *consumers]),
            sinks=edges.sinks,
            hooks=fold.hooks,
            hook_of={hook.index: hook for hook in fold.hooks},
            outer=list(folded.outer_of),
        )

    def id_of(self, given: FunctionId) -> FunctionId:
        """Return the id that a handle stands for; any other id as it is. Raises KeyError for a handle of another DAG."""
        if not isinstance(given, Handle):
            return given
        dag_id = given.dag_id
        if dag_id != self.dag_id:
            raise KeyError(
                f"{repr_of(given)} belongs to DAG {repr_of(dag_id)}, and this is a run of DAG {repr_of(self.dag_id)}: use a"
                " handle of that one, or an id"
            )
        return given.id

    def find(self, given: FunctionId) -> Index | None:
        """Return the index of a function by its id, or a handle; None if there is none, as for a handle of another DAG."""
        if isinstance(given, Handle) and given.dag_id != self.dag_id:
            return None
        return self.index_of.get(self.id_of(given))

    def index(self, given: FunctionId) -> Index:
        """Return the index of a function by its id, or a handle. Raises KeyError, which lists ids that are near."""
        index = self.index_of.get(self.id_of(given))
        if index is None:
            raise KeyError(
                f"DAG {repr_of(self.dag_id)} has no function {repr_of(given)} with a result of its own{self._ids_near(given)}"
            )
        return index

    def _ids_near(self, given: FunctionId) -> str:
        found: list[FunctionId] = []
        if isinstance(given, str):
            found += near(given, (known for known in self.index_of if isinstance(known, str)))
        if found:
            return f"; near it: {', '.join(map(repr_of, found))}"
        some = [repr_of(known) for known in islice(self.index_of, _IDS_LISTED)]
        return (
            f"; it has {', '.join(some)}{', ...' if len(self.index_of) > len(some) else ''}" if some else ""
        )


class _Folded(NamedTuple):
    """Validated functions with their indices, and their arguments folded."""

    #: In the order of their indices.
    regular: list[Function]
    index_of: dict[FunctionId, Index]
    outer_of: dict[FunctionId, Index]
    #: All functions, each after those whose results it takes.
    order: Sequence[FunctionId]
    #: As in `Plan`.
    groups: list[tuple[Index, ...]]
    args: list[tuple[ArgSpec, ...]]
    fold: Fold


def _folded(functions: Mapping[FunctionId, Function], outer: Iterable[FunctionId], *, local: bool) -> _Folded:
    outer_of = {function_id: OUTER + place for place, function_id in enumerate(outer)}
    order = dependency_order(functions, outer_of)
    roots = collocation_roots(functions)
    regular = _regular_functions(functions.values())
    check_calls(functions.values())
    index_of = {function.id: index for index, function in enumerate(regular)}
    known = index_of | outer_of if outer_of else index_of
    fold = Fold(functions, order, known, len(index_of), ignore_cost=local)
    args = [fold.args_of(function) for function in regular]
    groups = [] if local else _groups(regular, roots, index_of)
    return _Folded(regular, index_of, outer_of, order, groups, args, fold)


class _Edges(NamedTuple):
    """The arguments of functions and hooks, and what follows from these. Lists are by index."""

    args: list[tuple[ArgSpec, ...]]
    producers: list[tuple[Index, ...]]
    dependents: list[Collection[Index]]
    bottom_level: list[int]
    sinks: list[Index]


def _edges(folded: _Folded) -> _Edges:
    index_of, hooks = folded.index_of, folded.fold.hooks
    producers = _producers(folded.args, hooks)
    indices = [*index_of.values(), *(hook.index for hook in hooks)]
    own = [_without_outer(taken) for taken in producers] if folded.outer_of else producers
    dependents = _invert(own, indices)
    return _Edges(
        [*folded.args, *((hook.producer, NodeOf(hook.producer), NodeOf(hook.consumer)) for hook in hooks)],
        producers,
        dependents,
        _bottom_levels(own, _index_order(folded.order, index_of, hooks)),
        [index for index, readers in zip(indices, dependents, strict=True) if not readers],
    )


def _regular_functions(functions: Iterable[Function]) -> list[Function]:
    regular: list[Function] = []
    latest: object = None
    for function in functions:
        # Functions of the same code mostly come one after the other.
        if function.code is not latest:
            latest = function.code
            _check_code(function)
        _check_use(function)
        if function.type == "regular":
            regular.append(function)
    return regular


def check_for_run(function: Function) -> None:
    """Raise InvalidFunctionError for a function that has a place only in a stream, or can never run."""
    _check_code(function)
    _check_use(function)


def _check_code(function: Function) -> None:
    if function.code is not None and (fault := code_fault("code", function.code)):
        raise InvalidFunctionError(function.id, fault)


def _check_use(function: Function) -> None:
    if (
        function.init is not None
        or function.parallelism != 1
        or function.key is not None
        or function.batch_size is not None
        or function.batch_timeout is not None
    ):
        raise _is_for_streams(function)
    if function.type == "input":
        reason = (
            "is an input, which only a stream gives a value, and this is a run: pass the value to the functions that take"
            " it, as an argument (dag.call) or as Constant(value) among args"
        )
        raise InvalidFunctionError(function.id, reason)
    is_for_failures = function.type == "regular" and function.run_if == "failure"
    if is_for_failures and all(isinstance(arg, Constant) for arg in function.args):
        reason = 'has run_if="failure", and takes no result of a function that could fail'
        raise InvalidFunctionError(function.id, reason)


def _is_for_streams(function: Function) -> InvalidFunctionError:
    given = _stream_options(function)
    name = next(compress(_STREAM_OPTIONS, map(ne, given, _NO_STREAM)))
    reason = (
        f"{name} is an option of streams, and this is a run, in which it would have no effect: leave it out, and have"
        f" the function itself make what it needs; kwargs={{{name!r}: ...}} passes one to the function"
    )
    return InvalidFunctionError(function.id, reason)


def _producers(args: Sequence[tuple[ArgSpec, ...]], hooks: Sequence[Hook]) -> list[tuple[Index, ...]]:
    producers = [results_within(specs) for specs in args]
    # A hook waits for all inputs of its consumer, so that by then the consumer's node can be chosen.
    producer_of = {hook.index: hook.producer for hook in hooks}
    for hook in hooks:
        needed = (producer_of.get(index, index) for index in producers[hook.consumer])
        producers.append(tuple(dict.fromkeys(needed)))
    return producers


def results_within(args: tuple[ArgSpec, ...]) -> tuple[Index, ...]:
    """List the distinct results that args are made from, also through inline functions, in the order of first use."""
    if _is_distinct_results(args):
        return args
    found: dict[Index, None] = {}
    pending = list(reversed(args))
    entered: set[int] = set()
    while pending:
        spec = pending.pop()
        if isinstance(spec, CallSpec):
            # Shared calls are entered once: paths through diamonds of them are far more than calls.
            if id(spec) not in entered:
                entered.add(id(spec))
                pending.extend(reversed(spec.args))
        elif isinstance(spec, ListOf):
            found[spec.index] = None
        elif isinstance(spec, int) and spec >= 0:
            found[spec] = None
    return tuple(found)


def _is_distinct_results(args: tuple[ArgSpec, ...]) -> TypeGuard[tuple[Index, ...]]:
    """True if the args are distinct results: the usual case, in which one tuple serves as args and as producers."""
    for spec in args:
        if not isinstance(spec, int) or spec < 0:
            return False
    return len(set(args)) == len(args)


def _without_outer(producers: tuple[Index, ...]) -> tuple[Index, ...]:
    return tuple([producer for producer in producers if producer < OUTER])


def _invert(producers: Sequence[tuple[Index, ...]], indices: Sequence[Index]) -> list[Collection[Index]]:
    # Most functions have few dependents, or none: tuples take half as much as lists, an empty one nothing. Counting
    # anew would make new ints, of 28 bytes each; those in `indices` are shared.
    dependents: list[list[Index] | None] = [None] * len(producers)
    for index, taken in zip(indices, producers, strict=True):
        for producer in taken:
            readers = dependents[producer]
            if readers is None:
                dependents[producer] = [index]
            else:
                readers.append(index)
    return [() if readers is None else tuple(readers) for readers in dependents]


def _index_order(
    order: Iterable[FunctionId], index_of: Mapping[FunctionId, Index], hooks: Sequence[Hook]
) -> list[Index]:
    """List every index after its producers: a hook goes right before its consumer."""
    if not hooks:
        return [index_of[function_id] for function_id in order if function_id in index_of]
    hooks_of: dict[Index, list[Index]] = {}
    for hook in hooks:
        hooks_of.setdefault(hook.consumer, []).append(hook.index)
    regular = _index_order(order, index_of, ())
    return [index for consumer in regular for index in (*hooks_of.get(consumer, ()), consumer)]


def _bottom_levels(producers: Sequence[tuple[Index, ...]], order: Sequence[Index]) -> list[int]:
    levels = [1] * len(producers)
    for index in reversed(order):
        above = levels[index] + 1
        for producer in producers[index]:
            if levels[producer] < above:  # noqa: PLR1730 - max() for each argument takes three times as long
                levels[producer] = above
    return levels


def _groups(
    regular: Sequence[Function], roots: Mapping[FunctionId, FunctionId], index_of: Mapping[FunctionId, Index]
) -> list[tuple[Index, ...]]:
    roots_with_members = set(roots.values())
    members: dict[FunctionId, list[Index]] = {}
    for function in regular:
        if function.id in roots:
            members.setdefault(roots[function.id], []).append(index_of[function.id])
        elif function.id in roots_with_members:
            members.setdefault(function.id, []).append(index_of[function.id])
    return [tuple(indices) for indices in members.values()]


def group_numbers(groups: Sequence[tuple[Index, ...]], size: int) -> list[int]:
    """List the number of the collocated group of each index, or -1."""
    group_of = [-1] * size
    for number, members in enumerate(groups):
        for index in members:
            group_of[index] = number
    return group_of


def _pins(
    regular: Sequence[Function], groups: Sequence[tuple[Index, ...]], size: int, *, local: bool
) -> list[str | None]:
    pins: list[str | None] = [None] * size
    if local:
        return pins
    for index, function in enumerate(regular):
        if isinstance(function.node, str):
            pins[index] = function.node
    for members in groups:
        # Only the root of a group can have a pin: the others name their partner in its place.
        pin = next((pins[index] for index in members if pins[index] is not None), None)
        for index in members:
            pins[index] = pin
    return pins


def _max_retries(functions: Sequence[Function]) -> dict[Index, int]:
    return {
        index: int(function.max_retries)
        for index, function in enumerate(functions)
        if function.max_retries is not None
    }


def _retry_backoff(functions: Sequence[Function]) -> dict[Index, tuple[float, float, float]]:
    backoffs: dict[Index, tuple[float, float, float]] = {}
    for index, function in enumerate(functions):
        if function.retry_backoff is not None:
            first_s, factor, max_s = function.retry_backoff
            backoffs[index] = (float(first_s), float(factor), float(max_s))
    return backoffs
