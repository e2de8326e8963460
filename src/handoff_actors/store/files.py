"""A node's stored values: files in shared memory, named by run and function, mapped by their readers."""

import asyncio
import itertools
import logging
import math
import mmap
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.store import directories, huge_pages, recycling
from handoff_actors.store.allocation import complaint, expect_room, give_up_room, make_room
from handoff_actors.store.copying import copy
from handoff_actors.store.spill_place import NO_DISK, spill_place

log = logging.getLogger(__name__)

Key = tuple[RunId, Index]


class LostDirectories(NamedTuple):
    """The directories of a store that somebody has removed."""

    in_memory: bool
    on_disk: bool


class Landing(Protocol):
    """The place where a value that is being fetched is put together."""

    def write(self, offset: int, piece: memoryview) -> None:
        """Write a piece at its offset. Raises OSError where there is no room."""

    def finish(self) -> None:
        """Publish the value: it is complete."""

    def abandon(self) -> None:
        """Drop the value: it will not be completed."""


#: Only Linux has them.
_HUGE_PAGES: Final[int | None] = getattr(mmap, "MADV_HUGEPAGE", None)
SHARED = Path("/dev/shm")  # noqa: S108 - private directories within


class ValueStore:
    """The files of one node. The workers of the node know the directories and the names, too.

    A value on disk has a link to it at its path in memory, so that its name is enough to find it.
    """

    def __init__(
        self,
        incarnation: str,
        spill_dir: Path | None = None,
        limit_nbytes: int | None = None,
        store_dir: Path | None = None,
    ) -> None:
        """Make a directory in shared memory where there is such a thing, and one on disk. Raises OSError.

        Directories of nodes that have died are removed.
        """
        self._most_spare_nbytes = recycling.MOST_NBYTES
        if limit_nbytes is not None:
            self._most_spare_nbytes = min(self._most_spare_nbytes, limit_nbytes // 4)
        shared = memory_directory()
        disk_parent = spill_place(spill_dir)
        #: False: values that memory has no room for are refused.
        self._has_disk = disk_parent is not None
        # Workers look for a second directory, in which there is no room then.
        disk_parent = disk_parent or shared
        #: Descriptors that stay open for as long as this process lives.
        self._descriptors: list[int] = []
        parent = store_dir or self._mounted(shared)
        self.directory = parent / directories.name_of(incarnation)
        self.disk = disk_parent / directories.name_of(incarnation, on_disk=True)
        #: The descriptors of both directories, whose locks show that they have an owner.
        self._locks: dict[Path, int] = {}
        self._make_directories()
        # A node that was killed may have left gigabytes, and no start shall wait for their removal.
        places = sorted({shared, parent, disk_parent})
        threading.Thread(target=_remove_orphans, args=[places], name="handoff orphans", daemon=True).start()
        self._views: dict[Key, memoryview] = {}
        #: Values that are being written to disk, and the number of each write.
        self._leaving: dict[Key, int] = {}
        self._numbers = itertools.count(1)
        #: Runs that have files here; a worker that has died may have left unreported files of its runs.
        self._runs: set[RunId] = set()
        self._worker_has_died = False
        #: The timer for the next look at spare files.
        self._tidying: asyncio.TimerHandle | None = None

    def _make_directories(self) -> None:
        try:
            for directory in (self.directory, self.disk):
                self._locks[directory] = directories.make(directory)
        except OSError:
            directories.remove(self.directory)
            self._let_go()
            raise

    def renew(self) -> LostDirectories:
        """Make directories anew that somebody has removed, and tell which. Raises OSError where that can't be done.

        Their values are lost.
        """
        lost = {place for place, lock in self._locks.items() if not directories.is_there(place, lock)}
        for directory in lost:
            lock = directories.make(directory)
            os.close(self._locks[directory])
            self._locks[directory] = lock
        if self.directory in lost:
            self._views.clear()
            self._leaving.clear()
        return LostDirectories(self.directory in lost, self.disk in lost)

    def has(self, run: RunId, index: Index) -> bool:
        """True if the file of a value is there, or the one on disk that it is a link to."""
        return self.path(run, index).exists()

    def _mounted(self, shared: Path) -> Path:
        """A mount like shared memory, and as large, but with huge pages; where that is impossible, shared memory."""
        if shared != SHARED:
            return shared
        space = os.statvfs(shared)
        descriptor = huge_pages.mount(space.f_blocks * space.f_frsize)
        if descriptor is None:
            return shared
        self._descriptors.append(descriptor)
        # Not "self": this is where workers find it, too.
        return Path(f"/proc/{os.getpid()}/fd/{descriptor}")

    def path(self, run: RunId, index: Index) -> Path:
        """The path of a value's file."""
        return self.directory / f"{run:016x}-{index}"

    def keep(self, run: RunId, index: Index, attempt: Attempt) -> None:
        """Adopt a worker's result as the function's value."""
        self._views.pop((run, index), None)
        self._runs.add(run)
        self._attempt_path(run, index, attempt).rename(self.path(run, index))

    def is_on_disk(self, run: RunId, index: Index) -> bool:
        """True if a value is spilled, and so takes no memory."""
        return self.path(run, index).is_symlink()

    def discard(self, run: RunId, index: Index, attempt: Attempt) -> None:
        """Drop the result of an attempt, if its worker has left one."""
        give_up_room(self._attempt_path(run, index, attempt), self.disk)

    def discard_all(self, run: RunId, indices: range, attempt: Attempt) -> None:
        """Drop whatever an attempt has left as results of these indices."""
        for path in self.directory.glob(f"{run:016x}-*.{attempt}"):
            index, _, _ = path.name.partition("-")[2].partition(".")
            if index.isdecimal() and int(index) in indices:
                give_up_room(path, self.disk)

    def view(self, run: RunId, index: Index) -> memoryview | None:
        """Map a value and return its bytes; None if it is not here."""
        view = self._views.get((run, index))
        if view is None:
            try:
                # It needs ctypes, which small programs do not.
                from handoff_actors.store.mapped import map_file  # noqa: PLC0415

                view = map_file(self.path(run, index))
            except FileNotFoundError:
                return None
            self._views[run, index] = view
        return view

    def land(self, run: RunId, index: Index, request: int, nbytes: int) -> "FileLanding":
        """Make room for a value from elsewhere. Raises OSError where there is none."""
        self._runs.add(run)
        name = f"{run:016x}-{index}.fetch{request}"
        descriptor = make_room(self.directory, self.disk, name, nbytes, expect_room)
        replace = partial(self._views.pop, (run, index), None)
        return FileLanding(descriptor, self.directory / name, self.path(run, index), self.disk, replace)

    def link(self, source: Key, run: RunId, index: Index) -> int:
        """Give a value that is here a second name, under which it stays without the first. Returns its size in bytes.

        Raises OSError where that can't be done.
        """
        self._runs.add(run)
        self._views.pop((run, index), None)
        self._link(self.path(*source), self.path(run, index))
        return self.path(run, index).stat().st_size

    def _link(self, source: Path, name: Path) -> None:
        """Have `name` be the same value as `source`, in place of whatever it is."""
        fresh = name.with_name(f"{name.name}.link")
        if source.is_symlink():
            on_disk = self.disk / f"{name.name}.spilled{next(self._numbers)}"
            os.link(source.readlink(), on_disk)
            fresh.symlink_to(on_disk)
        else:
            os.link(source, fresh)
        fresh.rename(name)

    def spill(self, run: RunId, index: Index, done: Callable[[str], None]) -> None:
        """Move a value to disk. `done("")` reports success, `done(reason)` failure.

        `done` is not called if the run is forgotten first.
        """
        if self.is_on_disk(run, index) or not self._has_disk:
            done("" if self._has_disk else NO_DISK)
            return
        key, source = (run, index), self.path(run, index)
        number = self._leaving[key] = next(self._numbers)
        target = self.disk / f"{source.name}.spilled{number}"
        copying = asyncio.get_running_loop().run_in_executor(
            None, copy, source, target, lambda: self._leaving.get(key) == number
        )
        copying.add_done_callback(lambda _: self._spilled(key, number, target, copying, done))

    def _spilled(
        self,
        key: Key,
        number: int,
        target: Path,
        copying: "asyncio.Future[int]",
        done: Callable[[str], None],
    ) -> None:
        source = self.path(*key)
        error = None if copying.cancelled() else copying.exception()
        if copying.cancelled() or self._leaving.get(key) != number:
            # Not even the inode tells: a dropped value's file may be the next one's of that name.
            target.unlink(missing_ok=True)
        elif isinstance(error, OSError):
            del self._leaving[key]
            done(complaint(error, self.disk))
        elif not source.exists():
            target.unlink(missing_ok=True)
            del self._leaving[key]
            done("somebody has removed it from the store")
        elif source.stat().st_ino != copying.result():
            # The value has been made anew meanwhile.
            target.unlink()
            self.spill(*key, done)
        else:
            del self._leaving[key]
            sharers = _links_of(source)
            link = source.with_name(f"{source.name}.link")
            link.symlink_to(target)
            link.rename(source)
            for sharer in sharers:
                self._link(source, sharer)
            replaced = {source, *sharers}
            for other in [other for other in self._views if self.path(*other) in replaced]:
                del self._views[other]
            done("")

    def drop(self, run: RunId, indices: Iterable[Index]) -> None:
        """Drop values of a run that goes on. Their names are free at once; a thread removes what is large."""
        removals: list[Path] = []
        views: list[memoryview] = []
        for index in indices:
            self._leaving.pop((run, index), None)
            view = self._views.pop((run, index), None)
            if view is not None:
                views.append(view)
            removals += self._take_away(self.path(run, index))
        if removals:
            removal = asyncio.get_running_loop().run_in_executor(None, self._remove_all, removals, views)
            removal.add_done_callback(lambda _: self._tidy_later())

    def _take_away(self, path: Path) -> list[Path]:
        """Free the name of a value. Returns what is left to remove."""
        left: list[Path] = []
        with suppress(FileNotFoundError):
            if path.is_symlink():
                target = path.readlink()
                # Functions can make links there, too.
                left += [target] if target.parent == self.disk else []
                path.unlink()
            elif path.stat().st_size < recycling.LEAST_NBYTES:
                path.unlink()
            else:
                left.append(self._renamed(path))
        with suppress(FileNotFoundError):
            # A package, which a worker has unpacked.
            left.append(self._renamed(self.disk / f"{path.name}.unpacked"))
        return left

    def _renamed(self, path: Path) -> Path:
        return path.rename(path.with_name(f"{path.name}.dropped{next(self._numbers)}"))

    def forget(self, run: RunId) -> None:
        """Drop everything of a run. Freeing much memory takes a while, so a thread does it."""
        self._leaving = {key: number for key, number in self._leaving.items() if key[0] != run}
        views = self._take_views(run)
        if run not in self._runs and not self._worker_has_died:
            # Most runs are small: a thread would take longer than all the rest of their end.
            return
        self._runs.discard(run)
        removal = asyncio.get_running_loop().run_in_executor(None, self._remove, f"{run:016x}-", views)
        # A reader may meanwhile map a file that is being removed, which must not keep its memory taken.
        removal.add_done_callback(lambda _: self._removed(run))

    def expect_leftovers(self) -> None:
        """Take note that a worker has died, perhaps with a result half written."""
        self._worker_has_died = True

    def _removed(self, run: RunId) -> None:
        self._take_views(run)
        self._tidy_later()

    def _tidy_later(self) -> None:
        if self._tidying is None and self._locks:
            self._tidying = asyncio.get_running_loop().call_later(recycling.KEPT_S, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        kept_since = time.time() - recycling.KEPT_S / 2
        removal = asyncio.get_running_loop().run_in_executor(
            None, recycling.remove_spares, self.directory, kept_since
        )
        removal.add_done_callback(lambda _: self._tidy_later() if removal.result() else None)

    def give_up_spares(self) -> None:
        """Give back the memory of spare files. May be called by any thread."""
        recycling.remove_spares(self.directory, math.inf)

    def _take_views(self, run: RunId) -> list[memoryview]:
        return [self._views.pop(key) for key in list(self._views) if key[0] == run]

    def _remove(self, prefix: str, views: list[memoryview]) -> None:
        views.clear()
        for directory in (self.directory, self.disk):
            with suppress(FileNotFoundError), os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith(prefix):
                        self._drop(Path(entry.path))

    def _remove_all(self, paths: Iterable[Path], views: list[memoryview]) -> None:
        views.clear()
        for path in paths:
            self._drop(path)

    def _drop(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            # A package of the run, which a worker has unpacked.
            shutil.rmtree(path, ignore_errors=True)
            return
        with suppress(FileNotFoundError):
            is_in_memory = path.parent == self.directory
            if not (is_in_memory and recycling.set_aside(path, self._most_spare_nbytes)):
                path.unlink()

    def close(self) -> None:
        """Remove the directories. Little is left in them by now: as a rule the zygote has removed all files."""
        self._leaving.clear()
        if self._tidying is not None:
            self._tidying.cancel()
        for directory in (self.directory, self.disk):
            directories.remove(directory)
        self._let_go()

    def _let_go(self) -> None:
        for descriptor in (*self._locks.values(), *self._descriptors):
            os.close(descriptor)
        self._locks.clear()
        self._descriptors.clear()

    def _attempt_path(self, run: RunId, index: Index, attempt: Attempt) -> Path:
        return self.directory / f"{run:016x}-{index}.{attempt}"


def _links_of(path: Path) -> list[Path]:
    """The other names of a value in memory, without those that are about to be removed."""
    facts = path.stat()
    if facts.st_nlink == 1:
        return []
    with os.scandir(path.parent) as entries:
        return [
            Path(entry.path) for entry in entries if entry.inode() == facts.st_ino and entry.name != path.name
        ]


def memory_directory() -> Path:
    """The directory in which stores are made: shared memory where the system has it."""
    return SHARED if os.access(SHARED, os.W_OK) else Path(tempfile.gettempdir())


def _remove_orphans(places: Sequence[Path]) -> None:
    for place in places:
        for orphan in directories.remove_orphans(place):
            # No action is needed, and an app that hasn't set up logging would print a warning.
            log.info("removing %s, which a node that was killed has left behind", orphan)


class FileLanding:
    """A file that gets its name when it is complete."""

    def __init__(
        self, descriptor: int, path: Path, final: Path, disk: Path, finished: Callable[[], object]
    ) -> None:
        self._descriptor = descriptor
        self._path = path
        self._final = final
        self._disk = disk
        self._finished = finished

    def write(self, offset: int, piece: memoryview) -> None:
        """See `Landing.write`."""
        while piece:
            written = os.pwrite(self._descriptor, piece, offset)
            piece, offset = piece[written:], offset + written

    def finish(self) -> None:
        """See `Landing.finish`."""
        os.close(self._descriptor)
        # Where somebody has removed it, the value is found to be missing.
        with suppress(FileNotFoundError):
            self._path.rename(self._final)
        self._finished()

    def abandon(self) -> None:
        """See `Landing.abandon`."""
        os.close(self._descriptor)
        give_up_room(self._path, self._disk)


class MemoryLanding:
    """A value that is fetched into this process's own memory."""

    def __init__(self, nbytes: int) -> None:
        # The kernel gives zeroed pages as they are touched; a bytearray would hold up the loop while it zeroes them all.
        if not nbytes:
            self.buffer = memoryview(bytearray())
            return
        pages = mmap.mmap(-1, nbytes)
        # A page of 2 MB takes a fifth of the time that its 512 small ones do.
        if _HUGE_PAGES is not None:
            with suppress(OSError):
                pages.madvise(_HUGE_PAGES)
        self.buffer = memoryview(pages)

    def write(self, offset: int, piece: memoryview) -> None:
        """See `Landing.write`."""
        self.buffer[offset : offset + len(piece)] = piece

    def finish(self) -> None:
        """See `Landing.finish`."""

    def abandon(self) -> None:
        """See `Landing.abandon`."""
        self.buffer = memoryview(b"")
