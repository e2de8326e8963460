"""What Linux offers and the standard library does not reach."""

import ctypes
import os
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

_libc = ctypes.CDLL(None, use_errno=True)


def signal_when_parent_ends(number: int) -> None:
    """Have this process get the signal when the thread that started it ends. Not inherited by forks."""
    _control_process(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, so that they can be reaped."""
    _control_process(_PR_SET_CHILD_SUBREAPER, 1)


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """Call the kernel by number, and give what it answers. Raises OSError."""
    return _checked(_libc.syscall(number, *arguments))


def _control_process(option: int, argument: int) -> None:
    _checked(_libc.prctl(option, argument, 0, 0, 0))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
