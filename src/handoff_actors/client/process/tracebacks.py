"""Tracebacks as users need them: they end where the user's code calls this package, without the frames of its inside.

Those say nothing about the user's program, and there are a dozen of them. HANDOFF_FULL_TRACEBACKS=1 shows them.
"""

import os
from asyncio import CancelledError, InvalidStateError
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from handoff_actors.errors import HandoffError
from handoff_actors.wire.exception_parts import cause_of, context_of, set_links

P = ParamSpec("P")
R = TypeVar("R")

_FULL: Final = "HANDOFF_FULL_TRACEBACKS"
#: Errors that are raised on purpose. Any other is a bug of ours, of which all frames are of use, or comes from a user's code.
ON_PURPOSE: Final = (
    HandoffError,
    ValueError,
    TypeError,
    LookupError,
    OSError,
    CancelledError,
    InvalidStateError,
    KeyboardInterrupt,
)
#: Packages of frames that lead to such an error, and of those that it was raised in.
_INSIDE: Final = ("handoff_actors.", "cloudpickle.")
_AROUND: Final = (*_INSIDE, "asyncio.", "uvloop.", "concurrent.futures.", "contextlib")
#: A class of users' may let nobody set its fields.
_TRACEBACK: Final = vars(BaseException)["__traceback__"]
#: Errors that have led to one are looked at, too.
_MOST_LINKED: Final = 100


class InsideHidden:
    """A block of a public function: an error that leaves it has no frame of the block, nor any of what that has called.

    Python adds no frame where `with` raises an error again, so the next one is that of the caller.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ON_PURPOSE):
            hide_inside(error)


def inside_hidden(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make the whole of a coroutine function such a block."""

    @wraps(function)
    async def hidden(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except ON_PURPOSE as error:
            hide_inside(error)
            raise

    return hidden


def hide_inside(error: BaseException, *, runs_users_code: bool = False) -> None:
    """Make a function such a block where each call counts, or where it gives values one by one.

    For `except ON_PURPOSE as error: hide_inside(error); raise`, around all of the function: it costs nothing where no error
    passes, and there, too, the next frame is that of the caller.

    `runs_users_code`: an error with frames of users', as of an iterator that the block reads, keeps them all.
    """
    if os.environ.get(_FULL, "0") != "0":
        return
    is_ours = isinstance(error, HandoffError) and not runs_users_code
    if is_ours or _is_raised_inside(_TRACEBACK.__get__(error)):
        _TRACEBACK.__set__(error, None)
        _shorten_linked(error)


def _shorten_linked(error: BaseException) -> None:
    """Have errors that have led to this one show the frames of users only, and those of no interest not at all."""
    pending, seen = [error], {id(error)}
    while pending and len(seen) < _MOST_LINKED:
        found = pending.pop()
        cause, context = cause_of(found), context_of(found)
        if context is not None and _was_handled_inside(context):
            set_links(found, cause, context, suppresses_context=True)
        for linked in (cause, context):
            if linked is not None and id(linked) not in seen:
                seen.add(id(linked))
                pending.append(linked)
                _TRACEBACK.__set__(linked, _users_part(_TRACEBACK.__get__(linked)))


def _was_handled_inside(error: BaseException) -> bool:
    """True if it was caught in this package: the traceback of one that users have caught begins with their frame."""
    trace: TracebackType | None = _TRACEBACK.__get__(error)
    return trace is not None and _is_inside(trace)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Leave out frames of this package, wherever they are."""
    steps = []
    while trace is not None:
        if not _is_inside(trace):
            steps.append(trace)
        trace = trace.tb_next
    part: TracebackType | None = None
    for step in reversed(steps):
        part = TracebackType(part, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return part


def _is_raised_inside(trace: TracebackType | None) -> bool:
    """True if no user's code was called."""
    while trace is not None:
        if not _module_of(trace).startswith(_AROUND):
            return False
        trace = trace.tb_next
    return True


def _is_inside(trace: TracebackType) -> bool:
    return _module_of(trace).startswith(_INSIDE)


def _module_of(trace: TracebackType) -> str:
    name = trace.tb_frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""
