"""When a node that drains may go: once nothing runs there and no run has values there, and its runs have heard of that.

Runs close themselves on a leaving node once they have read what became of their last functions, and have had their values
copied elsewhere. Word that the node has left may overtake what they have yet to read, so the node waits for that. It does
not wait for long, as an app may be dead, or frozen, which would only show when its lease ends.
"""

from typing import Final

from handoff_actors.core.node.events import LeaveCompleted, LeaveDue
from handoff_actors.core.node.lifetime import FOREVER, Lifetime, NodeEnd

#: Seconds that runs have to close themselves on a node that has nothing more to do for them.
CLOSE_WITHIN_S: Final = 2.0


class NodeDrain:
    """The end of one node, as far as it is in good order."""

    def __init__(self, lifetime: Lifetime = FOREVER) -> None:
        self._end = NodeEnd(lifetime)
        #: The node takes no more work.
        self.has_begun = False
        self._is_over = False
        self._nothing_to_do_since: float | None = None

    def start(self, now: float) -> None:
        """Let the node's lifetime begin."""
        self._end.start(now)

    @property
    def ends_at(self) -> float | None:
        """The time at which the node begins to leave by itself; None: no end is known."""
        return self._end.ends_at

    @property
    def wake_at(self) -> float | None:
        """The next time at which the node may have to leave, or runs that have not closed themselves are not waited for any more."""
        return self._given_up_at if self.has_begun else self._end.wake_at

    @property
    def _given_up_at(self) -> float | None:
        since = self._nothing_to_do_since
        return None if since is None or self._is_over else since + CLOSE_WITHIN_S

    def begin(self) -> None:
        """Take note that the node is told to leave."""
        self.has_begun = True

    def effects(self, now: float, *, runs: int, is_busy: bool) -> list[LeaveDue | LeaveCompleted]:
        """Say, once each, that the node should begin to leave, and that it has nothing more to do. Called after each event.

        It is busy while something runs, or a value is there.
        """
        if self.has_begun:
            return [LeaveCompleted()] if self._may_go(now, runs=runs, is_busy=is_busy) else []
        reason = self._end.reason(now, runs=runs)
        return [LeaveDue(reason)] if reason else []

    def _may_go(self, now: float, *, runs: int, is_busy: bool) -> bool:
        if self._is_over:
            return False
        if is_busy:
            self._nothing_to_do_since = None
        elif self._nothing_to_do_since is None:
            self._nothing_to_do_since = now
        given_up_at = self._given_up_at
        self._is_over = given_up_at is not None and (runs == 0 or now >= given_up_at)
        return self._is_over
