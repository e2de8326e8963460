"""Pace the questions to members whose view of the cluster differs: soon, and less often while they bring nothing new."""

from msgspec import Struct

#: Shortest interval between two comparisons of views.
COMPARE_S = 2.0
#: Longest pause between two questions about the same difference, which may stay: two nodes that can't reach each other.
MAX_COMPARE_S = 20.0
#: Limit of views that are remembered.
MAX_VIEWS = 1000


class _Difference(Struct):
    ask_at: float
    pause_s: float


class Comparisons:
    """Paces the questions. A view is the checksum of the members that a place knows.

    Members of one view know the same, so the pauses grow for each view, not for each member.
    """

    def __init__(self) -> None:
        self._ask_at = 0.0
        self._own_view = 0
        #: By the view of others, while the own is the same.
        self._differences: dict[int, _Difference] = {}

    def postpone(self, now: float) -> None:
        """Ask nothing for a moment: views differ for a while after each change."""
        self._ask_at = now + COMPARE_S

    def is_due(self, own_view: int, view: int, now: float) -> bool:
        """True if a member with this view is to be asked now."""
        if view == own_view or now < self._ask_at:
            return False
        if own_view != self._own_view or len(self._differences) >= MAX_VIEWS:
            self._own_view, self._differences = own_view, {}
        difference = self._differences.setdefault(view, _Difference(now, COMPARE_S))
        if now < difference.ask_at:
            return False
        difference.ask_at = now + difference.pause_s
        difference.pause_s = min(MAX_COMPARE_S, 2 * difference.pause_s)
        self._ask_at = now + COMPARE_S
        return True
