"""Forks that a function makes with `os.fork`: none is a worker, and each ends where the function ends in it.

Most end by themselves, with `os._exit` or by `exec`. One that returns from the function, or raises, is past what the user
has written for it; what follows, such as storing the result, is for the worker alone.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from handoff_actors.wire.exceptions import user_part


class ForkGuard:
    """Tells a worker from the forks that its functions make."""

    def __init__(self, abandon: Callable[[], None]) -> None:
        """`abandon` is called at the start of each fork, to let go of what is its parent's alone."""
        self.is_fork = False
        self._abandon = abandon
        os.register_at_fork(after_in_child=self._begun)

    def _begun(self) -> None:
        self.is_fork = True
        self._abandon()


def end_fork(error: BaseException | None = None) -> NoReturn:
    """End this process as Python ends one that comes to the end of its program, or raises `error` there."""
    status = 1
    try:
        if error is None:
            status = 0
        elif isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = error.code or 0
        elif isinstance(error, SystemExit):
            sys.stderr.write(f"{error.code}\n")
        else:
            traceback.print_exception(type(error), error, user_part(error.__traceback__))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Not what was registered with `atexit`: that is for the worker to run.
        os._exit(status & 0xFF)
