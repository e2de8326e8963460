"""A worker's view of the node's store of large values: it writes its results and maps its inputs."""

import os
from collections.abc import Sequence
from mmap import mmap
from pathlib import Path
from typing import Any, Final

from handoff_actors.store.allocation import complaint, give_up_room, make_room
from handoff_actors.store.mappings import Mappings
from handoff_actors.wire.payload import Payload, decode

#: Buffers in one system call (IOV_MAX is 1024).
_BUFFERS_PER_WRITE: Final = 512
_MEGABYTE: Final = 1e6
#: In huge pages a large value is written through a mapping: 100 MB in 5.0 ms, where the kernel takes 6.2. Of pages of
#: 4 KiB each would have to be mapped first.
_HUGE_PAGE_NBYTES: Final = 2 << 20
_MAPPED_FROM_NBYTES: Final = 4 << 20


class InputNotStored(Exception):
    """An input of a job is not in the store."""


class StoreFailed(Exception):
    """A result cannot be written to the store."""


class WorkerStore:
    """The store's directory, and the directory on disk for values that it has no room for."""

    def __init__(self, directory: Path, disk: Path | None) -> None:
        self._directory = directory
        self._disk = disk
        self.mappings = Mappings()

    def read(self, run: int, index: int, parts: Sequence[Any] = ()) -> Any:
        """Give a stored value, with these `parts` in it; its large buffers are the file itself.

        Raises InputNotStored, SerializationError.
        """
        return self._read(value_name(run, index), index, parts)

    def _read(self, name: str, index: int, parts: Sequence[Any] = ()) -> Any:
        path = self._directory / name
        try:
            mapped = self.mappings.map(path)
        except OSError as error:
            raise InputNotStored(
                f"the value of function {index} is not in {self._directory}: {error}"
            ) from error
        return decode(mapped, parts)

    def read_own(self, run: int, index: int, attempt: int) -> Any:
        """Give a result that this worker has just written. Raises InputNotStored, SerializationError."""
        try:
            return self._read(f"{value_name(run, index)}.{attempt}", index)
        except InputNotStored:
            # The node has accepted it meanwhile.
            return self.read(run, index)

    def write(self, run: int, index: int, attempt: int, payload: Payload) -> None:
        """Write a result under its attempt's name, or leave nothing behind. Raises StoreFailed."""
        name = f"{value_name(run, index)}.{attempt}"
        try:
            descriptor = make_room(self._directory, self._disk, name, payload.nbytes)
        except OSError as error:
            raise StoreFailed(self._complaint(payload.nbytes, error)) from error
        try:
            if payload.nbytes >= _MAPPED_FROM_NBYTES and os.fstat(descriptor).st_blksize >= _HUGE_PAGE_NBYTES:
                _copy_into(descriptor, payload)
            else:
                _write_all(descriptor, payload.buffers)
        except OSError as error:
            give_up_room(self._directory / name, self._disk)
            raise StoreFailed(self._complaint(payload.nbytes, error)) from error
        finally:
            os.close(descriptor)

    def discard(self, run: int, index: int, attempt: int) -> None:
        """Remove what `write` has written."""
        give_up_room(self._directory / f"{value_name(run, index)}.{attempt}", self._disk)

    def unpack(self, run: int, index: int) -> Path:
        """Give the directory with the contents of a stored archive; the first worker to ask makes it.

        The directory is removed with the values of its run. Raises OSError.
        """
        name = value_name(run, index)
        target = (self._disk or self._directory) / f"{name}.unpacked"
        if not target.is_dir():
            from handoff_actors.store.archive import unpack  # noqa: PLC0415 - few workers need it

            unpack(self._directory / name, target)
        return target

    def _complaint(self, nbytes: int, error: OSError) -> str:
        why = complaint(error, self._directory, self._disk)
        return f"a result of {nbytes / _MEGABYTE:.1f} MB: {why}"


def value_name(run: int, index: int) -> str:
    """Name the file of a value that the node has accepted; an attempt's file has ".attempt" after it."""
    return f"{run:016x}-{index}"


def _copy_into(descriptor: int, payload: Payload) -> None:
    """Write to a file whose pages are there already."""
    with mmap(descriptor, payload.nbytes) as mapped:
        end = 0
        for buffer in payload.buffers:
            start, end = end, end + len(buffer)
            mapped[start:end] = buffer


def _write_all(descriptor: int, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
    pending = [memoryview(buffer) for buffer in buffers]
    first = 0
    while first < len(pending):
        written = os.writev(descriptor, pending[first : first + _BUFFERS_PER_WRITE])
        while first < len(pending) and written >= len(pending[first]):
            written -= len(pending[first])
            first += 1
        if written:
            pending[first] = pending[first][written:]
