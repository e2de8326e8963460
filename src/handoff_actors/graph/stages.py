"""The stages of a map: functions that are called for each item, and what they take besides.

Where the items are a result, another function adds those of the items, in a worker: options go there with the code, results
and values of other runs as arguments.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Argument, Collocated, PerWorker, SharedValue
from handoff_actors.graph.function import Code
from handoff_actors.graph.parameters import OPTIONS
from handoff_actors.graph.placing import holds_result, results_among
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of


class Stage(Struct, frozen=True):
    """A function that is called for each item."""

    kind: Literal["map", "filter"]
    code: Code
    #: As of `DAG.call`.
    options: dict[str, Any]


class ObjectArgument(Struct, frozen=True):
    """An object of `per_worker` on the way to the worker that adds functions which take it; see `PerWorker`."""

    name: str
    load: Code
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    cost: Mapping[str, float]
    idle: float

    @classmethod
    def of(cls, made: PerWorker[Any]) -> Self:
        """The argument that stands for an object."""
        return cls(made.name, made.load, made.args, made.kwargs, made.cost, made.idle)

    def made(self) -> PerWorker[Any]:
        """The object that it stands for."""
        return PerWorker(self.name, self.load, self.args, self.kwargs, self.cost, self.idle)


class Reduction(Struct, frozen=True):
    """A function of two that makes one value of all items."""

    code: Code
    initial: object
    options: dict[str, Any]


def split(stage: Stage) -> tuple[Stage, dict[str, Any]]:
    """Split off the arguments among a stage's options that hold results; what is left can be sent along with its code."""
    options = {
        name: ObjectArgument.of(value) if _is_argument(name) and type(value) is PerWorker else value
        for name, value in stage.options.items()
    }
    taken = {name: value for name, value in options.items() if _is_argument(name) and holds_result([value])}
    kept_options = {name: value for name, value in options.items() if name not in taken}
    return replace(stage, options=kept_options), taken


def with_objects(options: dict[str, Any]) -> dict[str, Any]:
    """Have functions take objects of `per_worker` again: all of them the same one."""
    return {name: value.made() if type(value) is ObjectArgument else value for name, value in options.items()}


def _is_argument(name: str) -> bool:
    return name in {"kwargs", "extra_args"} or name not in OPTIONS


def shared(taken: dict[str, Any]) -> dict[str, Any]:
    """Have arguments be sent once for all items."""
    ready: dict[str, Any] = {}
    for name, value in taken.items():
        if name == "kwargs":
            ready[name] = {key: SharedValue(each) for key, each in value.items()}
        elif name == "extra_args":
            ready[name] = [SharedValue(each) for each in value]
        else:
            ready[name] = SharedValue(value)
    return ready


def check_stage(function_id: FunctionId, stage: Stage) -> None:
    """Raise InvalidFunctionError for a stage with options that functions which are added later can't have."""
    without, taken = split(stage)
    check_is_sendable(function_id, without.options, list(taken.values()))


def check_is_sendable(function_id: FunctionId, options: dict[str, Any], taken: list[object]) -> None:
    """Raise InvalidFunctionError for options, or arguments that hold results, that functions which are added later can't have."""
    for name, value in options.items():
        if isinstance(value, Collocated) or holds_result([value]):
            raise InvalidFunctionError(
                function_id,
                f"it is a map over a result, whose functions are added when that is there: their {name} can't refer to results"
                " or other functions; map over a list of handles instead, or have a function return a Subgraph",
            )
    for result in results_among(function_id, taken):
        if isinstance(result, PerWorker | Argument):
            raise InvalidFunctionError(
                function_id,
                f"it is a map over a result, whose functions are added when that is there, and they can't take {repr_of(result)}:"
                " handles, values of other runs and, by themselves, objects of per_worker can be keywords of it."
                " Map over a list that is known, or make what it stands for within the function",
            )
