"""Fetches of the stored values of one run, for callers that wait for them."""

import asyncio

from handoff_actors.actors.app.parted_results import fetch_whole
from handoff_actors.actors.app.run_host import Buffer, RunHost
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.run.view import RunView
from handoff_actors.ids import Index, RunId


class StoredFetches:
    """The fetches that callers wait for. None begins once the run is `forgotten`."""

    def __init__(self, run: RunId, view: RunView, host: RunHost, forgotten: asyncio.Future[None]) -> None:
        self._run = run
        self._view = view
        self._host = host
        self._forgotten = forgotten
        self._is_closed = False
        self._answers: set[asyncio.Future[Buffer]] = set()

    async def fetch(self, index: Index) -> Buffer:
        """Fetch an encoded value from a node that has it. Raises KeyError if none has, or after `close`."""
        if self._is_closed:
            raise KeyError("its session has been closed")
        if self._forgotten.done():
            raise KeyError("the run has been released")
        nbytes, holders = self._view.stored_nbytes(index), self._view.holders(index)
        while True:
            try:
                return await self._fetch_from(list(holders), index, nbytes)
            except KeyError:
                # It may have been handed over by a node that leaves.
                known, holders = holders, self._view.holders(index)
                if self._is_closed or holders in {known, ()}:
                    raise

    def close(self) -> None:
        """Refuse whatever is being fetched, since the session has been closed."""
        self._is_closed = True
        for answer in self._answers:
            _refuse(answer, "its session has been closed")

    async def _fetch_from(self, holders: list[str], index: Index, nbytes: int) -> Buffer:
        answer: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()

        def done(value: Buffer | FetchFailure) -> None:
            if isinstance(value, FetchFailure):
                _refuse(answer, value.reason)
            elif not answer.done():
                answer.set_result(value)

        give_up = fetch_whole(self._host, self._view, self._run, index, nbytes, holders, done)
        self._answers.add(answer)
        try:
            return await answer
        finally:
            self._answers.discard(answer)
            if answer.cancelled():
                give_up()


def _refuse(answer: asyncio.Future[Buffer], reason: str) -> None:
    if not answer.done():
        answer.set_exception(KeyError(reason))
