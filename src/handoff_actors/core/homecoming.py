"""Which stored values the app wants, and which of them have arrived."""

from collections.abc import Collection

from handoff_actors.core.progress import Progress
from handoff_actors.core.run_events import BringHome
from handoff_actors.ids import Index


class Homecoming:
    """The way home of stored values."""

    def __init__(self, wanted: Collection[Index], progress: Progress) -> None:
        self._wanted = frozenset(wanted)
        self._progress = progress
        #: On their way, or being made again for that.
        self.pending: set[Index] = set()
        self._here: set[Index] = set()

    def lacks(self, index: Index) -> bool:
        """Whether the app wants a value that has not arrived."""
        return index in self._wanted and index not in self._here

    def bring(self, index: Index) -> BringHome:
        """Send for a value."""
        self.pending.add(index)
        stored = self._progress.stored[index]
        return BringHome(index, stored.nbytes, tuple(stored.holders))

    def arrived(self, index: Index) -> None:
        """A value is here."""
        self.pending.discard(index)
        self._here.add(index)
