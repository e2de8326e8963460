"""Checks of one function of a stream, beyond those of `checks`: what has a place only in a run, and what its code is called with."""

from collections.abc import Sequence

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.checks import is_generator_code
from handoff_actors.graph.function import Function
from handoff_actors.graph.mapping import adds_functions
from handoff_actors.graph.parameters import check_stage_call
from handoff_actors.graph.placing import holds_result
from handoff_actors.graph.streams.stage_arguments import StageArguments, arguments_of
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of


def is_batched(function: Function) -> bool:
    """True if the code of a stage gets a list of items."""
    return function.batch_size is not None or function.batch_timeout is not None


def check_stage_function(function: Function) -> None:
    """Raise InvalidFunctionError for what a function of a stream can't have."""
    fault = _fault(function)
    if fault:
        raise InvalidFunctionError(function.id, fault)
    if function.type == "inline" and holds_result(_fixed_of(arguments_of(function))):
        reason = (
            "is inline, and takes a value of a run, or an object of per_worker, which in a stream stages alone take: make it"
            " regular"
        )
        raise InvalidFunctionError(function.id, reason)


def _fixed_of(arguments: StageArguments) -> list[object]:
    return [*arguments.extra_args, *arguments.kwargs.values()]


def _fault(function: Function) -> str:
    if function.when is not None:
        return "when is an option of runs: in a stream, a function returns handoff.SKIP to end an item"
    if function.run_if != "success":
        return f"run_if={function.run_if!r} is an option of runs: in a stream, an item that fails is given out as an ItemError"
    if function.cache is not None:
        return "cache is an option of runs, and a stream keeps no results: leave it out"
    if function.code is None:
        return ""
    if adds_functions(function.code):
        return (
            "maps over a result, for which a stream adds no functions: give the items one by one, by a stage that is a generator"
            " function, and take them in the next stage"
        )
    if is_batched(function) and is_generator_code(function.code):
        return "is a generator function, and a batch gives one result for each of its items: leave out batch_size and batch_timeout"
    return ""


def check_stage_code(function: Function, arguments: StageArguments, producers: Sequence[FunctionId]) -> None:
    """Raise InvalidFunctionError for a stage that would never be called, or whose functions don't take what they are given."""
    if not producers:
        reason = (
            "takes nothing of what is pushed, and a stage without inputs would never be called: give it the result of an"
            " input or of a stage, or make what it returns before the stream, and pass that to others as a value"
        )
        raise InvalidFunctionError(function.id, reason)
    _check_key(function, arguments, producers)
    if is_batched(function) and arguments.names:
        reason = f"takes a result by name, as {arguments.names[0]}, and a batch is a list of tuples: pass results by position"
        raise InvalidFunctionError(function.id, reason)
    has_state = function.init is not None
    is_list = is_batched(function) or arguments.as_list
    own = 1 if is_list else len(arguments.args) - len(arguments.names)
    count = has_state + own + len(arguments.extra_args)
    check_stage_call(function.id, "code", function.code, count, [*arguments.names, *arguments.kwargs])
    for name in ("finish", "close", "key"):
        code = getattr(function, name)
        if code is not None:
            check_stage_call(function.id, name, code, 1)


def _check_key(function: Function, arguments: StageArguments, producers: Sequence[FunctionId]) -> None:
    if function.key is None:
        return
    if len(producers) > 1:
        names = ", ".join(map(repr_of, producers))
        reason = (
            f"has a key, and takes from {names}: an item can go by the key of one result alone; let a stage before it join"
            " them, and take the key of its result"
        )
        raise InvalidFunctionError(function.id, reason)
    if producers[0] not in arguments.ids:
        reason = (
            f"has a key, and takes from {repr_of(producers[0])} only through inline functions, while the key is that of the"
            " result itself: make these regular"
        )
        raise InvalidFunctionError(function.id, reason)
