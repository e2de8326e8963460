"""`@task`: options that a function has wherever it is called in a graph."""

import sys
from collections.abc import Callable
from functools import partial, update_wrapper
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeVar, Unpack, overload

from handoff_actors.attributes import own_attribute
from handoff_actors.graph.checks import check_function
from handoff_actors.graph.function import Function, TaskOptions
from handoff_actors.text import did_you_mean, repr_of

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

#: The attribute of a function that has its options.
_ATTRIBUTE: Final = "__handoff_options__"
_NO_OPTIONS: Final[dict[str, Any]] = {}


@overload
def task(fn: FunctionT, /, **options: Unpack[TaskOptions]) -> FunctionT: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[FunctionT], FunctionT]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Give a function options of its own, for every `dag.call` of it: `@handoff.task(cost={"cpu": 1}, timeout=60)`.

    The function stays what it is: it may be called, pickled and inspected as before, and so may methods and coroutine
    functions. Options of `dag.call` come before its own. `handoff.task(fn, cost=...)` leaves `fn` alone and returns another
    function that calls it, as does the decorator for one that is no function of Python, or that another module has defined.

    :param fn: Function to give the options to.
    :param options: Options of `Function`, besides its id, code and arguments.
    :raises TypeError: There is no such option, or `fn` can't be called.
    :raises InvalidFunctionError: An option has a value that is not allowed.
    """
    unknown = sorted(options.keys() - TaskOptions.__annotations__)
    if unknown:
        raise TypeError(
            f"a task has no option {unknown[0]!r}{did_you_mean(unknown[0], TaskOptions.__annotations__)}"
        )
    if fn is None:
        return partial(_decorated, options)
    return _with_options(fn, options) if options else _checked(fn)


def options_of_task(fn: object) -> dict[str, Any]:
    """Return the options that `task` has given to a function; none for any other."""
    if type(fn) is FunctionType:
        # Quicker, and it is asked for each call that is added.
        options: dict[str, Any] = getattr(fn, _ATTRIBUTE, _NO_OPTIONS)
        return options
    if type(fn) is not BuiltinFunctionType and not isinstance(fn, type):
        options = own_attribute(fn, _ATTRIBUTE, _NO_OPTIONS)
    else:
        options = _NO_OPTIONS
    return options


def _decorated(options: dict[str, Any], fn: Any) -> Any:
    # Below them, it is the plain function that is decorated.
    plain = fn.__func__ if isinstance(fn, staticmethod | classmethod) else fn
    if type(plain) is not FunctionType or _is_defined(plain):
        return _with_options(fn, options)
    setattr(plain, _ATTRIBUTE, _merged(plain, options))
    return fn


def _with_options(fn: Any, options: dict[str, Any]) -> Any:
    merged = _merged(fn, options)
    calling = update_wrapper(partial(fn), fn)
    setattr(calling, _ATTRIBUTE, merged)
    return calling


def _merged(fn: Any, options: dict[str, Any]) -> dict[str, Any]:
    merged = {**options_of_task(_checked(fn)), **options}
    check_function(Function(getattr(fn, "__name__", repr_of(fn)), (), fn, **merged))
    return merged


def _checked(fn: Any) -> Any:
    if not callable(fn):
        raise TypeError(
            f"task takes a function, not {repr_of(fn)}; its options are keywords: @handoff.task(timeout=60)"
        )
    return fn


def _is_defined(function: FunctionType) -> bool:
    """True if a function is reached by its name already, so that others may use it: no definition is being decorated."""
    found: object = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = own_attribute(found, name)
    return found is function
