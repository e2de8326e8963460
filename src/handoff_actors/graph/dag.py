"""A graph of functions, built up one by one."""

import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar, overload
from uuid import uuid4

from handoff_actors.errors import DagError, DuplicateFunctionError, InvalidFunctionError
from handoff_actors.graph.argument import (
    Argument,
    Collocated,
    Constant,
    Handle,
    PerWorker,
    RunValue,
    SharedValue,
)
from handoff_actors.graph.checks import check_function, check_id
from handoff_actors.graph.function import (
    ArgumentInclusion,
    Code,
    Conditions,
    Function,
    FunctionType,
    OnStateLoss,
    RunIf,
)
from handoff_actors.graph.interfaces import RunValues
from handoff_actors.graph.mapping import NONE_GIVEN, MappedHandle, mapped, name_of, source_of
from handoff_actors.graph.parameters import OPTIONS, check_calls, options_of, parameter_names
from handoff_actors.graph.placing import Placing, Skeleton, holds_result, is_plain, is_result
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.graph.task import options_of_task
from handoff_actors.graph.validation import collocation_roots, dependency_order
from handoff_actors.ids import FunctionId
from handoff_actors.retry_on import RetryOn
from handoff_actors.text import repr_of, str_of

ResultT = TypeVar("ResultT")


def _no_run() -> None:
    return None


class DAG:
    """Functions and their dependencies. Functions may be added in any order."""

    def __init__(self, id: FunctionId = None) -> None:  # noqa: A002 - the name that users see
        """Make an empty DAG. Raises InvalidFunctionError for an id that is not hashable."""
        check_id(id)
        #: Any hashable; a fresh unique string if none was given.
        self.id: FunctionId = uuid4().hex if id is None else id
        self._functions: dict[FunctionId, Function] = {}
        self._calls_by_name: dict[str, int] = {}
        #: Shared by functions of the same cost, as is the dict below by functions without kwargs: a dict of its own would
        #: take 250 bytes per function.
        self._costs: dict[tuple[tuple[str, float], ...], Mapping[str, float]] = {}
        self._no_kwargs: Mapping[str, object] = {}
        #: The code that was called last, and those of its parameters that are called as options are.
        self._ambiguous: tuple[Code | None, frozenset[str]] = None, frozenset()
        #: Gives the values of the latest run by the ids of functions, for as long as its `Run` is referred to.
        self.latest_run: Callable[[], RunValues | None] = _no_run

    @property
    def functions(self) -> Mapping[FunctionId, Function]:
        """Every function by id, in the order of adding; a view that cannot be written to."""
        return MappingProxyType(self._functions)

    def add_function(self, function: Function) -> Self:
        """Add a function and return the DAG.

        Raises DuplicateFunctionError and InvalidFunctionError; checks that need the whole graph are left to `validate`.
        """
        check_id(function.id)
        try:
            self._add(function)
        except (DagError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # Of a value's own __eq__, __getattr__ or the like, which may even exit.
            raise InvalidFunctionError(
                function.id, f"it can't be checked: {type(error).__name__}: {str_of(error)}"
            ) from error
        return self

    def _add(self, function: Function) -> None:
        if function.id in self._functions:
            raise DuplicateFunctionError(function.id)
        if isinstance(function.node, Collocated):
            function = replace(function, node=Collocated(self._own_id(function.id, function.node.id)))
        if function.when is not None:
            function = replace(function, when=self._conditions(function.id, function.when))
        if function.extra_args or function.kwargs or not all(map(is_plain, function.args)):
            function = self._with_results(function)
        check_function(function)
        if function.cost:
            function.cost = self._costs.setdefault(tuple(function.cost.items()), function.cost)
        if not function.kwargs:
            function.kwargs = self._no_kwargs
        self._functions[function.id] = function

    def add_functions(self, functions: Iterable[Function]) -> Self:
        """Add functions one after the other and return the DAG. If one is refused, the functions before it stay.

        Raises the same errors as `add_function`.
        """
        for function in functions:
            self.add_function(function)
        return self

    @overload
    def call(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        *args: object,
        id: FunctionId = ...,
        extra_args: Sequence[object] = ...,
        kwargs: Mapping[str, object] = ...,
        cost: Mapping[str, float] | None = ...,
        node: str | Collocated | None = ...,
        type: FunctionType = ...,
        max_retries: int | None = ...,
        retry_backoff: tuple[float, float, float] | None = ...,
        retry_on: RetryOn = ...,
        timeout: float | None = ...,
        priority: int = ...,
        cache: float | str | None = ...,
        argument_inclusion: ArgumentInclusion = ...,
        env_vars: Mapping[str, str] | None = ...,
        working_dir: str | PurePath | None = ...,
        run_if: RunIf = ...,
        when: Conditions = ...,
        init: Code | None = ...,
        finish: Code | None = ...,
        close: Code | None = ...,
        on_state_loss: OnStateLoss | None = ...,
        parallelism: int | tuple[int, int] = ...,
        key: Code | None = ...,
        batch_size: int | None = ...,
        batch_timeout: float | None = ...,
        **keywords: object,
    ) -> Handle[ResultT]: ...
    @overload
    def call(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        *args: object,
        id: FunctionId = ...,
        extra_args: Sequence[object] = ...,
        kwargs: Mapping[str, object] = ...,
        cost: Mapping[str, float] | None = ...,
        node: str | Collocated | None = ...,
        type: FunctionType = ...,
        max_retries: int | None = ...,
        retry_backoff: tuple[float, float, float] | None = ...,
        retry_on: RetryOn = ...,
        timeout: float | None = ...,
        priority: int = ...,
        cache: float | str | None = ...,
        argument_inclusion: ArgumentInclusion = ...,
        env_vars: Mapping[str, str] | None = ...,
        working_dir: str | PurePath | None = ...,
        run_if: RunIf = ...,
        when: Conditions = ...,
        init: Code | None = ...,
        finish: Code | None = ...,
        close: Code | None = ...,
        on_state_loss: OnStateLoss | None = ...,
        parallelism: int | tuple[int, int] = ...,
        key: Code | None = ...,
        batch_size: int | None = ...,
        batch_timeout: float | None = ...,
        **keywords: object,
    ) -> Handle[ResultT]: ...
    @overload
    def call(
        self,
        fn: Callable[..., ResultT | Subgraph[ResultT]],
        *args: object,
        id: FunctionId = ...,
        extra_args: Sequence[object] = ...,
        kwargs: Mapping[str, object] = ...,
        cost: Mapping[str, float] | None = ...,
        node: str | Collocated | None = ...,
        type: FunctionType = ...,
        max_retries: int | None = ...,
        retry_backoff: tuple[float, float, float] | None = ...,
        retry_on: RetryOn = ...,
        timeout: float | None = ...,
        priority: int = ...,
        cache: float | str | None = ...,
        argument_inclusion: ArgumentInclusion = ...,
        env_vars: Mapping[str, str] | None = ...,
        working_dir: str | PurePath | None = ...,
        run_if: RunIf = ...,
        when: Conditions = ...,
        init: Code | None = ...,
        finish: Code | None = ...,
        close: Code | None = ...,
        on_state_loss: OnStateLoss | None = ...,
        parallelism: int | tuple[int, int] = ...,
        key: Code | None = ...,
        batch_size: int | None = ...,
        batch_timeout: float | None = ...,
        **keywords: object,
    ) -> Handle[ResultT]: ...
    @overload
    def call(
        self,
        fn: None,
        *,
        type: Literal["input"],
        id: FunctionId = ...,
        node: str | Collocated | None = ...,
        priority: int = ...,
    ) -> Handle[Any]: ...

    def call(self, fn: Code | None, *args: object, **keywords: Any) -> Handle[Any]:
        """Add a call of `fn` and return a handle that stands for its result in later calls.

        Handles (and each `Argument`) among the arguments stand for results, also within containers; everything else is
        passed as it is. Type checkers don't check the types of arguments, as results and containers of them may stand for
        any. Those that a `functools.partial` binds are arguments, too. Keywords that are options of `Function` (`cost`, `timeout`, ...) are taken as such, all others are passed to
        `fn`; `kwargs={...}` passes to `fn` what has the name of an option. The default `id` is the name of `fn` with a
        number, as in "load-1". Raises DuplicateFunctionError, and InvalidFunctionError, also for a keyword that is both an
        option and a parameter of `fn`.
        """
        if isinstance(fn, partial) and holds_result((*fn.args, *fn.keywords.values())):
            # What it binds is to be found among the arguments.
            bound = {name: value for name, value in fn.keywords.items() if name not in keywords}
            keywords = {**keywords, "kwargs": {**bound, **keywords.get("kwargs", {})}}
            args = (*fn.args, *args)
            fn = fn.func
        if keywords:
            keywords = self._options(fn, len(args), keywords)
        of_task = options_of_task(fn)
        if of_task:
            keywords = {**of_task, **keywords}
        function_id = keywords.pop("id") if "id" in keywords else self._fresh_id(fn)
        taken: list[FunctionId] = []
        for arg in args:
            if isinstance(arg, Handle | RunValue):
                taken.append(self._id_for(function_id, arg))
            else:
                taken.append(arg if isinstance(arg, Argument | Constant | PerWorker) else Constant(arg))
        self.add_function(Function(function_id, taken, fn, **keywords))
        return Handle(function_id, self)

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        over: object,
        **options: Any,
    ) -> MappedHandle[ResultT]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        over: object,
        **options: Any,
    ) -> MappedHandle[ResultT]: ...
    @overload
    def map(
        self, fn: Callable[..., ResultT | Subgraph[ResultT]], over: object, **options: Any
    ) -> MappedHandle[ResultT]: ...
    def map(self, fn: Callable[..., Any], over: object, **options: Any) -> MappedHandle[Any]:
        """Add a call of `fn` for each item of a list, and return a handle that stands for the list of the results, in order.

        Over a handle, the calls are added by a function of the graph, once the list is there (see `Subgraph`). Chains,
        `dag.map(a, over=xs).map(b)`, are wired item by item, and what has been begun is finished first: the second stage of
        one item runs before the first of another one. Large items stay where they were made, see `Parts`.

        :param fn: Function, or coroutine function; it is given one item.
        :param over: List (any iterable), of values and handles; or what stands for a list: a handle, or a value of another run.
        :param options: As of `call`, for each call; others are passed to `fn` by name. `id` is that of the list. Over a handle,
            or a value of another run, options can't refer to other functions; arguments can, but not to objects of `per_worker`.
        :raises InvalidFunctionError: `over` is no list, or the handle of a DAG of which no run is referred to; or an option is
            not allowed.
        """
        return mapped(self, "map", fn, over, options)

    def filter(self, fn: Callable[..., Any], over: object, **options: Any) -> MappedHandle[Any]:
        """Add a call of `fn` for each item of a list; the handle stands for the list of items for which it returns what is true.

        Parameters and errors are those of `map`.
        """
        return mapped(self, "filter", fn, over, options)

    @overload
    def reduce(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        over: object,
        **options: Any,
    ) -> Handle[ResultT]: ...
    @overload
    def reduce(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        over: object,
        **options: Any,
    ) -> Handle[ResultT]: ...
    @overload
    def reduce(
        self, fn: Callable[..., ResultT | Subgraph[ResultT]], over: object, **options: Any
    ) -> Handle[ResultT]: ...
    def reduce(
        self, fn: Callable[..., Any], over: object, *, initial: object = NONE_GIVEN, **options: Any
    ) -> Handle[Any]:
        """Make one value of all items of a list by a function of two: `dag.reduce(operator.add, over=parts)`.

        `fn` must be associative: neighbours are combined in order, in a tree, by functions that take up to eight of them, as
        soon as these are there. It need not be commutative.

        :param fn: Function, or coroutine function, of two values that returns one.
        :param over: As of `map`.
        :param initial: Goes before the first item. Without it, an empty list fails the function with a TypeError.
        :param options: As of `call`, for each function of the tree.
        :raises InvalidFunctionError: As for `map`.
        """
        return source_of(self, over).reduce(fn, initial=initial, **options)

    def validate(self) -> None:
        """Check the graph as a whole, in linear time.

        Raises MissingFunctionError, CycleError, and InvalidFunctionError for impossible collocations, and for arguments that
        the code of a function can't take.
        """
        dependency_order(self._functions)
        collocation_roots(self._functions)
        check_calls(self._functions.values())

    def to_mermaid(self, *, fold: bool | None = None) -> str:
        """Draw the graph as a Mermaid flowchart, valid or not.

        :param fold: Show functions of the same code and role as one box, and say how many they are. None: only in a
            graph of more than 60 functions, or of more than 240 lines.
        """
        from handoff_actors.graph.pictures.render import draw, to_mermaid  # noqa: PLC0415 - see to_svg

        return to_mermaid(draw(self._functions, fold=fold))

    def to_dot(self, *, fold: bool | None = None) -> str:
        """Draw the graph in the language of Graphviz, valid or not. `fold` is that of `to_mermaid`."""
        from handoff_actors.graph.pictures.render import draw, to_dot  # noqa: PLC0415 - see to_svg

        return to_dot(draw(self._functions, fold=fold), str_of(self.id))

    def to_svg(self, *, fold: bool | None = None) -> str:
        """Draw the graph as SVG, valid or not. `fold` is that of `to_mermaid`; False takes seconds for thousands of functions."""
        # Few programs draw their graphs, and no other would need what this imports.
        from handoff_actors.graph.pictures.drawing import draw  # noqa: PLC0415
        from handoff_actors.graph.pictures.svg import to_svg  # noqa: PLC0415

        return to_svg(draw(self._functions, fold=fold))

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:  # noqa: ARG002 - IPython picks
        from handoff_actors.graph.pictures.drawing import MOST_BOXES  # noqa: PLC0415 - see to_svg
        from handoff_actors.graph.pictures.render import draw, to_mermaid  # noqa: PLC0415 - see to_svg
        from handoff_actors.graph.pictures.svg import to_svg  # noqa: PLC0415 - see to_svg

        drawing = draw(self._functions)
        forms = {"text/plain": repr(self), "image/svg+xml": to_svg(drawing)}
        # Notebooks prefer Mermaid where they can draw it, but it puts hundreds of boxes into one row.
        if len(drawing.boxes) <= MOST_BOXES:
            forms["text/vnd.mermaid"] = to_mermaid(drawing)
        return forms

    def __len__(self) -> int:
        return len(self._functions)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, function_id: FunctionId) -> bool:
        if isinstance(function_id, Handle):
            return function_id.dag is self and function_id.id in self._functions
        return function_id in self._functions

    def __repr__(self) -> str:
        return f"<DAG {repr_of(self.id)}: {len(self)} function(s)>"

    def _with_results(self, function: Function) -> Function:
        """Return the function with ids for handles, and a placeholder for each that is within a value."""
        values = [
            arg.value if type(arg) is Constant else arg for arg in function.args if not is_result(type(arg))
        ]
        # By itself one needs no place among others.
        values = [value for value in values if not isinstance(value, RunValue)]
        values += function.extra_args
        if isinstance(function.kwargs, Mapping):
            values += function.kwargs.values()
        if holds_result(values):
            return self._with_placeholders(function)
        if any(map(is_result, map(type, function.args))):
            return replace(function, args=tuple([self._id_for(function.id, arg) for arg in function.args]))
        return function

    def _with_placeholders(self, function: Function) -> Function:
        inclusion = function.argument_inclusion
        if isinstance(inclusion, Skeleton):
            # It comes from another DAG, where it had its args already.
            placing = Placing(function.id, self._id_for, function.args)
            args, kwargs = list(inclusion.args), dict(inclusion.kwargs)
        else:
            placing = Placing(function.id, self._id_for)
            args, kwargs = list(map(placing.arg, function.args)), {}
            if inclusion == "as_list":
                args = [args]
        args += map(placing.value, function.extra_args)
        kwargs |= {name: placing.value(value) for name, value in function.kwargs.items()}
        return replace(
            function,
            args=tuple(placing.args),
            extra_args=(),
            kwargs={},
            argument_inclusion=Skeleton(tuple(args), kwargs),
        )

    def _id_for(self, function_id: FunctionId, arg: FunctionId) -> FunctionId:
        if isinstance(arg, Argument):
            return replace(arg, id=self._own_id(function_id, arg.id))
        if isinstance(arg, RunValue):
            return Constant(arg.value if isinstance(arg, SharedValue) else arg)
        if isinstance(arg, Handle) and arg.dag is not self:
            value = arg.value_elsewhere()
            return self._own_id(function_id, arg) if value is None else Constant(value)
        return self._own_id(function_id, arg) if isinstance(arg, Handle) else arg

    def _own_id(self, function_id: FunctionId, arg: FunctionId) -> FunctionId:
        """Return the id that a handle stands for; any other id as it is."""
        if isinstance(arg, RunValue):
            raise InvalidFunctionError(
                function_id, f"{repr_of(arg)} is of another run: pass it as an argument, without hooks"
            )
        if not isinstance(arg, Handle):
            return arg
        if isinstance(arg, MappedHandle):
            arg.chain.take()
        if arg.dag is not self:
            raise InvalidFunctionError(
                function_id,
                f"{repr_of(arg)} belongs to another DAG, {repr_of(arg.dag_id)}, of which no run is referred to that has its"
                " value: add both functions to one DAG, or run the other first and keep its Run",
            )
        return arg.id

    def _conditions(self, function_id: FunctionId, when: Conditions) -> Conditions:
        if isinstance(when, list) or (isinstance(when, tuple) and any(map(is_result, map(type, when)))):
            return [self._id_for(function_id, condition) for condition in when]
        return self._id_for(function_id, when)

    def _options(self, fn: Code | None, count: int, keywords: dict[str, Any]) -> dict[str, Any]:
        if self._ambiguous[0] is not fn:
            # Functions that are alike mostly come one after the other.
            self._ambiguous = fn, OPTIONS & parameter_names(fn)
        if not self._ambiguous[1] and OPTIONS.issuperset(keywords):
            return keywords
        function_id = keywords.get("id", name_of(fn))
        check_id(function_id)
        return options_of(function_id, fn, count, keywords)

    def _withdraw(self, function_id: FunctionId) -> None:
        """Take out the function of a list that is not to be made."""
        self._functions.pop(function_id, None)

    def _fresh_id(self, fn: Code | None) -> str:
        return self._fresh_name(name_of(fn))

    def _fresh_name(self, name: str) -> str:
        while True:
            count = self._calls_by_name.get(name, 0) + 1
            self._calls_by_name[name] = count
            fresh = f"{name}-{count}"
            if fresh not in self._functions:
                return fresh


def new() -> DAG:
    """Make an empty DAG with a fresh id."""
    return DAG()


def set_latest_run(dag: DAG, values: RunValues) -> None:
    """Have handles of a DAG stand for the values of a run in other DAGs, for as long as `values` are referred to."""
    dag.latest_run = weakref.ref(values)
