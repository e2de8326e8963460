"""Objects that are made once in each worker that needs them, such as models, and stay there for other functions."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, Final, TypeVar, overload

from handoff_actors.escaping import escape_name
from handoff_actors.graph.argument import PerWorker
from handoff_actors.graph.checks import code_fault, cost_fault
from handoff_actors.graph.placing import holds_result
from handoff_actors.text import repr_of, shortened

ResultT = TypeVar("ResultT")

#: Seconds for which an object that no function uses stays in its worker.
IDLE_S: Final = 600.0
#: Characters of the name of such an object, which nodes tell all others; and of each argument in it.
MOST_OF_NAME: Final = 48
_MOST_OF_ARGUMENT: Final = 24


@overload
def per_worker(
    load: Callable[..., Coroutine[Any, Any, ResultT]],
    *args: object,
    cost: Mapping[str, float] | None = ...,
    idle: float = ...,
    **kwargs: object,
) -> PerWorker[ResultT]: ...
@overload
def per_worker(
    load: Callable[..., ResultT],
    *args: object,
    cost: Mapping[str, float] | None = ...,
    idle: float = ...,
    **kwargs: object,
) -> PerWorker[ResultT]: ...


def per_worker(
    load: Callable[..., Any],
    *args: object,
    cost: Mapping[str, float] | None = None,
    idle: float = IDLE_S,
    **kwargs: object,
) -> PerWorker[Any]:
    """Return a stand-in for the object that `load(*args, **kwargs)` makes, once in each worker that needs it.

    Functions that are passed the stand-in are given the object. It stays in its worker for the functions that follow, of
    this run and of later ones of the session: those of the same `load` and equal arguments share it.

    :param load: Makes the object; may be a coroutine function.
    :param cost: Claimed on the node as long as the object is in a worker, beside what functions claim for themselves.
    :param idle: Seconds for which the object stays while no function uses it. It goes sooner where a function that waits
        needs what it claims, or where the machine is short of memory.

    Raises TypeError and ValueError for parameters that are invalid, and ValueError for an argument that stands for a result.
    """
    if fault := code_fault("load", load):
        raise TypeError(f"per_worker: {fault}")
    if cost is not None and (fault := cost_fault(cost)):
        raise ValueError(f"per_worker: {fault}")
    if isinstance(idle, bool) or not isinstance(idle, int | float) or not (isfinite(idle) and idle >= 0):
        raise ValueError(f"per_worker: idle must be a number of seconds of 0 or more, not {repr_of(idle)}")
    if holds_result([*args, *kwargs.values()]):
        raise ValueError(
            "per_worker: its arguments must be values that are known before the run, not handles or other per_worker objects"
        )
    return PerWorker(_name(load, args, kwargs), load, args, kwargs, dict(cost or {}), float(idle))


def _name(load: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    while isinstance(load, partial):
        load = load.func
    given = [repr_of(arg, _MOST_OF_ARGUMENT) for arg in args]
    given += [f"{name}={repr_of(value, _MOST_OF_ARGUMENT)}" for name, value in kwargs.items()]
    called = str(getattr(load, "__name__", type(load).__name__)).strip("<>")
    name = escape_name(f"{called}({', '.join(given)})")
    return shortened(name.encode("ascii", "backslashreplace").decode(), MOST_OF_NAME)
