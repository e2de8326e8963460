"""Errors of the user's own module, shown with the user's frames only."""

import asyncio
import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

import handoff_actors
from handoff_actors.cli.output.failures import TracedFailure
from handoff_actors.text import MOST_OF_TRACEBACK, shortened

#: Frames of these show how the module was called, not what it does.
_MACHINERY: Final = tuple(
    f"{Path(str(module.__file__)).parent}/" for module in (handoff_actors, click, asyncio, importlib)
)


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into a failure that says `what` has failed, and whose cause is the error."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's code raises what it likes, and may even exit
        raise TracedFailure(what, shortened(users_traceback(error), MOST_OF_TRACEBACK)) from error


def users_traceback(error: BaseException) -> str:
    """Format an error and those behind it, without frames of this library."""
    formatted = traceback.TracebackException.from_exception(error)
    _drop_machinery(formatted, set())
    return "".join(formatted.format())


def _drop_machinery(formatted: traceback.TracebackException, seen: set[int]) -> None:
    if id(formatted) in seen:
        return
    seen.add(id(formatted))
    formatted.stack = traceback.StackSummary.from_list(
        [frame for frame in formatted.stack if not _is_machinery(frame.filename)]
    )
    for other in (formatted.__cause__, formatted.__context__, *(formatted.exceptions or ())):
        if other is not None:
            _drop_machinery(other, seen)


def _is_machinery(filename: str) -> bool:
    return filename.startswith((*_MACHINERY, "<frozen importlib"))
