"""The circuit breaker of a node: one that fails whatever it is given says that runs should not use it for a while.

    closed --FAILURES in a row, of FUNCTIONS functions--> open --pause is over--> half-open
      ^                                                     |  ^                      |
      +------------------- success of any function ---------+--+---- next failure ----+
                                                                     (pause doubles)

A full disk, a missing mount or a broken library make a node a black hole: it fails quickly, is idle again, and is given
more. Which of that it is doesn't matter here, and neither does whose fault it is: a run keeps away from a node that is out
of use only while it has another one, so functions that fail everywhere take no cluster out of use. Failures of one function
say little about a node, a success anywhere in between says that it works.

Source: "Release It!" (Michael Nygard), the pattern of that name.
"""

from typing import Final

from handoff_actors.ids import Index, RunId
from handoff_actors.text import exact, shortened
from handoff_actors.wire.messages.runs import FailureKind

#: Failed attempts in a row that take a node out of use, and the number of functions that they are of, at least.
FAILURES: Final = 5
FUNCTIONS: Final = 3
#: Seconds out of use before the node is tried again: at first, and at most. Each time it fails again they double.
FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 300.0
#: Characters of the latest failure's reason that others are told. All of `reason` fits into an advert.
MOST_REASON: Final = 90
#: Failures that say nothing about the node: of other nodes, of the function's own doing, or wanted.
_NO_SIGN: Final = frozenset[FailureKind]({"input", "unreachable", "cancelled", "deadlock"})


class CircuitBreaker:
    """The latest outcomes of one node's attempts."""

    #: Why runs should not use the node; "" while they may.
    reason: str
    #: The time at which it is to be tried again; None unless it is out of use.
    wake_at: float | None

    def __init__(self) -> None:
        self._reset()

    def succeeded(self) -> None:
        """Note that an attempt has succeeded. It costs next to nothing unless the node was in trouble."""
        if self._failures:
            self._reset()

    def failed(self, run: RunId, index: Index, kind: FailureKind, why: str, now: float) -> None:
        """Note that an attempt has failed."""
        if kind in _NO_SIGN:
            return
        self._failures += 1
        if len(self._functions) < FUNCTIONS:
            self._functions.add((run, index))
        is_bad = self._failures >= FAILURES and len(self._functions) >= FUNCTIONS
        if is_bad and not self.reason:
            self._open(kind, why, now)

    def wake(self, now: float) -> None:
        """Let the node be tried again once the pause is over."""
        if self.wake_at is not None and now >= self.wake_at:
            self.reason, self.wake_at = "", None

    def _reset(self) -> None:
        self.reason, self.wake_at = "", None
        #: Failed attempts since the last success, and the first few functions that they are of.
        self._failures = 0
        self._functions: set[tuple[RunId, Index]] = set()
        #: 0.0: the node has not been out of use since the last success.
        self._pause_s = 0.0

    def _open(self, kind: FailureKind, why: str, now: float) -> None:
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if self._pause_s else FIRST_PAUSE_S
        self.wake_at = now + self._pause_s
        self.reason = (
            f"its last {self._failures} attempts failed, the latest by {kind}: {shortened(why.partition(chr(10))[0], MOST_REASON)}; "
            f"tried again after {exact(self._pause_s)} s"
        )
