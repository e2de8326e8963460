"""The function that is one worker of one stage: an app of a stream has open runs call it."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from handoff_actors.stage_mark import runs_stage
from handoff_actors.workers.stage_spec import InlineCall, Recipe, StageSpec


@runs_stage
def run_stage(spec: StageSpec, /, *extra_args: Any, **kwargs: Any) -> None:
    """Make the stage's state, and work on what its app sends until that closes it.

    What `init` and `close` raise is the failure of this function; all else is the failure of an item.
    """
    # Apps import this module, too, and what follows is for workers alone.
    if is_async(spec):
        from handoff_actors.workers.child.stage.async_lane import run_async_stage  # noqa: PLC0415

        run_async_stage(spec, extra_args, kwargs)
    else:
        from handoff_actors.workers.child.stage.sync_lane import run_sync_stage  # noqa: PLC0415

        run_sync_stage(spec, extra_args, kwargs)


def is_async(spec: StageSpec) -> bool:
    """True if any of the functions of a stage is a coroutine function, or an async generator."""
    codes = (spec.code, spec.init, spec.finish, spec.close, *_inline_codes(spec.args))
    return any(code is not None and _is_async(code) for code in codes)


def _inline_codes(recipes: Sequence[Recipe]) -> list[Callable[..., Any]]:
    inline = [recipe for recipe in recipes if isinstance(recipe, InlineCall)]
    return [code for recipe in inline for code in (recipe.code, *_inline_codes(recipe.args))]


def _is_async(code: Callable[..., Any]) -> bool:
    while isinstance(code, partial):
        code = code.func
    called = code if inspect.isroutine(code) or isinstance(code, type) else type(code).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
