"""Keeps a run's journal off the event loop: what is done goes to the file in batches, from one thread."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handoff_actors.core.run.facts.resumption import Fingerprints, JournalRow, Recorded
from handoff_actors.ids import FunctionId, Index
from handoff_actors.text import encodable, repr_of

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

    function_id: FunctionId
    fingerprints: Fingerprints
    node: str
    nbytes: int
    value: Buffer | None


class Journal:
    """The journal of one run, open."""

    def __init__(self, file: "JournalFile", thread: ThreadPoolExecutor) -> None:
        self._file = file
        #: The only one that uses the file.
        self.thread: Final = thread
        self._loop = asyncio.get_running_loop()
        self._pending: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        #: Why nothing more can be written.
        self.failure: BaseException | None = None
        #: Told of that.
        self.on_failure: Callable[[BaseException], None] = lambda _: None

    def recorded(self, fingerprints: Sequence[Fingerprints]) -> dict[Index, Recorded]:
        """The records of functions from before the run, by place. To be called in its thread. Raises JournalError."""
        by_key = self._file.recorded([each.key for each in fingerprints])
        return {index: by_key[each.key] for index, each in enumerate(fingerprints) if each.key in by_key}

    def value(self, fingerprints: Fingerprints) -> Buffer:
        """The encoded value of a recorded function. To be called in its thread. Raises JournalError."""
        return self._file.value(fingerprints.key)

    def record(self, entries: Sequence[Entry]) -> None:
        """Have these functions written soon, and after all that were recorded before."""
        if self.failure is not None:
            return
        self._pending += entries
        if self._writing is not None:
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
        self._writing = self._loop.run_in_executor(self.thread, self._write_now, entries)
        self._writing.add_done_callback(self._written)

    def _write_now(self, entries: Sequence[Entry]) -> None:
        self._file.write([_row(entry) for entry in entries])

    def _written(self, writing: asyncio.Future[None]) -> None:
        if writing is self._writing:
            self._writing = None
        failure = writing.exception()
        if failure is not None and self.failure is None:
            self.failure = failure
            self._pending = []
            self.on_failure(failure)
        elif self._pending:
            self.record([])


def _row(entry: Entry) -> JournalRow:
    known, name = entry.fingerprints, encodable(repr_of(entry.function_id, ID_LENGTH))
    return JournalRow(known.key, name, known.journal, entry.node, entry.nbytes, entry.value)


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
