"""SIGINT in a worker: KeyboardInterrupt in the user's code that runs, and nothing anywhere else.

Ctrl-C in the app's terminal does not reach a worker, which has a session of its own. But functions send SIGINT to programs
that they have started, and these must not have inherited that it is ignored; and functions interrupt themselves, as
watchdogs do with `_thread.interrupt_main`. So workers catch the signal, and raise only where no state of theirs is half
changed.

The handler takes the place of `signal.default_int_handler`, as which functions see it, and as which they restore it.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from handoff_actors.workers.child.process.group_signals import is_for_all

#: Signals that Python itself ignores, and the one that is ignored until `take_interrupts`.
_LEFT_IGNORED: Final = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT}


class UserCode:
    """Tells whether user code runs in this process, which signals may interrupt."""

    __slots__ = ("is_interruptible", "is_running")

    def __init__(self) -> None:
        #: No state of the worker is half changed: a recall may be answered right away.
        self.is_interruptible = False
        #: A function runs, which SIGINT interrupts; unless a recall is being answered, after which it does.
        self.is_running = False


def take_interrupts(interrupt: Callable[[], None]) -> None:
    """Call `interrupt` in the main thread on each SIGINT; it raises KeyboardInterrupt if user code is running."""
    pythons_own = signal.default_int_handler

    def default_int_handler(_number: int, _frame: FrameType | None, /) -> None:
        """Raise KeyboardInterrupt, if a function is running and the signal is not for the whole node."""
        if not is_for_all(signal.SIGINT):
            interrupt()

    default_int_handler.__module__, default_int_handler.__qualname__ = "signal", "default_int_handler"

    def undo() -> None:
        # A fork that a function has made is no worker.
        signal.default_int_handler = pythons_own
        if signal.getsignal(signal.SIGINT) is default_int_handler:
            signal.signal(signal.SIGINT, pythons_own)

    signal.default_int_handler = default_int_handler  # type: ignore[assignment]  # it does not always raise
    signal.signal(signal.SIGINT, default_int_handler)
    os.register_at_fork(after_in_child=undo)


def heed_ignored_signals() -> None:
    """Give signals that are ignored their default action, as far as they have one in Python."""
    for number in signal.valid_signals() - _LEFT_IGNORED:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
