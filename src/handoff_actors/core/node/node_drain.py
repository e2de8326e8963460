"""When a node that drains may go: once nothing runs there and no run has values there, and its runs have heard of that.

Runs close themselves on a leaving node once they have read what became of their last functions, and have had their values
copied elsewhere. Word that the node has left may overtake what they have yet to read, so the node waits for that. It does
not wait for long, as an app may be dead, or frozen, which would only show when its lease ends.
"""

from typing import Final

#: Seconds that runs have to close themselves on a node that has nothing more to do for them.
CLOSE_WITHIN_S: Final = 2.0


class NodeDrain:
    """The end of one node, as far as it is in good order."""

    def __init__(self) -> None:
        #: The node takes no more work.
        self.has_begun = False
        self._is_over = False
        self._nothing_to_do_since: float | None = None

    @property
    def wake_at(self) -> float | None:
        """The time at which runs that have not closed themselves are not waited for any more."""
        since = self._nothing_to_do_since
        return None if since is None or self._is_over else since + CLOSE_WITHIN_S

    def begin(self) -> None:
        """Take note that the node is told to leave."""
        self.has_begun = True

    def may_go(self, now: float, *, runs: int, is_busy: bool) -> bool:
        """True once, when the node has nothing more to do. It is busy while something runs, or a value is there."""
        if not self.has_begun or self._is_over:
            return False
        if is_busy:
            self._nothing_to_do_since = None
        elif self._nothing_to_do_since is None:
            self._nothing_to_do_since = now
        wake_at = self.wake_at
        self._is_over = wake_at is not None and (runs == 0 or now >= wake_at)
        return self._is_over
