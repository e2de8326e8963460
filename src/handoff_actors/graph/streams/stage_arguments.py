"""The arguments of a stage's code: those that are made anew for each item, and those that stay the same.

Everything behind the last argument that comes from an item stays the same, and so does what is given by name: the worker of a
stage has it once. Values of runs and objects of `per_worker` may stand there, as arguments of the call that runs the worker.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct, field

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Argument, Constant, ItemsOf, PerWorker
from handoff_actors.graph.containers import replaced
from handoff_actors.graph.function import Function
from handoff_actors.graph.placing import Placeholder, Skeleton, holds_result
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of


class ResultOf(Struct, frozen=True):
    """An argument: the result of a function of the graph."""

    id: FunctionId


class Slot(Struct, frozen=True, eq=False):
    """Stands for a value within a container; see `Filling`."""

    position: int


class Filling(Struct, frozen=True):
    """Puts values into the slots of a container, and returns the copy."""

    container: object

    def __call__(self, *values: object) -> object:
        """Return the container with a value in each slot."""
        return replaced(self.container, Slot, lambda slot: values[slot.position])


class Filled(Struct, frozen=True):
    """An argument: a container with results in it."""

    filling: Filling
    ids: tuple[FunctionId, ...]


StageArg: TypeAlias = ResultOf | Constant | Filled


class StageArguments(Struct, frozen=True):
    """The arguments of a stage's code, or of an inline function's."""

    args: tuple[StageArg, ...] = ()
    #: The last of `args` are passed by these names, behind all others.
    names: tuple[str, ...] = ()
    #: Passed after `args`.
    extra_args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    #: True: the code gets `args` as one list.
    as_list: bool = False

    @property
    def ids(self) -> list[FunctionId]:
        """List the functions whose results it takes, in order, with repetitions."""
        found: list[FunctionId] = []
        for arg in self.args:
            if isinstance(arg, ResultOf):
                found.append(arg.id)
            elif isinstance(arg, Filled):
                found += arg.ids
        return found


def arguments_of(function: Function) -> StageArguments:
    """Tell the arguments of a stage, or of an inline function, apart. Raises InvalidFunctionError for those a stream has not."""
    skeleton = function.argument_inclusion
    taken = [_taken(function, arg) for arg in function.args]
    if isinstance(skeleton, Skeleton):
        args = [_placed(value, taken) for value in (*skeleton.args, *function.extra_args)]
        kwargs = {name: _placed(value, taken) for name, value in skeleton.kwargs.items()}
        return _arguments(function, args, (), kwargs)
    return _arguments(function, taken, tuple(function.extra_args), {}, as_list=skeleton == "as_list")


def _arguments(
    function: Function,
    args: Sequence[StageArg],
    extra_args: tuple[object, ...],
    kwargs: Mapping[str, StageArg],
    *,
    as_list: bool = False,
) -> StageArguments:
    own = len(args)
    if not as_list:
        own = max((place for place, arg in enumerate(args, 1) if not isinstance(arg, Constant)), default=0)
    fixed = [arg.value for arg in args[own:] if isinstance(arg, Constant)]
    named = {name: arg for name, arg in kwargs.items() if not isinstance(arg, Constant)}
    for arg in (*args[:own], *named.values()):
        if _is_of_run(arg):
            reason = (
                "values of runs and objects of per_worker can't stand before, or in a list with, results of the stream:"
                " pass them by themselves, behind these or by name"
            )
            raise InvalidFunctionError(function.id, reason)
    fixed_kwargs = {name: arg.value for name, arg in kwargs.items() if isinstance(arg, Constant)}
    return StageArguments(
        (*args[:own], *named.values()),
        tuple(named),
        (*fixed, *extra_args),
        {**fixed_kwargs, **function.kwargs},
        as_list,
    )


def _is_of_run(arg: StageArg) -> bool:
    if isinstance(arg, ResultOf):
        return False
    return holds_result([arg.value if isinstance(arg, Constant) else arg.filling.container])


def _taken(function: Function, arg: FunctionId) -> StageArg:
    """Return the argument that one of a function's args stands for."""
    if isinstance(arg, Constant):
        return arg
    if isinstance(arg, PerWorker):
        return Constant(arg)
    if not isinstance(arg, Argument):
        return ResultOf(arg)
    if isinstance(arg, ItemsOf):
        reason = "a stream has no maps over results: give the items one by one, by a stage that is a generator function"
        raise InvalidFunctionError(function.id, reason)
    if arg.serialize is not None or arg.deserialize is not None:
        reason = (
            f"a stream has no hooks of arguments: serialize {repr_of(arg.id)} at the end of its own code, and deserialize"
            " it at the beginning of this one's"
        )
        raise InvalidFunctionError(function.id, reason)
    return ResultOf(arg.id)


def _placed(value: object, taken: Sequence[StageArg]) -> StageArg:
    """Return the argument that a value with placeholders stands for."""
    if isinstance(value, Placeholder):
        return taken[value.position]
    ids: dict[FunctionId, Slot] = {}

    def put(placeholder: Placeholder) -> object:
        arg = taken[placeholder.position]
        if isinstance(arg, Constant):
            return arg.value
        assert isinstance(arg, ResultOf), "containers have their results as placeholders"
        return ids.setdefault(arg.id, Slot(len(ids)))

    container = replaced(value, Placeholder, put)
    return Filled(Filling(container), tuple(ids)) if ids else Constant(container)
