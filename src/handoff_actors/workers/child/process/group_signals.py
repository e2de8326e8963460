"""Signals that are sent to every process of a node: what they mean is the node's to decide.

Service managers (systemd's `KillMode=control-group`), Slurm's `scancel` and `kill` with a group stop a node by a signal to
all of its processes. The node drains then, so its functions must run on. A signal that one worker alone gets, from its own
function, from an operator or from a watchdog, does to it what it does to any process.

The zygote, which no function knows, tells the two apart: what it gets, all have got. It counts such signals in memory that
it shares with its workers, and a worker that gets one looks there. Ignoring them by SIG_IGN would be simpler, but programs
that functions start would inherit that, and could not be terminated; a handler is reset by `exec`, and here by forks.
"""

import os
import signal
import threading
import time
from mmap import mmap
from types import FrameType
from typing import Final

#: Signals that end a process which does not handle them.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_COUNTED: Final = (*_ENDING, signal.SIGINT)
#: Whoever signals all processes does so one after the other: the zygote's turn may come so many seconds after a worker's.
#: Functions that interrupt themselves wait for as long; those that end themselves can wait longer.
_TOGETHER_S: Final = {signal.SIGTERM: 1.0, signal.SIGHUP: 1.0, signal.SIGINT: 0.5}
_LOOKS_EVERY_S: Final = 0.005
#: Signals to one process that come this soon after one another are taken for a burst.
_ALONE_S: Final = 1.0
#: Signals of one kind that come this soon after one another may have been counted as one.
_SAME_S: Final = 5.0
_FLOAT_NBYTES: Final = 8


class _GroupSignals:
    """The signals that the zygote has got, counted in memory that is shared with its forks."""

    def __init__(self) -> None:
        #: For each signal, how often it came and when it came last, in monotonic seconds.
        self._counts = memoryview(mmap(-1, 2 * _FLOAT_NBYTES * len(_COUNTED))).cast("d")
        self._seen = [0.0] * len(_COUNTED)
        #: A process that was signalled alone does not wait again until then.
        self._alone_until = 0.0
        #: A handler waits, which the next signal may interrupt; the waiting one decides for both.
        self._is_waiting = False
        #: Of each thread: the signals that it has blocked, but for those of `hold`.
        self._held = threading.local()

    def count(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal of this process, which all others have got, too. A handler."""
        place = 2 * _COUNTED.index(signal.Signals(number))
        self._counts[place] += 1
        self._counts[place + 1] = time.monotonic()

    def note(self) -> None:
        """Take all signals so far as seen."""
        self._seen = list(self._counts[::2])

    def is_for_all(self, number: int) -> bool:
        """True if the zygote has got a signal that this process has just got, too, or gets it within a moment.

        True as well for a signal that comes while that is found out about an earlier one.
        """
        which = _COUNTED.index(signal.Signals(number))
        if self._is_counted(which):
            return True
        if self._is_waiting or time.monotonic() < self._alone_until:
            return self._is_waiting
        self._is_waiting = True
        try:
            return self._waited_for(which)
        finally:
            self._is_waiting = False

    def _waited_for(self, which: int) -> bool:
        gives_up_at = time.monotonic() + _TOGETHER_S[_COUNTED[which]]
        while time.monotonic() < gives_up_at:
            time.sleep(_LOOKS_EVERY_S)
            if self._is_counted(which):
                return True
        self._alone_until = time.monotonic() + _ALONE_S
        return False

    def _is_counted(self, which: int) -> bool:
        count, latest = self._counts[2 * which : 2 * which + 2]
        is_new, self._seen[which] = count > self._seen[which], count
        return is_new or (count > 0 and time.monotonic() - latest < _SAME_S)

    def take(self, number: int, _frame: FrameType | None) -> None:
        """End this process by the signal, unless that is the node's to decide. A handler."""
        if not self.is_for_all(number):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def hold(self) -> None:
        """Before a fork: let signals wait until it is settled whose they are. A fork forgets what its handlers have not seen."""
        self._held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)

    def let_go(self) -> None:
        """After a fork: take signals again."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._held.mask)

    def undo(self) -> None:
        """In a fork that a function has made, which is no worker: let signals end it again."""
        for number in _ENDING:
            if signal.getsignal(number) == self.take:
                signal.signal(number, signal.SIG_DFL)
        self.let_go()


_signals: _GroupSignals | None = None


def count_group_signals() -> None:
    """In the zygote: count the signals that all of its node's processes get, and do nothing else."""
    global _signals  # noqa: PLW0603 - one process has one
    _signals = _GroupSignals()
    for number in _COUNTED:
        signal.signal(number, _signals.count)


def leave_group_signals_to_node() -> None:
    """In a worker that has just been forked: survive the signals that all of the node's processes get."""
    assert _signals is not None, "workers are forks of a zygote"
    _signals.note()
    for number in _ENDING:
        signal.signal(number, _signals.take)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.register_at_fork(before=_signals.hold, after_in_parent=_signals.let_go, after_in_child=_signals.undo)


def is_for_all(number: int) -> bool:
    """True if a signal that this process has just got has been sent to all processes of its node. False outside of workers."""
    return _signals is not None and _signals.is_for_all(number)
