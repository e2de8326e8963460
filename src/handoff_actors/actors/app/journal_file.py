"""The file of a journal: an SQLite database with one row for each function that was done."""

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from mmap import mmap
from pathlib import Path
from typing import Final

from handoff_actors.core.run.facts.resumption import JournalRow, Recorded
from handoff_actors.errors import JournalError
from handoff_actors.process.ownership import foreign_link

#: "HOJ1": what makes a database a journal.
APPLICATION_ID: Final = 0x484F4A31
#: Raised by one with each change that an older release could not read.
LAYOUT: Final = 1
_TABLE: Final = """
    CREATE TABLE done (
        key BLOB PRIMARY KEY,       -- digest of the function's id
        function TEXT NOT NULL,     -- the id, for people
        fingerprint BLOB NOT NULL,
        node TEXT NOT NULL,
        nbytes INTEGER NOT NULL,    -- encoded size of the value
        value BLOB                  -- NULL: it stayed on a node
    )
"""

#: Of the files that SQLite may have beside a database.
_SUFFIXES: Final = ("-wal", "-shm", "-journal")
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_REMEDY: Final = "name a file in a directory of your own"

_INTO: Final = "INSERT OR REPLACE INTO done (rowid, key, function, fingerprint, node, nbytes, value)"
_REPLACE: Final = f"{_INTO} VALUES (?, ?, ?, ?, ?, ?, ?)"
_RESERVE: Final = f"{_INTO} VALUES (?, ?, ?, ?, ?, ?, zeroblob(?))"
_LOOK_UP: Final = (
    "SELECT key, fingerprint, node, nbytes, value IS NOT NULL FROM done WHERE rowid < ? AND key IN ({})"
)
#: Of a statement that looks rows up.
_KEYS_AT_ONCE: Final = 500
_FIND: Final = "SELECT rowid, length(value), iif(length(value) <= ?, value, NULL) FROM done WHERE key = ?"
#: Larger values are copied in pieces, between which the event loop gets its turn.
PIECE_BYTES: Final = 2**20


class JournalFile:
    """A journal that this process alone has open. All of it runs in one thread. Every method raises JournalError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a journal, or begin one. Raises JournalError for another sort of file, and for one that is in use."""
        self._path = Path(path)
        with self._errors_as_ours():
            self._check_place()
            self._create()
            # No waiting for locks: whoever has this one keeps it for as long as a run takes.
            self._database = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            with ExitStack() as on_failure:
                on_failure.callback(self._database.close)
                self._claim()
                # Another process may have made the log meanwhile: to read anything opens it, and no value has been read yet.
                self._pragma("user_version")
                self._check_place()
                on_failure.pop_all()
                [(last,)] = self._database.execute("SELECT coalesce(max(rowid), 0) FROM done")
            #: What is written is told from what was there by the numbers of rows: in a run that goes on for long another function
            #: may have an id that was there before, and is not to get that one's result.
            self._first_row = self._next_row = last + 1
            self._longest_value = self._database.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 2**20

    def recorded(self, keys: Sequence[bytes]) -> dict[bytes, Recorded]:
        """The functions that were recorded before the file was opened, among those whose rows have these keys."""
        found: dict[bytes, Recorded] = {}
        with self._errors_as_ours():
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                rows = self._database.execute(
                    _LOOK_UP.format(",".join("?" * len(some))), (self._first_row, *some)
                )
                for key, fingerprint, node, nbytes, has_value in rows:
                    found[key] = Recorded(fingerprint, node, nbytes, bool(has_value))
        return found

    def value(self, key: bytes) -> bytes | memoryview:
        """The encoded value of a function that has one."""
        with self._errors_as_ours():
            [(row, nbytes, small)] = self._database.execute(_FIND, (PIECE_BYTES, key))
            if small is not None:
                assert isinstance(small, bytes)
                return small
            # Not a bytearray: to fill one with zeros takes as long as to read the value, and the loop waits for it.
            value = memoryview(mmap(-1, nbytes))
            with self._database.blobopen("done", "value", row, readonly=True) as blob:
                for start in range(0, nbytes, PIECE_BYTES):
                    value[start : start + PIECE_BYTES] = blob.read(PIECE_BYTES)
            return value.toreadonly()

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Put rows in place of those of the same keys, all or none. They are committed when this returns."""
        small = [row for row in rows if row.value is None or len(row.value) <= PIECE_BYTES]
        with self._errors_as_ours(), self._transaction():
            self._database.executemany(_REPLACE, ((*self._columns(row), row.value) for row in small))
            for row in rows:
                if row.value is not None and len(row.value) > PIECE_BYTES:
                    self._write_large(row, row.value)

    def _write_large(self, row: JournalRow, value: bytes | memoryview) -> None:
        nbytes = len(value)
        if nbytes > self._longest_value:
            self._database.execute(_REPLACE, (*self._columns(row), None))
            return
        place = self._database.execute(_RESERVE, (*self._columns(row), nbytes)).lastrowid
        assert place is not None
        with self._database.blobopen("done", "value", place) as blob:
            for start in range(0, nbytes, PIECE_BYTES):
                blob.write(value[start : start + PIECE_BYTES])

    def _columns(self, row: JournalRow) -> tuple[int, bytes, str, bytes, str, int]:
        self._next_row += 1
        return self._next_row - 1, row.key, row.function, row.fingerprint, row.node, row.nbytes

    def close(self) -> None:
        """Let others have it."""
        with self._errors_as_ours(), closing(self._database):
            pass

    def _check_place(self) -> None:
        """Refuse what others could put values into: those are pickles, so they could have this user run code."""
        # SQLite takes what is in the files beside it for changes that were under way.
        for path in (self._path, *(Path(f"{self._path}{suffix}") for suffix in _SUFFIXES)):
            with suppress(FileNotFoundError):
                self._check_file(path, path.lstat())
        link = foreign_link(self._path.parent)
        if link is not None:
            raise JournalError(self._path, f"{link} is a link of user {link.lstat().st_uid}; {_REMEDY}")
        # A group is often its user's own. In a directory with the sticky bit, as /tmp, a file of ours stays ours.
        mode = self._path.parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            text = f"everybody may put another file in its place in {self._path.parent}"
            raise JournalError(self._path, f"{text}; {_REMEDY}")

    def _create(self) -> None:
        # Not opened if it is there: to close any other descriptor of the file would undo the locks of this process.
        # Values may be secrets, and whoever can write the file can have this user run code.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _check_file(self, path: Path, facts: os.stat_result) -> None:
        if stat.S_ISLNK(facts.st_mode):
            raise JournalError(path, f"it is a link; name the file that it leads to, {path.resolve()}")
        if not stat.S_ISREG(facts.st_mode):
            raise JournalError(path, f"it is not a file; {_REMEDY}")
        if facts.st_uid != os.geteuid():
            raise JournalError(
                path, f"it belongs to user {facts.st_uid}, who could have you run code; {_REMEDY}"
            )
        if facts.st_mode & _WRITABLE_BY_OTHERS:
            mode = stat.S_IMODE(facts.st_mode)
            raise JournalError(
                path,
                f"it has mode {mode:04o}, so others could have you run code; if none of them has, chmod go-w {path}",
            )

    def _claim(self) -> None:
        # The lock is kept until the file is closed. It makes do without shared memory, too, so that a journal may
        # be on a network's file system.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        with self._transaction():
            # Before anything is written: the file may be somebody else's.
            if self._is_empty():
                self._database.execute(_TABLE)
                self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._database.execute(f"PRAGMA user_version = {LAYOUT}")
            else:
                self._check_kind()
        # A commit appends to a log and does not wait for the disk. It survives the death of this process; if the
        # machine loses power the last ones may be gone, and the file is sound still.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")

    def _is_empty(self) -> bool:
        [(count,)] = self._database.execute("SELECT count(*) FROM sqlite_master")
        return self._pragma("application_id") == 0 and count == 0

    def _check_kind(self) -> None:
        if self._pragma("application_id") != APPLICATION_ID:
            raise JournalError(self._path, "it is a database of something else; name another file")
        layout = self._pragma("user_version")
        if layout != LAYOUT:
            raise JournalError(
                self._path, f"it has layout {layout}, and this release reads {LAYOUT}; name another file"
            )

    def _pragma(self, name: str) -> int:
        [(value,)] = self._database.execute(f"PRAGMA {name}")
        return int(value)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN EXCLUSIVE")
        with self._database:
            yield

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(self._path, _explanation(error)) from error


def _explanation(error: sqlite3.Error | OSError) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the kind of error, the others say more about it.
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "it is in use by another run; name another file, or wait for that run to end"
        case sqlite3.SQLITE_NOTADB:
            return "it is no journal; name another file"
        case sqlite3.SQLITE_CORRUPT:
            return f"it is damaged ({error}); delete it to begin anew"
        case sqlite3.SQLITE_FULL:
            return "the disk is full"
        case _:
            return str(error)
