"""The journal and the cache of one run: what need not run is looked up in them, and what is done is written to them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from handoff_actors.actors.app.caching import PYTHON_SALT, CachedResults, is_cached
from handoff_actors.actors.app.digests import digests_of
from handoff_actors.actors.app.journal import Buffer, Entry, Journal, open_journal
from handoff_actors.actors.offload import offload
from handoff_actors.core.run.facts.grown_graph import GrownGraph, cached_functions, identified
from handoff_actors.core.run.facts.resumption import (
    NOTHING_FOUND,
    Digests,
    Fingerprints,
    FoundResults,
    Recorded,
    ReusedResult,
    fingerprints,
    reusable,
)
from handoff_actors.errors import HandoffError, InvalidFunctionError
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.text import repr_of
from handoff_actors.wire.digest import digest_of


class _Taken(Struct):
    """The results that a run takes over, as they are found."""

    inline_limit: int
    reused: dict[Index, ReusedResult] = field(default_factory=dict)
    in_app: dict[Index, Buffer] = field(default_factory=dict)

    def add(self, index: Index, recorded: Recorded | None, value: Buffer | None) -> None:
        """Take over a function; `recorded` is None for a serialize hook whose value is not needed."""
        if recorded is None:
            self.reused[index] = ReusedResult("", 0)
        elif value is None:
            self.reused[index] = ReusedResult(recorded.node, recorded.nbytes)
        elif len(value) <= self.inline_limit:
            self.reused[index] = ReusedResult(recorded.node, bytes(value))
        else:
            self.reused[index] = ReusedResult(recorded.node, len(value), is_in_app=True)
            self.in_app[index] = value


class RunRecords:
    """The journal and the cache of one run; it may have neither."""

    def __init__(self, journal: Journal | None, inline_limit: int) -> None:
        self._journal = journal
        self._cached = CachedResults()
        self._inline_limit = inline_limit
        self._loop = asyncio.get_running_loop()
        #: Functions that are added get fingerprints for the cache even where none of them is cached.
        self.expects_cached = False

    def tell_failure_to(self, on_failure: Callable[[BaseException], None]) -> None:
        """Tell why nothing more can be recorded, if it comes to that."""
        if self._journal is not None:
            self._journal.on_failure = on_failure

    @property
    def has_journal(self) -> bool:
        """True for a run with a journal."""
        return self._journal is not None

    def may_find(self, plan: Plan) -> bool:
        """Tell whether functions of a plan are to be looked up, or to be known by what they are made of."""
        return self._journal is not None or self.expects_cached or is_cached(plan)

    async def begin(self, plan: Plan, wanted: Collection[Index]) -> FoundResults:
        """Look up the functions that a run begins with. Raises JournalError, and HandoffError for an unsafe cache."""
        return await self._look_up(plan, (), wanted)

    async def added(
        self, plan: Plan, outer: Sequence[Fingerprints]
    ) -> tuple[FoundResults, dict[Index, HandoffError]]:
        """Look up functions that are about to be added; `outer` are the fingerprints of the outer ones of their plan.

        Also returns those that can't be cached, although they have the option, with the errors. Raises JournalError.
        """
        try:
            # Whatever else will take their results, the app asks for it.
            found = await self._look_up(plan, outer, range(plan.size))
        except HandoffError as error:
            if self._journal is not None:
                raise
            return NOTHING_FOUND, dict.fromkeys(cached_functions(plan), error)
        if not found.fingerprints:
            return found, {}
        unknown = (index for index in cached_functions(plan) if not found.fingerprints[index].cache)
        return found, {index: _not_known(plan, index, outer) for index in unknown}

    async def _look_up(
        self, plan: Plan, outer: Sequence[Fingerprints], wanted: Collection[Index]
    ) -> FoundResults:
        if not self.may_find(plan):
            return NOTHING_FOUND
        has_cached = is_cached(plan)
        # On the loop: it calls users' code, which need not be made for threads.
        digests = await digests_of(plan)
        for_cache = has_cached or self.expects_cached
        make = partial(self._fingerprints, plan, digests, outer, for_cache=for_cache)
        if not (has_cached or self._journal is not None):
            return FoundResults(await offload(plan.size, make))
        return await self._in_thread(partial(self._find, plan, make, wanted))

    def grown(self, graph: GrownGraph) -> "asyncio.Future[FoundResults]":
        """Look up the functions of a graph that a function has returned. The answer raises as `begin` does."""
        make = partial(graph.fingerprints, digest_of, PYTHON_SALT)
        wanted = cached_functions(graph.plan)
        find = partial(self._find, graph.plan, make, wanted, result=graph.result)
        return self._in_thread(find)

    def _in_thread(self, find: Callable[[], FoundResults]) -> "asyncio.Future[FoundResults]":
        return self._loop.run_in_executor(None if self._journal is None else self._journal.thread, find)

    def _fingerprints(
        self, plan: Plan, digests: Digests, outer: Sequence[Fingerprints], *, for_cache: bool
    ) -> list[Fingerprints]:
        keys = journal = cache = [b""] * plan.size
        if self._journal is not None:
            keys = list(digests.ids)
            journal = fingerprints(plan, digests, digest_of, [each.journal for each in outer])
        if for_cache:
            salted = replace(digests, ids=[PYTHON_SALT] * plan.size)
            cache = fingerprints(plan, salted, digest_of, [each.cache for each in outer])
        return identified(keys, journal, cache, cached_functions(plan))

    def _find(
        self,
        plan: Plan,
        make: Callable[[], list[Fingerprints]],
        wanted: Collection[Index],
        result: Index = -1,
    ) -> FoundResults:
        """Look up functions. The one whose result is that of another has no row of its own."""
        made, taken = make(), _Taken(self._inline_limit)
        if self._journal is not None:
            self._find_journaled(plan, made, wanted, result, taken)
        if any(each.cached_as for each in made):
            self._cached.open()
        for index, known in enumerate(made):
            value = None if index in taken.reused else self._cached.find(known)
            if value is not None:
                taken.add(index, Recorded(b"", "", len(value), has_value=True), value)
        for hook in plan.hooks:
            # What it makes is for a function that does not run.
            if hook.consumer in taken.reused:
                taken.reused.setdefault(hook.index, ReusedResult("", 0))
        return FoundResults(made, taken.reused, taken.in_app)

    def _find_journaled(
        self,
        plan: Plan,
        made: Sequence[Fingerprints],
        wanted: Collection[Index],
        result: Index,
        taken: _Taken,
    ) -> None:
        assert self._journal is not None
        recorded = self._journal.recorded(made)
        recorded.pop(result, None)
        for index in reusable(plan, [each.journal for each in made], recorded, wanted):
            record = recorded.get(index)
            has_value = record is not None and record.has_value
            taken.add(index, record, self._journal.value(made[index]) if has_value else None)

    def record(self, entries: Sequence[Entry]) -> None:
        """Have functions recorded that are done."""
        self._cached.record(entries)
        if self._journal is not None:
            self._journal.record([entry for entry in entries if entry.fingerprints.journal])

    async def flush(self) -> None:
        """Wait until all cached results are written."""
        await self._cached.flush()


def _not_known(plan: Plan, index: Index, outer: Sequence[Fingerprints]) -> HandoffError:
    unknown = next(
        (repr_of(each) for each, known in zip(plan.outer, outer, strict=True) if not known.cache),
        "another one",
    )
    return InvalidFunctionError(
        plan.ids[index],
        f"has the option cache, and depends on {unknown}, which the run was given before any function with it, so that its code "
        f"and inputs are not known any more: give {unknown} the option, too, or open the run with a journal",
    )


@asynccontextmanager
async def records_of(
    path: str | os.PathLike[str] | None, inline_limit: int, *, is_open: bool
) -> AsyncIterator[RunRecords]:
    """Open a run's journal, if it has one. All that was recorded is written afterwards. Raises JournalError."""
    async with AsyncExitStack() as stack:
        journal = None if path is None else await stack.enter_async_context(open_journal(path))
        records = RunRecords(journal, inline_limit)
        records.expects_cached = is_open and journal is not None
        stack.push_async_callback(records.flush)
        yield records
