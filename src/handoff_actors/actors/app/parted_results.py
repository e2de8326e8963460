"""Fetches results into the app, also those that are in parts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import StoredPart
from handoff_actors.wire.parted import joined

if TYPE_CHECKING:
    from handoff_actors.core.run.view import RunView

Buffer = bytes | memoryview


class WholeValueHost(Protocol):
    """The part of a run's session that fetches values."""

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | FetchFailure], None],
    ) -> Callable[[], None]:
        """Fetch a value from nodes, by their names. Returns a function that gives up the fetch."""


def fetch_whole(
    host: WholeValueHost,
    view: "RunView",
    run: RunId,
    index: Index,
    nbytes: int,
    holders: list[str],
    done: Callable[[Buffer | FetchFailure], None],
) -> Callable[[], None]:
    """Fetch a value, as `RunHost.fetch` does. A list in parts is put together."""
    parted = view.parts(index)
    if parted is None:
        return host.fetch(run, index, nbytes, holders, done)
    fetch = _PartsFetch(host, run, holders, *parted, done)
    fetch.next()
    return fetch.cancel


class _PartsFetch:
    def __init__(
        self,
        host: WholeValueHost,
        run: RunId,
        holders: list[str],
        items: bytes,
        parts: Sequence[StoredPart],
        done: Callable[[Buffer | FetchFailure], None],
    ) -> None:
        self._host = host
        self._run = run
        self._holders = holders
        self._items = items
        self._parts = parts
        self._done = done
        self._arrived: list[Buffer] = []
        self._give_up: Callable[[], None] | None = None
        self._is_given_up = False

    def next(self) -> None:
        """Fetch what is next."""
        while len(self._arrived) < len(self._parts):
            count, part = len(self._arrived), self._parts[len(self._arrived)]
            give_up = self._host.fetch(self._run, part.index, part.nbytes, self._holders, self._take)
            if len(self._arrived) == count or self._is_given_up:
                # It was not here at once, and `_take` goes on.
                self._give_up = give_up
                return
        self._done(joined(self._items, self._arrived))

    def _take(self, value: Buffer | FetchFailure) -> None:
        if self._is_given_up:
            return
        if isinstance(value, FetchFailure):
            self._is_given_up = True
            self._done(value)
            return
        self._arrived.append(value)
        if self._give_up is not None:
            self._give_up = None
            self.next()

    def cancel(self) -> None:
        """Give up."""
        self._is_given_up = True
        if self._give_up is not None:
            self._give_up()
