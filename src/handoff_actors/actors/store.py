"""A node's stored values: files in shared memory, named by run and function, mapped by whoever reads them."""

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import Protocol

from handoff_actors.ids import Attempt, Index, RunId


class Landing(Protocol):
    """Where a value that is being fetched is put together."""

    def write(self, offset: int, piece: memoryview) -> None:
        """Put a piece at its place. Raises OSError where there is no room."""

    def finish(self) -> None:
        """It is complete."""

    def abandon(self) -> None:
        """It won't be."""


#: Stores are directories of this name and an incarnation.
PREFIX = "handoff-"
#: Its owner may not have locked it yet.
YOUNG_S = 60.0


class Store:
    """The files of one node. The workers of the node know the directory and the names, too."""

    def __init__(self, incarnation: str) -> None:
        """Make the directory, in shared memory where there is such a thing, and remove those that nobody owns any more."""
        shared = Path("/dev/shm")  # noqa: S108 - a private directory within
        parent = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
        self.directory = parent / f"{PREFIX}{incarnation}"
        self.directory.mkdir(mode=0o700)
        #: Locked for as long as this process lives.
        self._descriptor = os.open(self.directory, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        _sweep(parent)
        self._views: dict[tuple[RunId, Index], memoryview] = {}

    def path(self, run: RunId, index: Index) -> Path:
        """The file of a value that counts."""
        return self.directory / f"{run:016x}-{index}"

    def keep(self, run: RunId, index: Index, attempt: Attempt) -> None:
        """A worker's result counts from now on."""
        self._views.pop((run, index), None)
        self._attempt_path(run, index, attempt).rename(self.path(run, index))

    def discard(self, run: RunId, index: Index, attempt: Attempt) -> None:
        """A worker's result does not count, if it has left one."""
        with suppress(FileNotFoundError):
            self._attempt_path(run, index, attempt).unlink()

    def view(self, run: RunId, index: Index) -> memoryview | None:
        """The bytes of a value, mapped; None where it is not here."""
        view = self._views.get((run, index))
        if view is None:
            try:
                with self.path(run, index).open("rb") as file:
                    view = memoryview(mmap(file.fileno(), 0, prot=PROT_READ))
            except FileNotFoundError:
                return None
            self._views[run, index] = view
        return view

    def land(self, run: RunId, index: Index, request: int, nbytes: int) -> "FileLanding":
        """Make room for a value from elsewhere. Raises OSError where there is none."""
        return FileLanding(
            self.directory / f"{run:016x}-{index}.fetch{request}", self.path(run, index), nbytes
        )

    def forget(self, run: RunId) -> None:
        """Drop everything of a run. Freeing much memory takes a while, so a thread does it."""
        self._drop_views(run)
        removal = asyncio.get_running_loop().run_in_executor(None, self._remove, f"{run:016x}-")
        # Who asks meanwhile maps what is being removed, which must not keep its memory taken.
        removal.add_done_callback(lambda _: self._drop_views(run))

    def _drop_views(self, run: RunId) -> None:
        for key in [key for key in self._views if key[0] == run]:
            del self._views[key]

    def _remove(self, prefix: str) -> None:
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.startswith(prefix):
                    with suppress(FileNotFoundError):
                        Path(entry.path).unlink()

    def close(self) -> None:
        """Own the directory no more."""
        os.close(self._descriptor)

    def _attempt_path(self, run: RunId, index: Index, attempt: Attempt) -> Path:
        return self.directory / f"{run:016x}-{index}.{attempt}"


def _sweep(parent: Path) -> None:
    """Remove stores whose node, and whose zygote, which would have done it, were both killed."""
    for orphan in parent.glob(f"{PREFIX}*"):
        # Others' stores can't be opened, and another node may be sweeping, too.
        with suppress(OSError):
            if orphan.stat().st_mtime > time.time() - YOUNG_S:
                continue
            descriptor = os.open(orphan, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(orphan, ignore_errors=True)
            finally:
                os.close(descriptor)


class FileLanding:
    """A file that gets its name when it is complete."""

    def __init__(self, path: Path, final: Path, nbytes: int) -> None:
        self._path = path
        self._final = final
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Room is taken at once, so that a full store shows here and not as SIGBUS in a worker.
            os.posix_fallocate(self._descriptor, 0, max(1, nbytes))
        except OSError:
            self.abandon()
            raise

    def write(self, offset: int, piece: memoryview) -> None:
        """Put a piece at its place."""
        while piece:
            written = os.pwrite(self._descriptor, piece, offset)
            piece, offset = piece[written:], offset + written

    def finish(self) -> None:
        """It is complete."""
        os.close(self._descriptor)
        self._path.rename(self._final)

    def abandon(self) -> None:
        """It won't be."""
        os.close(self._descriptor)
        with suppress(FileNotFoundError):
            self._path.unlink()


class MemoryLanding:
    """A value that lands in this process."""

    def __init__(self, nbytes: int) -> None:
        # The kernel gives zeroed pages as they are touched; a bytearray would hold up the loop while it zeroes them all.
        self.buffer = memoryview(mmap(-1, nbytes)) if nbytes else memoryview(bytearray())

    def write(self, offset: int, piece: memoryview) -> None:
        """Put a piece at its place."""
        self.buffer[offset : offset + len(piece)] = piece

    def finish(self) -> None:
        """It is complete."""

    def abandon(self) -> None:
        """It won't be."""
        self.buffer = memoryview(b"")
