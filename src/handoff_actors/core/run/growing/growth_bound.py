"""The bound against growth without end: how many functions may be added by functions."""

from collections.abc import Iterable

from msgspec import Struct

from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.ids import Index


class _Added(Struct):
    """The functions that one function of the app has added, and those that these have added, and so on."""

    count: int = 0


class GrowthBound:
    """Counts the functions that were added by functions: altogether, or in an open run by each function of the app.

    An open run may go on for months, and however many of its functions grow, each of them comes to an end.
    """

    def __init__(self, most: int, *, is_open: bool) -> None:
        self.most = most
        self._is_open = is_open
        self._altogether = _Added()
        #: By index, in an open run only.
        self._added: dict[Index, _Added] = {}

    def is_passed(self, index: Index, count: int) -> bool:
        """Tell whether a function that adds so many would go beyond."""
        return self._added_with(index).count + count > self.most

    def note(self, index: Index, added: Iterable[Index], count: int) -> None:
        """Take note that a function has added so many, of which those in `added` have an index of their own."""
        root = self._added_with(index)
        root.count += count
        if self._is_open:
            self._added |= dict.fromkeys([index, *added], root)

    def forget(self, indices: Iterable[Index]) -> None:
        """Take note that these indices may be those of other functions from now on."""
        discard_all(indices, self._added)

    def _added_with(self, index: Index) -> _Added:
        return self._added.get(index, _Added()) if self._is_open else self._altogether
