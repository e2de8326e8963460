"""Checks of one function: everything that can be checked without its DAG."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import isfinite, nan
from numbers import Integral, Real
from operator import attrgetter, is_
from types import FunctionType, MethodType

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Argument, Collocated, Constant, RunValue
from handoff_actors.graph.environment import is_directory_name, is_env_vars
from handoff_actors.graph.function import Function
from handoff_actors.graph.placing import Skeleton
from handoff_actors.ids import FunctionId
from handoff_actors.retry_on import is_retry_on
from handoff_actors.text import NAME_RULE, is_name, repr_of, str_of
from handoff_actors.time_spans import is_time_span

_BACKOFF_PARTS = 3
_FAR_BELOW_OVERFLOW = 1e300
_USUAL_RESOURCES = frozenset({"cpu", "memory"})
#: Characters of the names of all resources that a function claims; no node can offer more.
_MOST_OF_COST = 1500
#: So few names are not too many characters.
_MOST_PLAIN = 5
#: A priority is sent as a number of 64 bits.
_MOST_PRIORITY = 1e9


def check_id(function_id: FunctionId) -> None:
    """Raise InvalidFunctionError for an id that cannot be the key of a mapping."""
    try:
        hash(function_id)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        because = "" if isinstance(error, TypeError) else f", and its __hash__ raises {str_of(error)}"
        raise InvalidFunctionError(function_id, f"an id must be hashable{because}") from error


def check_function(function: Function) -> None:
    """Raise InvalidFunctionError for the first field that is invalid, missing, or not allowed for the type."""
    _check_options(function)
    if function.type == "regular":
        # In a stream it may be a generator function.
        _check_code(function, _call_fault("code", function.code), function.code)
    elif function.type == "inline":
        _check_code(function, code_fault("code", function.code), function.code)
        _refuse(function, _NOT_OF_INLINE, "an inline function is part of each function that takes its result")
    else:
        _refuse(function, _NOT_OF_INPUT, "an input is what a stream is given")
    for arg in function.args:
        if type(arg) is not str and type(arg) is not Constant:
            _check_arg(function, arg)
    if function.kwargs:
        _check_kwargs(function)


def is_coroutine_code(code: Callable[..., object]) -> bool:
    """True if calling `code` gives a coroutine, also through partials, methods and async `__call__`."""
    return inspect.iscoroutinefunction(_called(code))


def is_generator_code(code: Callable[..., object]) -> bool:
    """True if calling `code` gives a generator, also an async one, through partials, methods and `__call__`."""
    return _has_flag(code, inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)


def is_async_generator_code(code: Callable[..., object]) -> bool:
    """True if calling `code` gives an async generator, also through partials, methods and `__call__`."""
    return _has_flag(code, inspect.CO_ASYNC_GENERATOR)


def _has_flag(code: Callable[..., object], flags: int) -> bool:
    called = _called(code)
    function = called.__func__ if isinstance(called, MethodType) else called
    # The same check as inspect's, without its detours: it is made for the functions of each run.
    return isinstance(function, FunctionType) and bool(function.__code__.co_flags & flags)


def _called(code: Callable[..., object]) -> Callable[..., object]:
    while isinstance(code, partial):
        code = code.func
    if isinstance(code, FunctionType | MethodType | type) or inspect.isroutine(code):
        return code
    called: Callable[..., object] = type(code).__call__
    return called


def _is_hashable(value: object) -> bool:
    # Only trying tells: a tuple that holds a list is an instance of Hashable.
    try:
        hash(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a user's __hash__ raises what it likes
        return False
    return True


def _amount(value: object) -> float:
    """Convert to float; anything but a finite number becomes nan, which compares as false."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return nan
    try:
        amount = float(value)
    except OverflowError:
        return nan
    return amount if isfinite(amount) else nan


def _is_amount(value: object) -> bool:
    return _amount(value) >= 0


def _is_positive(value: object) -> bool:
    return _amount(value) > 0


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_whole_from(least: int, value: object) -> bool:
    return _is_whole(value) and _amount(value) >= least


def _is_parallelism(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and all(map(_is_parallelism, value)) and value[0] <= value[1]  # noqa: PLR2004 - a pair
    return _is_whole_from(1, value)


def _is_key(value: object) -> bool:
    return callable(value) and not is_coroutine_code(value) and not is_generator_code(value)


def _is_priority(value: object) -> bool:
    return _is_whole(value) and abs(_amount(value)) < _MOST_PRIORITY


def _is_cost(value: object) -> bool:
    if type(value) is dict and len(value) <= _MOST_PLAIN and all(map(_is_plain_claim, value, value.values())):
        return True
    if not isinstance(value, Mapping):
        return False
    named = all(isinstance(name, str) and is_name(name) for name in value)
    named = named and sum(map(len, value)) <= _MOST_OF_COST
    gpu = _amount(value.get("gpu"))
    # A claim on several devices gets whole ones; only a share of one device can be divided.
    return named and all(map(_is_amount, value.values())) and not (gpu > 1 and gpu % 1)


def _is_plain_claim(name: object, amount: object) -> bool:
    # Nearly all claims are plain, and each function that is added has some: this takes a fifth of the whole check's time.
    return (
        type(name) is str
        and (type(amount) is int or type(amount) is float)
        and 0 <= amount < _FAR_BELOW_OVERFLOW
        and (name in _USUAL_RESOURCES or (name != "gpu" and is_name(name)))
    )


def _is_backoff(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != _BACKOFF_PARTS:
        return False
    first_s, factor, max_s = value
    return _is_amount(first_s) and _amount(factor) >= 1 and _is_amount(max_s)


def _is_place(value: object) -> bool:
    if isinstance(value, Collocated):
        return _is_hashable(value.id)
    return isinstance(value, str) and is_name(value)


def _is_when(value: object) -> bool:
    conditions = value if isinstance(value, list) else [value]
    return bool(conditions) and not any(
        isinstance(each, Argument | bool)
        or (isinstance(each, Constant) and not isinstance(each.value, RunValue))
        or not _is_hashable(each)
        for each in conditions
    )


def _is_inclusion(value: object) -> bool:
    return value in ("variadic", "as_list") or isinstance(value, Skeleton)


_COST_RULE = f"None or a mapping of names to numbers of 0 or more, such as {{'cpu': 1}} (gpu: whole if above 1; {NAME_RULE})"
#: Field, default, the check that any other value must pass, and that check in words.
_OPTIONS: tuple[tuple[str, object, Callable[[object], bool], str], ...] = (
    ("type", "regular", ("regular", "inline", "input").__contains__, "'regular', 'inline' or 'input'"),
    (
        "cost",
        None,
        _is_cost,
        _COST_RULE,
    ),
    ("node", None, _is_place, f"None, the name of a node, or collocated(function_id) ({NAME_RULE})"),
    ("max_retries", None, partial(_is_whole_from, 0), "None or a whole number of 0 or more"),
    ("retry_backoff", None, _is_backoff, "None or (first_s >= 0, factor >= 1, max_s >= 0)"),
    (
        "retry_on",
        None,
        is_retry_on,
        "None, an exception class, a tuple of them, or a function of the exception",
    ),
    ("timeout", None, _is_positive, "None or a number of seconds above 0"),
    ("priority", 0, _is_priority, "a whole number of less than 1e9 either way"),
    ("cache", None, is_time_span, 'None, a number of seconds above 0, or text such as "12h" or "30d"'),
    ("argument_inclusion", "variadic", _is_inclusion, "'variadic' or 'as_list'"),
    (
        "env_vars",
        None,
        is_env_vars,
        "None or a mapping of names to strings as os.environ may have them, of 2 MiB at most",
    ),
    ("working_dir", None, is_directory_name, "None or the path of a directory, of 4096 characters at most"),
    ("run_if", "success", ("success", "always", "failure").__contains__, "'success', 'always' or 'failure'"),
    ("when", None, _is_when, "None, the handle or id of a function, a StoredValue, or a list of them"),
    ("init", None, callable, "None or a callable"),
    ("finish", None, callable, "None or a callable"),
    ("close", None, callable, "None or a callable"),
    ("on_state_loss", None, ("fail", "restart").__contains__, "None, 'fail' or 'restart'"),
    ("parallelism", 1, _is_parallelism, "a whole number of 1 or more, or two of them, (least, most)"),
    (
        "key",
        None,
        _is_key,
        "None or a plain function of a result (it is an option of streams; kwargs={'key': ...} passes one to the function)",
    ),
    ("batch_size", None, partial(_is_whole_from, 1), "None or a whole number of 1 or more"),
    ("batch_timeout", None, _is_positive, "None or a number of seconds above 0"),
)
_DEFAULTS = tuple(default for _, default, _, _ in _OPTIONS)
#: Fields that say what becomes of a state.
_OF_STATE = ("finish", "close", "on_state_loss")
#: Fields of the stages of streams.
_OF_STAGES = ("init", *_OF_STATE, "parallelism", "key", "batch_size", "batch_timeout")
_DEFAULT_OF: Mapping[str, object] = {name: default for name, default, _, _ in _OPTIONS}
_option_values = attrgetter(*(name for name, _, _, _ in _OPTIONS))

#: Fields that belong to the function that runs, and so not to an inline one, which is computed within it.
_NOT_OF_INLINE = (
    "node",
    "cost",
    *_OF_STAGES,
    "timeout",
    "max_retries",
    "retry_backoff",
    "retry_on",
    "cache",
    "env_vars",
    "working_dir",
    "run_if",
    "when",
)
_NOT_OF_INPUT = (
    "args",
    "extra_args",
    "kwargs",
    "cost",
    "code",
    "cache",
    *_OF_STAGES,
    "env_vars",
    "working_dir",
    "run_if",
    "when",
)


def _check_options(function: Function) -> None:
    values = _option_values(function)
    if all(map(is_, values, _DEFAULTS)):
        return
    for (name, default, is_valid, requirement), value in zip(_OPTIONS, values, strict=True):
        if value is not default and not is_valid(value):
            raise InvalidFunctionError(function.id, f"{name} must be {requirement}, not {repr_of(value)}")
    if function.init is None:
        _refuse_without_state(function)


def _refuse_without_state(function: Function) -> None:
    for name in _OF_STATE:
        if getattr(function, name) is not None:
            reason = (
                f"{name} is an option of stages that have a state, which init makes, and it has no init"
                f" (kwargs={{{name!r}: ...}} passes one to the function)"
            )
            raise InvalidFunctionError(function.id, reason)


def _check_code(function: Function, fault: str, code: object) -> None:
    if fault:
        hint = "; pass the function itself, dag.call(f, 3), not what it returns, dag.call(f(3))"
        is_a_value = code is not None and not callable(code)
        raise InvalidFunctionError(function.id, f"{fault}{hint if is_a_value else ''}")


def code_fault(name: str, code: object) -> str:
    """Say why this can't be the code of a function that gives one result; "" if it can."""
    if not callable(code):
        return _call_fault(name, code)
    if is_generator_code(code):
        return f"{name} is a generator function, and generators cannot travel; return a list of the items"
    return ""


def _call_fault(name: str, code: object) -> str:
    return "" if callable(code) else f"{name} must be a callable, not {repr_of(code)}"


def cost_fault(cost: object) -> str:
    """Say why this can't be a claim; "" if it can."""
    return "" if _is_cost(cost) else f"cost must be {_COST_RULE}, not {repr_of(cost)}"


def _refuse(function: Function, names: Iterable[str], why: str) -> None:
    for name in names:
        value = getattr(function, name)
        if value is not None and value not in ((), {}, _DEFAULT_OF.get(name)):
            raise InvalidFunctionError(function.id, f"{why}, so it has no {name} of its own")


def _check_arg(function: Function, arg: object) -> None:
    if isinstance(arg, Argument):
        check_id(arg.id)
        for name in ("serialize", "deserialize"):
            hook = getattr(arg, name)
            if hook is not None:
                _check_code(function, code_fault(name, hook), hook)
    elif not _is_hashable(arg):
        reason = f"args are ids of functions, and {repr_of(arg)} cannot be one; values go into extra_args or Constant(...)"
        raise InvalidFunctionError(function.id, reason)


def _check_kwargs(function: Function) -> None:
    if not isinstance(function.kwargs, Mapping) or not all(isinstance(name, str) for name in function.kwargs):
        raise InvalidFunctionError(
            function.id, f"kwargs must map names to values, not {repr_of(function.kwargs)}"
        )
