"""The stored values that the app wants, and those of them that have arrived."""

from collections.abc import Collection

from handoff_actors.core.run.events import FetchResult
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.ids import Index

#: Bytes that are on their way home at once; a value that is larger comes alone. Values beyond that would come no sooner,
#: and each of them takes all of its room in the app from its first byte.
WINDOW_NBYTES = 256_000_000


class ResultFetch:
    """Fetches stored values into the app, in order and within a window of bytes."""

    def __init__(self, wanted: Collection[Index], state: RunState) -> None:
        self._wanted = set(wanted)
        self._state = state
        #: On their way or about to be, or being made again for that.
        self.pending: set[Index] = set()
        self._here: set[Index] = set()
        #: In the order in which they will be sent for.
        self._waiting: dict[Index, None] = {}
        #: Sizes of those on their way.
        self._under_way: dict[Index, int] = {}

    def lacks(self, index: Index) -> bool:
        """Tell whether the app wants the value and does not have it."""
        return index in self._wanted and index not in self._here

    def want(self, index: Index) -> bool:
        """Want a value from now on. True if it is to be fetched, unless it is inline or here."""
        self._wanted.add(index)
        return index not in self._here and index not in self.pending

    def forget(self, indices: Collection[Index]) -> None:
        """Want values no more, which nobody needs."""
        discard_all(indices, self.pending, self._under_way, self._waiting, self._wanted, self._here)

    def bring(self, index: Index) -> None:
        """Fetch a value, again if it was on its way already."""
        self.pending.add(index)
        self._under_way.pop(index, None)
        self._waiting[index] = None

    def bring_again(self, index: Index) -> None:
        """Fetch a value after a pause, if it is still to come and not on its way again by now."""
        if index in self.pending and index not in self._under_way:
            self.bring(index)

    def next_fetches(self) -> list[FetchResult]:
        """Fetch the next values that there is room for in the window."""
        effects: list[FetchResult] = []
        for index in list(self._waiting):
            stored = self._state.stored.get(index)
            if stored is not None:
                if self._under_way and sum(self._under_way.values()) + stored.nbytes > WINDOW_NBYTES:
                    break
                self._under_way[index] = stored.nbytes
                effects.append(FetchResult(index, stored.nbytes, tuple(stored.holders)))
            # One that is gone is being made again, and is sent for then.
            del self._waiting[index]
        return effects

    def arrived(self, index: Index) -> None:
        """Note that a value has arrived."""
        self.pending.discard(index)
        self._under_way.pop(index, None)
        self._here.add(index)

    def give_up(self, index: Index) -> None:
        """Expect a value no more, as its function has failed for good."""
        self.pending.discard(index)
        self._under_way.pop(index, None)
        self._waiting.pop(index, None)

    def stayed_away(self, index: Index) -> None:
        """Note that fetching a value has failed."""
        self._under_way.pop(index, None)
