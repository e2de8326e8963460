"""SIGTERM and SIGINT in a process that has nothing yet, or nothing any more, that is to be cleared away."""

import os
import signal
from types import FrameType
from typing import Final

#: Signals that end a daemon.
ENDING: Final = (signal.SIGTERM, signal.SIGINT)
#: Shells report the end by a signal as a status that is greater by this than its number.
BY_SIGNAL: Final = 128
#: The exit status of a command that SIGINT has ended.
INTERRUPTED: Final = BY_SIGNAL + signal.SIGINT


def end_at_first_signal() -> None:
    """Have the next SIGTERM or SIGINT end this process at once. For the main thread."""
    for number in ENDING:
        signal.signal(number, _end_by)


def _end_by(number: int, _frame: FrameType | None) -> None:
    # Neither with a traceback, as of KeyboardInterrupt, nor after threads that are waited for.
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    # Signals that are not handled do nothing to the first process of a container.
    os._exit(BY_SIGNAL + number)
