"""Keeps a run's journal off the event loop: what is done goes to the file in batches, from one thread."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct, field

from handoff_actors.actors.app.caching import CachedRun
from handoff_actors.actors.app.digests import digests_of
from handoff_actors.core.run.resumption import (
    Digests,
    JournalRow,
    Recorded,
    ReusedResult,
    fingerprints,
    reusable,
)
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.text import encodable, repr_of
from handoff_actors.wire.digest import digest_of

#: What is done is committed within so many seconds, or sooner, once there is so much of it.
COMMIT_S: Final = 0.05
COMMIT_ROWS: Final = 500
#: Of an id, for people.
ID_LENGTH: Final = 200

if TYPE_CHECKING:
    from handoff_actors.actors.app.journal_file import JournalFile

Buffer = bytes | memoryview


class Entry(Struct, frozen=True):
    """A function that is done. `value` is None where it stayed on a node."""

    index: Index
    node: str
    nbytes: int
    value: Buffer | None


class Recorder(Protocol):
    """RunRecords what a run does."""

    #: Told why nothing more can be recorded.
    on_failure: Callable[[BaseException], None]

    @property
    def fingerprints(self) -> Sequence[bytes]:
        """The fingerprints of the run's functions, by index."""

    def record(self, entries: Sequence[Entry]) -> None:
        """Have these functions recorded."""


class JournalResumption(Struct):
    """Results that a run takes over from its journal, or from the cache, and the open journal."""

    #: RunRecords what the run itself does; None without a journal and cached functions.
    journal: "Recorder | None" = None
    reused: dict[Index, ReusedResult] = field(default_factory=dict)
    #: Encoded values that are too large to be inline.
    in_app: dict[Index, Buffer] = field(default_factory=dict)

    def add(self, index: Index, recorded: Recorded | None, value: Buffer | None, inline_limit: int) -> None:
        """Take over a function; `recorded` is None for a serialize hook whose value is not needed."""
        if recorded is None:
            self.reused[index] = ReusedResult("", 0)
        elif value is None:
            self.reused[index] = ReusedResult(recorded.node, recorded.nbytes)
        elif len(value) <= inline_limit:
            self.reused[index] = ReusedResult(recorded.node, bytes(value))
        else:
            self.reused[index] = ReusedResult(recorded.node, len(value), is_in_app=True)
            self.in_app[index] = value


class RunRecords:
    """The journal and the cached functions of one run, or one of them."""

    def __init__(self, journal: "Journal | None", cached: CachedRun) -> None:
        self._journal = journal
        self._cached = cached
        self.on_failure: Callable[[BaseException], None] = lambda _: None

    @property
    def fingerprints(self) -> Sequence[bytes]:
        """See Recorder."""
        return self._cached.fingerprints

    def record(self, entries: Sequence[Entry]) -> None:
        """See Recorder."""
        self._cached.record(entries)
        if self._journal is not None:
            self._journal.on_failure = self.on_failure
            self._journal.record(entries)


class Journal:
    """The journal of one run, open."""

    def __init__(self, file: "JournalFile", thread: ThreadPoolExecutor) -> None:
        self._file = file
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._keys: Sequence[bytes] = []
        self.fingerprints: Sequence[bytes] = []
        self._names: Sequence[str] = []
        self._pending: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        #: Why nothing more can be written.
        self.failure: BaseException | None = None
        #: Told of that.
        self.on_failure: Callable[[BaseException], None] = lambda _: None

    async def resume(self, plan: Plan, wanted: Collection[Index], inline_limit: int) -> JournalResumption:
        """Find out what need not run. Raises JournalError."""
        # On the loop: it calls users' code, which need not be made for threads.
        digests = await digests_of(plan)
        return await self._loop.run_in_executor(
            self._thread, self._look_up, plan, digests, frozenset(wanted), inline_limit
        )

    def _look_up(
        self, plan: Plan, digests: Digests, wanted: Collection[Index], inline_limit: int
    ) -> JournalResumption:
        self._keys, self._names = (
            digests.ids,
            [encodable(repr_of(function_id, ID_LENGTH)) for function_id in plan.ids],
        )
        self.fingerprints = fingerprints(plan, digests, digest_of)
        by_key = self._file.recorded()
        recorded = {index: by_key[key] for index, key in enumerate(self._keys) if key in by_key}
        resumption = JournalResumption(self)
        for index in reusable(plan, self.fingerprints, recorded, wanted):
            record = recorded.get(index)
            has_value = record is not None and record.has_value
            value = self._file.value(self._keys[index]) if has_value else None
            resumption.add(index, record, value, inline_limit)
        return resumption

    def record(self, entries: Sequence[Entry]) -> None:
        """Have these functions written soon, and after all that were recorded before.

        Functions that other functions have added are left out: the result of the one that was there from the start is
        recorded, and stands for theirs.
        """
        self._pending += [entry for entry in entries if entry.index < len(self._keys)]
        if self._writing is not None or self.failure is not None:
            return
        if len(self._pending) >= COMMIT_ROWS:
            self._write()
        elif self._timer is None:
            self._timer = self._loop.call_later(COMMIT_S, self._write)

    async def flush(self) -> None:
        """Have everything written, unless writing has failed."""
        if self._pending and self.failure is None:
            # The thread does one thing after another: once this is written, all is.
            self._write()
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._pending = self._pending, []
        self._writing = self._loop.run_in_executor(self._thread, self._write_now, entries)
        self._writing.add_done_callback(self._written)

    def _write_now(self, entries: Sequence[Entry]) -> None:
        self._file.write([self._row(entry) for entry in entries])

    def _row(self, entry: Entry) -> JournalRow:
        index = entry.index
        return JournalRow(
            self._keys[index],
            self._names[index],
            self.fingerprints[index],
            entry.node,
            entry.nbytes,
            entry.value,
        )

    def _written(self, writing: asyncio.Future[None]) -> None:
        if writing is self._writing:
            self._writing = None
        failure = writing.exception()
        if failure is not None and self.failure is None:
            self.failure = failure
            self.on_failure(failure)
        elif self._pending:
            self.record([])


@asynccontextmanager
async def resumption_from(
    path: str | os.PathLike[str] | None, plan: Plan, wanted: Collection[Index], inline_limit: int
) -> AsyncIterator[JournalResumption]:
    """Open a run's journal, if it has one, and give what the run takes over from it and from the cache.

    Raises JournalError, and HandoffError where the cache can't be trusted.
    """
    cached = await CachedRun.of(plan)
    async with AsyncExitStack() as stack:
        journal = None if path is None else await stack.enter_async_context(open_journal(path))
        resumption = JournalResumption()
        if journal is not None:
            resumption = await journal.resume(plan, wanted, inline_limit)
        if cached is not None:
            stack.push_async_callback(cached.flush)
            resumption.journal = RunRecords(journal, cached)
            for index, value in (await cached.find(resumption.reused)).items():
                resumption.add(index, Recorded(b"", "", len(value), has_value=True), value, inline_limit)
            for hook in plan.hooks:
                # What it makes is for a function that does not run.
                if hook.consumer in resumption.reused:
                    resumption.reused.setdefault(hook.index, ReusedResult("", 0))
        yield resumption


@asynccontextmanager
async def open_journal(path: str | os.PathLike[str]) -> AsyncIterator[Journal]:
    """Have a file as the journal of one run. All that was recorded is in it afterwards. Raises JournalError."""
    from handoff_actors.actors.app.journal_file import JournalFile  # noqa: PLC0415 - most runs need no database

    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "handoff-journal")
    #: Used in the thread alone, so that a file is closed also if nobody has waited until it was open.
    opened = ExitStack()
    try:
        file = await loop.run_in_executor(thread, lambda: opened.enter_context(closing(JournalFile(path))))
        journal = Journal(file, thread)
        try:
            yield journal
        finally:
            await journal.flush()
        if journal.failure is not None:
            raise journal.failure
    finally:
        closed = loop.run_in_executor(thread, opened.close)
        thread.shutdown(wait=False)
        await asyncio.shield(closed)
