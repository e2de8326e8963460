"""Maps over the items of a list: one that is known when the graph is made, or the result of a function.

Over a list that is known, each item gets functions of its own at once. Over a result, a function of the graph takes the list
once it is there and returns a `Subgraph` with the functions of all items. Either way the stages of a chain of maps are wired
item by item, and later stages have higher priorities: what has been begun is finished first.

The list of all results is the result of one more function, in the order of the items. It is left out where nothing takes it,
as between two stages of a chain.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial, reduce
from itertools import islice
from typing import Any, Final, Literal, TypeVar, overload

from msgspec.structs import replace

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import (
    Collocated,
    Constant,
    Handle,
    ItemsOf,
    RunValue,
)
from handoff_actors.graph.checks import code_fault, is_coroutine_code, is_generator_code
from handoff_actors.graph.function import Code, Function
from handoff_actors.graph.interfaces import AnyDag
from handoff_actors.graph.placing import holds_result
from handoff_actors.graph.stages import (
    Reduction,
    Stage,
    check_is_sendable,
    check_stage,
    shared,
    split,
    with_objects,
)
from handoff_actors.graph.subgraph import ItemsGraph, Subgraph
from handoff_actors.graph.task import options_of_task
from handoff_actors.ids import FunctionId
from handoff_actors.text import type_name_of

ItemT_co = TypeVar("ItemT_co", covariant=True)
ResultT = TypeVar("ResultT")

#: `reduce` gives each function so many items, results of others among them.
ARITY: Final = 8


class _Absence(Enum):
    """Marks of what is not there."""

    #: An item that a filter has left out.
    DROPPED = 1
    #: No initial value was given.
    NONE_GIVEN = 2


DROPPED: Final = _Absence.DROPPED
NONE_GIVEN: Final = _Absence.NONE_GIVEN


class Around:
    """Does more than to call a user's function, and goes by its name."""

    def __init__(self, code: Code) -> None:
        self.__wrapped__: Any = code


class _Skipping(Around):
    """Calls a function, but for items that were left out."""

    def __call__(self, item: object, /, *args: object, **kwargs: object) -> object:
        return item if item is DROPPED else self.__wrapped__(item, *args, **kwargs)


class _SkippingAsync(Around):
    """Does the same for a coroutine function."""

    async def __call__(self, item: object, /, *args: object, **kwargs: object) -> object:
        return item if item is DROPPED else await self.__wrapped__(item, *args, **kwargs)


class _Folding(Around):
    """Makes one value of neighbouring items. The last one raises TypeError if there is none."""

    def __init__(self, code: Code, *, is_last: bool) -> None:
        super().__init__(code)
        self._is_last = is_last

    def __call__(self, items: list[Any]) -> object:
        left = _left_of(items, is_last=self._is_last)
        return reduce(self.__wrapped__, left) if left else DROPPED


class _FoldingAsync(Around):
    """Does the same with a coroutine function."""

    def __init__(self, code: Code, *, is_last: bool) -> None:
        super().__init__(code)
        self._is_last = is_last

    async def __call__(self, items: list[Any]) -> object:
        left = _left_of(items, is_last=self._is_last)
        value = left[0] if left else DROPPED
        for item in left[1:]:
            value = await self.__wrapped__(value, item)
        return value


def _left_of(items: Iterable[Any], *, is_last: bool) -> list[Any]:
    left = [item for item in items if item is not DROPPED]
    if is_last and not left:
        raise TypeError("reduce of no items, with no initial value: give it one, reduce(f, initial=0)")
    return left


class _Expanding(Around):
    """Takes a list and returns the graph of its items."""

    def __init__(
        self, make_dag: Callable[[], AnyDag], stages: Sequence[Stage], reduction: Reduction | None
    ) -> None:
        super().__init__(stages[-1].code if reduction is None else reduction.code)
        self._make_dag = make_dag
        self._stages = stages
        self._reduction = reduction

    @property
    def has_cached_stage(self) -> bool:
        """True if some stage has the option `cache`."""
        steps: list[Stage | Reduction] = [*self._stages]
        if self._reduction is not None:
            steps.append(self._reduction)
        return any("cache" in {**options_of_task(step.code), **step.options} for step in steps)

    def __call__(self, items: Iterable[object], taken: Sequence[dict[str, Any]] = ()) -> Subgraph[Any]:
        """`taken`: the results among the options of each stage, and of the reduction."""
        dag = self._make_dag()
        own = taken or [{} for _ in self._stages]
        stages = [
            replace(stage, options={**with_objects(stage.options), **shared(results)})
            for stage, results in zip(self._stages, own, strict=False)
        ]
        handles = add_items(dag, items, stages)
        count = len(handles)
        per_item = _count_regular(dag, len(dag.functions) // count) if count else 0
        if self._reduction is None:
            return ItemsGraph(dag, add_list(dag, handles, "list"), count, per_item)
        reduction = self._reduction
        if taken:
            reduction = replace(reduction, **taken[-1])
        result = add_reduction(dag, handles, reduction, len(stages))
        return ItemsGraph(dag, result, count, per_item)


def _count_regular(dag: AnyDag, first: int) -> int:
    """Count those of the first functions of a graph that are not computed within others."""
    return sum(function.type == "regular" for function in islice(dag.functions.values(), first))


def name_of(fn: object) -> str:
    """Return the name that ids of a function's calls begin with."""
    while isinstance(fn, partial | Around):
        fn = fn.func if isinstance(fn, partial) else fn.__wrapped__
    if fn is None:
        return "input"
    named = fn if inspect.isroutine(fn) or isinstance(fn, type) else type(fn)
    return named.__name__.strip("<>")


def adds_functions(code: object) -> bool:
    """Tell whether code is that of a map, a filter or a reduction over a result."""
    return isinstance(code, _Expanding)


def adds_cached(code: Code) -> bool:
    """Tell whether code is that of a map over a result, with a stage whose results are cached."""
    return isinstance(code, _Expanding) and code.has_cached_stage


def kept(flag: object, item: object) -> object:
    """Return the item, or the mark of one that is left out."""
    return item if flag is not DROPPED and flag else DROPPED


def listed(items: list[object]) -> list[object]:
    """Return the items that were not left out."""
    return [item for item in items if item is not DROPPED]


def add_items(
    dag: AnyDag, items: Iterable[object], stages: Sequence[Stage], first: int = 0, *, may_lack: bool = False
) -> list[Handle[Any]]:
    """Add the functions of each item to a graph. Returns what stands for the items after the last stage.

    `first` stages have been added already, and with `may_lack` one of them was a filter.
    """
    codes: list[tuple[Stage, Code, dict[str, Any]]] = []
    for number, stage in enumerate(stages, first):
        code = stage.code
        if may_lack:
            code = _SkippingAsync(code) if is_coroutine_code(code) else _Skipping(code)
        may_lack = may_lack or stage.kind == "filter"
        codes.append((stage, code, _with_priority(stage.options, number)))
    found: list[Any] = []
    for item in items:
        value = item
        for stage, code, options in codes:
            result = dag.call(code, value, **options)
            value = result if stage.kind == "map" else dag.call(kept, result, value, type="inline")
        found.append(value)
    return found


def add_list(dag: AnyDag, items: Sequence[Handle[Any]], function_id: FunctionId) -> FunctionId:
    """Add the function whose result is the list of all items."""
    ids = [item.id for item in items]
    dag.add_function(Function(function_id, ids, listed, argument_inclusion="as_list"))
    return function_id


def add_reduction(dag: AnyDag, items: Sequence[object], reduction: Reduction, stage: int) -> Handle[Any]:
    """Add the functions that make one value of all items: a tree, each of whose functions takes neighbours in order."""
    fold: Any = _FoldingAsync if is_coroutine_code(reduction.code) else _Folding
    options = _with_priority(reduction.options, stage)
    inner = {name: value for name, value in options.items() if name != "id"}
    level = [*items] if reduction.initial is NONE_GIVEN else [reduction.initial, *items]
    folding = fold(reduction.code, is_last=False)
    while len(level) > ARITY:
        starts = range(0, len(level), ARITY)
        level = [dag.call(folding, level[start : start + ARITY], **inner) for start in starts]
    return dag.call(fold(reduction.code, is_last=True), level, **options)


def _with_priority(options: dict[str, Any], stage: int) -> dict[str, Any]:
    return {**options, "priority": options.get("priority", 0) + stage} if stage else options


class _Chain:
    """Stages over a list."""

    def __init__(
        self,
        dag: AnyDag,
        function_id: FunctionId,
        source: ItemsOf | Constant | None,
        stages: Sequence[Stage],
        items: Sequence[Handle[Any]],
        reduction: Reduction | None = None,
    ) -> None:
        self.dag = dag
        self.id = function_id
        #: The result that is the list; None where that is known.
        self.source = source
        #: From the source on, or from the known list on.
        self.stages = stages
        #: What stands for the items of a known list after the last stage.
        self.items = items
        self.reduction = reduction
        #: The only chain that goes on from this one, while nothing takes the list of this one.
        self.after: _Chain | None = None
        self.is_taken = False

    def add(self) -> None:
        """Add the function whose result is the list, or what was made of it."""
        if self.source is None:
            add_list(self.dag, self.items, self.id)
        else:
            parts = [split(stage) for stage in self.stages]
            taken, reduction = [own for _, own in parts], self.reduction
            if reduction is not None:
                initial = {"initial": reduction.initial} if holds_result([reduction.initial]) else {}
                reduction = replace(reduction, initial=None) if initial else reduction
                taken.append(initial)
            code = _Expanding(type(self.dag), [stage for stage, _ in parts], reduction)
            extra_args = (taken,) if any(taken) else ()
            self.dag.add_function(Function(self.id, [self.source], code, extra_args=extra_args))

    def extend(
        self, function_id: FunctionId, stages: Sequence[Stage], reduction: Reduction | None
    ) -> "_Chain":
        """Go on from the items of this chain."""
        may_share = self.source is None or not (self.is_taken or self.after is not None)
        if not may_share:
            self.take()
            return _Chain(self.dag, function_id, ItemsOf(self.id), stages, (), reduction)
        if self.source is None:
            may_lack = any(stage.kind == "filter" for stage in self.stages)
            items = add_items(self.dag, self.items, stages, len(self.stages), may_lack=may_lack)
            after = _Chain(self.dag, function_id, None, [*self.stages, *stages], items)
        else:
            after = _Chain(self.dag, function_id, self.source, [*self.stages, *stages], (), reduction)
            self.after = after
        if not self.is_taken:
            self.dag._withdraw(self.id)  # noqa: SLF001 - a part of it
        return after

    def take(self) -> None:
        """Have the function whose result is the list, since something takes it."""
        if self.is_taken:
            return
        self.is_taken = True
        if self.id in self.dag.functions:
            return
        self.add()
        # Its stages are not to be done twice: what has gone on from it goes on from its list.
        after, self.after = self.after, None
        count = len(self.stages)
        while after is not None:
            after.source, after.stages = ItemsOf(self.id), after.stages[count:]
            if after.id in self.dag.functions:
                self.dag._withdraw(after.id)  # noqa: SLF001 - a part of it
                after.add()
            after = after.after


class MappedHandle(Handle[list[ItemT_co]], frozen=True, eq=False):
    """The results of a map, item by item: as an argument, the list of them, in order.

    A list that only a further `map`, `filter` or `reduce` takes is not made, and has no result of its own.
    """

    chain: _Chain

    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]], **options: Any
    ) -> "MappedHandle[ResultT]": ...
    @overload
    def map(
        self, fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]], **options: Any
    ) -> "MappedHandle[ResultT]": ...
    @overload
    def map(
        self, fn: Callable[..., ResultT | Subgraph[ResultT]], **options: Any
    ) -> "MappedHandle[ResultT]": ...
    def map(self, fn: Callable[..., Any], **options: Any) -> "MappedHandle[Any]":
        """Call a function for each item, as soon as that is there. See `DAG.map`."""
        return _extended(self.chain, "map", fn, options)

    def filter(self, fn: Callable[..., Any], **options: Any) -> "MappedHandle[ItemT_co]":
        """Leave out the items for which a function returns what is false. See `DAG.filter`."""
        return _extended(self.chain, "filter", fn, options)

    @overload
    def reduce(
        self, fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]], **options: Any
    ) -> Handle[ResultT]: ...
    @overload
    def reduce(
        self, fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]], **options: Any
    ) -> Handle[ResultT]: ...
    @overload
    def reduce(self, fn: Callable[..., ResultT | Subgraph[ResultT]], **options: Any) -> Handle[ResultT]: ...
    def reduce(self, fn: Callable[..., Any], *, initial: object = NONE_GIVEN, **options: Any) -> Handle[Any]:
        """Make one value of all items. See `DAG.reduce`."""
        reduction = Reduction(_checked(self.chain.dag, fn, options, 2), initial, options)
        chain = self.chain
        if chain.source is None:
            made = add_reduction(chain.dag, chain.items, reduction, len(chain.stages))
            if not chain.is_taken:
                chain.dag._withdraw(chain.id)  # noqa: SLF001 - a part of it
            return made
        function_id = options.pop("id", None) or chain.dag._fresh_id(fn)  # noqa: SLF001 - a part of it
        check_is_sendable(function_id, options, [initial])
        after = chain.extend(function_id, (), reduction)
        after.add()
        return Handle(function_id, chain.dag)


def mapped(
    dag: AnyDag, kind: Literal["map", "filter"], fn: Callable[..., Any], over: object, options: dict[str, Any]
) -> MappedHandle[Any]:
    """Add a map or a filter to a graph; see `DAG.map`."""
    if isinstance(over, MappedHandle) and over.dag is dag:
        return _extended(over.chain, kind, fn, options)
    function_id, options = _id_of(dag, kind, options)
    stage = Stage(kind, _checked(dag, fn, options, 1), options)
    source = _source(dag, function_id, over)
    if source is not None:
        check_stage(function_id, stage)
        chain = _Chain(dag, function_id, source, [stage], ())
    else:
        items = add_items(dag, _items(function_id, over), [stage])
        chain = _Chain(dag, function_id, None, [stage], items)
    chain.add()
    return MappedHandle(function_id, dag, chain)


def source_of(dag: AnyDag, over: object) -> MappedHandle[Any]:
    """Return a handle for the items of a list as they are, to be reduced."""
    if isinstance(over, MappedHandle) and over.dag is dag:
        return over
    function_id, _ = _id_of(dag, "items", {})
    source = _source(dag, function_id, over)
    if source is not None:
        chain = _Chain(dag, function_id, source, (), ())
    else:
        chain = _Chain(dag, function_id, None, (), _items(function_id, over))
    return MappedHandle(function_id, dag, chain)


def _extended(
    chain: _Chain, kind: Literal["map", "filter"], fn: Callable[..., Any], options: dict[str, Any]
) -> MappedHandle[Any]:
    function_id, options = _id_of(chain.dag, kind, options)
    stage = Stage(kind, _checked(chain.dag, fn, options, 1), options)
    if chain.source is not None:
        check_stage(function_id, stage)
    after = chain.extend(function_id, [stage], None)
    after.add()
    return MappedHandle(function_id, chain.dag, after)


def _id_of(dag: AnyDag, kind: str, options: dict[str, Any]) -> tuple[FunctionId, dict[str, Any]]:
    if "id" not in options:
        return dag._fresh_name(kind), options  # noqa: SLF001 - a part of it
    return options["id"], {name: value for name, value in options.items() if name != "id"}


def _checked(dag: AnyDag, fn: Callable[..., Any], options: dict[str, Any], count: int) -> Callable[..., Any]:
    """Raise InvalidFunctionError for code or options that can't be those of the functions of items."""
    own = {name: _without_results(value) for name, value in options.items() if name != "id"}
    if is_generator_code(fn):
        raise InvalidFunctionError(name_of(fn), code_fault("code", fn))
    scratch = type(dag)()
    scratch.call(fn, *([None] * count), **own)
    scratch.validate()
    return fn


def _without_results(value: Any) -> Any:
    """Return an option with None for whatever holds a result, in `kwargs` and `extra_args` one by one."""
    if isinstance(value, Collocated) or not holds_result([value]):
        return None if isinstance(value, Collocated) else value
    if isinstance(value, Mapping):
        return dict.fromkeys(value)
    return [None] * len(value) if isinstance(value, list | tuple) else None


def _source(dag: AnyDag, function_id: FunctionId, over: object) -> ItemsOf | Constant | None:
    """Return the argument for a list that a function of this graph or of another run has made; None for any other."""
    if not isinstance(over, Handle | RunValue):
        return None
    arg = dag._id_for(function_id, over)  # noqa: SLF001 - a part of it
    return arg if isinstance(arg, Constant) else ItemsOf(arg)


def _items(function_id: FunctionId, over: object) -> list[Any]:
    if isinstance(over, str | bytes) or not isinstance(over, Iterable):
        raise InvalidFunctionError(
            function_id,
            f"over must be a list of items, a handle or a StoredValue, not a {type_name_of(over)}",
        )
    return list(over)
