"""Asks the journal and the cache of one run while it goes on, and has them record what is done."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from handoff_actors.actors.app.journal import Entry
from handoff_actors.actors.app.run_errors import as_ours
from handoff_actors.actors.app.run_records import RunRecords
from handoff_actors.core.run.events import Cancel, FindResults, FunctionsRefused, ResultsFound
from handoff_actors.core.run.facts.resumption import NO_FINGERPRINTS, NOTHING_FOUND
from handoff_actors.core.run.grow import RunMachineEvent
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.errors import HandoffError, JournalError
from handoff_actors.graph.plan import Plan

if TYPE_CHECKING:
    import asyncio

    from handoff_actors.core.run.facts.resumption import FoundResults
    from handoff_actors.ids import Index


class RecordKeeper:
    """The records of one run that goes on."""

    def __init__(
        self, records: RunRecords, program: Program, feed: Callable[[RunMachineEvent], None]
    ) -> None:
        self._records = records
        self._feed = feed
        self._program = program
        self._searches: set[asyncio.Future[FoundResults]] = set()
        # Not a method: each would hold the other until the garbage collector comes by.
        records.tell_failure_to(partial(_end_run, feed))

    def record(self, entries: Sequence[Entry]) -> None:
        """Have functions recorded that are done."""
        self._records.record(entries)

    def expect_cached(self) -> None:
        """Have functions that are added from now on fingerprinted for the cache."""
        self._records.expects_cached = True

    async def look_up(self, plan: Plan) -> "tuple[FoundResults, dict[Index, HandoffError]]":
        """Look up functions that are about to be added: see `RunRecords.added`."""
        if not self._records.may_find(plan):
            return NOTHING_FOUND, {}
        index_of, known = self._program.plan.index_of, self._program.fingerprints
        outer = [known.get(index_of.get(each, -1), NO_FINGERPRINTS) for each in plan.outer]
        return await self._records.added(plan, outer)

    def find(self, effect: FindResults) -> None:
        """Look up the functions of a graph, and tell the run what was found."""
        search = self._records.grown(effect.graph)
        self._searches.add(search)
        search.add_done_callback(partial(self._found, effect))

    def end(self) -> None:
        """Look for nothing any more: the run has ended."""
        for search in self._searches:
            search.cancel()

    def _found(self, effect: FindResults, search: "asyncio.Future[FoundResults]") -> None:
        self._searches.discard(search)
        if search.cancelled():
            return
        error = search.exception()
        if error is None:
            self._feed(ResultsFound(effect.name, effect.entry, effect.graph, search.result()))
        elif isinstance(error, HandoffError) and not isinstance(error, JournalError):
            # The cache can't be used, for which nothing but its functions should end.
            self._feed(FunctionsRefused({effect.entry.index: error}))
        else:
            _end_run(self._feed, error)


def _end_run(feed: Callable[[RunMachineEvent], None], failure: BaseException) -> None:
    feed(Cancel(as_ours(failure)))
