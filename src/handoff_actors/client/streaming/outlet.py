"""The results of one owner, such as one `map`, on their way to whoever takes them."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Protocol

from msgspec import Struct

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.stream.events import (
    ItemChunk,
    ItemFailure,
    ItemSkipped,
    Stored,
    StreamResult,
    Vertex,
)
from handoff_actors.errors import HandoffError

ArrivedOutcome = Mapping[Vertex, Buffer | ItemSkipped] | ItemFailure


class ResultSource(Protocol):
    """The stream that the results come from."""

    def fetch(self, value: Stored, done: Callable[[Buffer | FetchFailure], None]) -> Callable[[], None]:
        """Bring a stored value into the app, perhaps at once. Returns a function that gives up the fetch."""

    def taken(self, owner: int, results: int) -> None:
        """Take note that there is room for others in the place of so many results."""


class Arrival(Struct, eq=False, gc=False):
    """One result of one item, as far as it is in the app.

    There are many, so the garbage collector does not look at them: what leads back to one is cut off once it is complete.
    """

    #: The number of its item.
    number: int
    values: dict[Vertex, Buffer | ItemSkipped]
    #: Values that are on their way.
    missing: int = 0
    failure: ItemFailure | None = None
    #: The stream has been told that it is taken.
    is_taken: bool = False
    #: Each gives up a fetch.
    give_up: Sequence[Callable[[], None]] = ()

    @property
    def outcome(self) -> ArrivedOutcome:
        """By sink: the values; or why there are none."""
        return self.values if self.failure is None else self.failure


class Outlet:
    """Holds the results of one owner until they are taken; for as long, they count as in flight."""

    def __init__(self, owner: int, source: ResultSource) -> None:
        self.owner = owner
        self._source = source
        self._arrivals: deque[Arrival] = deque()
        #: Items that were pushed, and those of which no more results come.
        self.pushed = 0
        self._out = 0
        self._is_fed = False
        self._is_over = False
        #: Results count as in flight no more, once they are here.
        self._is_freed = False
        #: The first so many of those that are here are taken for the stream.
        self._freed = 0
        self._error: HandoffError | None = None
        self._changed = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """True if nothing more is pushed, and no more results come of what was."""
        return self._is_fed and self._out == self.pushed

    @property
    def has_results(self) -> bool:
        """True if results wait, or are on their way."""
        return bool(self._arrivals)

    @property
    def oldest(self) -> int | None:
        """The number of the oldest item of which results wait that count as in flight no more; None if there are none."""
        return min((arrival.number for arrival in self._arrivals if arrival.is_taken), default=None)

    # --- Called by the stream -----------------------------------------------------------------------------------

    def arrived(self, results: Sequence[StreamResult]) -> None:
        """Take results, in order."""
        for result in results:
            self._arrivals.extend(self._arrivals_of(result))
        self._free()
        self._changed.set()

    def items_out(self, count: int) -> None:
        """Take note that of so many more items no more results come."""
        self._out += count
        self._changed.set()

    def fed(self) -> None:
        """Take note that nothing more is pushed."""
        self._is_fed = True
        self._changed.set()

    def end(self) -> None:
        """Take note that no more results come."""
        self._is_over = True
        self._changed.set()

    async def until_here(self) -> None:
        """Wait until everything that is on its way is here."""
        while any(arrival.missing for arrival in self._arrivals) and self._error is None:
            self._changed.clear()
            await self._changed.wait()

    def free(self) -> None:
        """Have results not count as in flight, from now on: the stream is to end, whether they are taken or not."""
        self._is_freed = True
        self._free()

    def fail(self, error: HandoffError) -> None:
        """Have no more results come: the stream has ended. What is complete can be taken still."""
        if self._error is None:
            self._error = error
        for arrival in self._arrivals:
            _give_up(arrival)
        self._changed.set()

    def drop(self) -> list[Arrival]:
        """Drop what is here, and what is on its way, and return it. No more comes."""
        dropped = list(self._arrivals)
        for arrival in dropped:
            _give_up(arrival)
        self._arrivals.clear()
        self._freed = 0
        self.end()
        return dropped

    # --- Called by whoever takes the results --------------------------------------------------------------------

    def first(self) -> Arrival | None:
        """The first result, without taking it; None if it is not here yet."""
        return self._arrivals[0] if self._arrivals and not self._arrivals[0].missing else None

    async def next(self) -> Arrival | None:
        """Wait for the first result, without taking it; None once all have been taken, and no more come.

        Raises HandoffError if the stream has ended before that.
        """
        while not self._arrivals or self._arrivals[0].missing:
            if not self._arrivals and (self._is_over or self.is_complete):
                return None
            if self._error is not None:
                raise fresh(self._error)
            self._changed.clear()
            await self._changed.wait()
        return self._arrivals[0]

    def take(self) -> None:
        """Take the first result: there is room for another."""
        arrival = self._arrivals.popleft()
        if arrival.is_taken:
            self._freed -= 1
        else:
            self._source.taken(self.owner, 1)

    # --- Values that are stored on nodes ------------------------------------------------------------------------

    def _arrivals_of(self, result: StreamResult) -> list[Arrival]:
        if isinstance(result.outcome, ItemFailure):
            return [Arrival(result.number, {}, failure=result.outcome)]
        arrival = Arrival(result.number, {})
        for sink, value in result.outcome.items():
            if isinstance(value, ItemChunk):
                # It is all that there is.
                return [Arrival(result.number + place, {sink: one}) for place, one in enumerate(value.values)]
            if isinstance(value, Stored):
                arrival.missing += 1
                self._fetch(arrival, sink, value)
            else:
                arrival.values[sink] = value
        return [arrival]

    def _fetch(self, arrival: Arrival, sink: Vertex, value: Stored) -> None:
        def done(fetched: Buffer | FetchFailure) -> None:
            arrival.missing -= 1
            if isinstance(fetched, FetchFailure):
                arrival.failure = ItemFailure(
                    "lost", b"", f"its value on node {value.node}: {fetched.reason}"
                )
            else:
                arrival.values[sink] = fetched
            if not arrival.missing:
                arrival.give_up = ()
            self._free()
            self._changed.set()

        give_up = self._source.fetch(value, done)
        if arrival.missing:
            arrival.give_up = [*arrival.give_up, give_up]

    def _free(self) -> None:
        # In order, as the stream drops the values of the first one that is not taken.
        while self._is_freed and self._freed < len(self._arrivals):
            arrival = self._arrivals[self._freed]
            if arrival.missing:
                return
            arrival.is_taken = True
            self._freed += 1
            self._source.taken(self.owner, 1)


def fresh(error: HandoffError) -> HandoffError:
    """Copy an error for one of those who get it: each adds frames to its traceback."""
    own = copy(error)
    own.__cause__ = error.__cause__
    return own


def _give_up(arrival: Arrival) -> None:
    for give_up in arrival.give_up:
        give_up()
    arrival.give_up = ()
