"""Marks the function that runs a stage of a stream, so that a graph knows it: it is scheduled in another way than the rest."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MARKED: Final[list[Callable[..., Any]]] = []


def runs_stage(code: F) -> F:
    """Mark a function, and return it."""
    _MARKED.append(code)
    return code


def is_stage_code(code: Callable[..., Any]) -> bool:
    """True for a function that is marked."""
    # By identity: a user's callable may be equal to anything.
    return any(code is marked for marked in _MARKED)
