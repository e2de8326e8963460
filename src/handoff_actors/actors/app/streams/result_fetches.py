"""Brings stored results of a stream into the app, also those that have to be made again meanwhile as their node is lost."""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.app.streams.stream_host import StreamHost
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.stream.events import ItemFailure, ItemOutcome, Stored
from handoff_actors.ids import Index, RunId

#: The name of the app among the nodes that have values.
APP: Final = ""


class _ResultFetch(Struct, eq=False):
    #: The value as the stream has handed it out.
    value: Stored
    done: Callable[[Buffer | FetchFailure], None]
    #: Where it was looked for last, and whether it was not there.
    sought: Stored | None = None
    is_missing: bool = False
    give_up: Callable[[], None] | None = None
    is_over: bool = False


class ResultFetches:
    """The fetches of one stream's results."""

    def __init__(
        self,
        run: RunId,
        values: dict[Index, Buffer],
        host: StreamHost,
        current: Callable[[ItemOutcome], ItemOutcome | None],
        lost: Callable[[Stored, str], None],
    ) -> None:
        """`current` gives what stands for a value now; None while it is being made again. `lost` is told what can't be had."""
        self._run = run
        self._values = values
        self._host = host
        self._current = current
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        #: Those whose value was not where it was looked for.
        self._waiting: dict[_ResultFetch, None] = {}

    def fetch(self, value: Stored, done: Callable[[Buffer | FetchFailure], None]) -> Callable[[], None]:
        """Bring a value, perhaps at once. Returns a function that gives up the fetch."""
        fetch = _ResultFetch(value, done)
        self._waiting[fetch] = None
        self._look_at(fetch)
        return lambda: self._give_up(fetch)

    def look(self) -> None:
        """Go on with the fetches whose values have been made again, or never will be."""
        for fetch in list(self._waiting):
            self._look_at(fetch)

    def _begin(self, fetch: _ResultFetch, value: Stored) -> None:
        fetch.sought, fetch.is_missing = value, False
        if value.node == APP:
            self._end(fetch, self._values[value.index])
            return

        def done(fetched: Buffer | FetchFailure) -> None:
            if isinstance(fetched, FetchFailure):
                self._missing(fetch, fetched)
            else:
                self._end(fetch, fetched)

        give_up = self._host.fetch(self._run, value.index, value.nbytes, [value.node], done)
        if not (fetch.is_over or fetch.is_missing):
            fetch.give_up = give_up

    def _missing(self, fetch: _ResultFetch, why: FetchFailure) -> None:
        fetch.is_missing, fetch.give_up = True, None
        self._waiting[fetch] = None
        # Not at once: the stream's machine may be at work.
        self._loop.call_soon(self._say_lost, fetch, why.reason)

    def _say_lost(self, fetch: _ResultFetch, reason: str) -> None:
        if not fetch.is_over and fetch.sought is not None:
            self._lost(fetch.sought, reason)
            self.look()

    def _look_at(self, fetch: _ResultFetch) -> None:
        now = self._current(fetch.value)
        if now is None or now == fetch.sought:
            return
        del self._waiting[fetch]
        if isinstance(now, Stored):
            self._begin(fetch, now)
        elif isinstance(now, bytes):
            self._end(fetch, now)
        else:
            reason = now.reason if isinstance(now, ItemFailure) else "it was skipped when it was made again"
            self._end(fetch, FetchFailure("input", reason))

    def _end(self, fetch: _ResultFetch, outcome: Buffer | FetchFailure) -> None:
        if not fetch.is_over:
            self._forget(fetch)
            fetch.done(outcome)

    def _give_up(self, fetch: _ResultFetch) -> None:
        if not fetch.is_over:
            self._forget(fetch)

    def _forget(self, fetch: _ResultFetch) -> None:
        fetch.is_over = True
        self._waiting.pop(fetch, None)
        if fetch.give_up is not None:
            fetch.give_up()
