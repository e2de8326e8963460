"""Allocation of values' files: in the store's directory, which is in memory, or on disk with a link to them there."""

import errno
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from handoff_actors.errors import reason_of
from handoff_actors.process.open_files import with_reserve
from handoff_actors.store.recycling import remove_spares, take

_MEGABYTE: Final = 1e6
#: Error numbers of a file system that has no room.
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})


def allocate(path: Path, nbytes: int) -> int:
    """Make a file of that size and return its descriptor. Raises OSError, and leaves no file then.

    Room is taken first: a full file system shows at once, and never as SIGBUS in a process that maps the file.
    """
    descriptor = with_reserve(partial(os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        os.posix_fallocate(descriptor, 0, max(1, nbytes))
    except OSError:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def expect_room(path: Path, nbytes: int) -> int:
    """Make a sparse file where there is room for `nbytes` now, and return its descriptor. Raises OSError.

    Allocating 1 GB takes 0.3 s. A file that is written piece by piece, and mapped only afterwards, can do without; the
    file system may still fill up while it is written.
    """
    space = os.statvfs(path.parent)
    # A file system of no size has no limit.
    if space.f_blocks and space.f_bavail * space.f_frsize < nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    descriptor = with_reserve(partial(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.ftruncate(descriptor, max(1, nbytes))
    return descriptor


def make_room(
    memory: Path, disk: Path | None, name: str, nbytes: int, make: Callable[[Path, int], int] = allocate
) -> int:
    """Make a file of that size, in memory if it fits there, and return its descriptor. Raises OSError."""
    try:
        return _make_in_memory(memory / name, nbytes, make)
    except OSError as error:
        if disk is None or error.errno not in FULL:
            raise
    descriptor = make(disk / name, nbytes)
    try:
        (memory / name).symlink_to(disk / name)
    except OSError:
        os.close(descriptor)
        (disk / name).unlink()
        raise
    return descriptor


def _make_in_memory(path: Path, nbytes: int, make: Callable[[Path, int], int]) -> int:
    try:
        descriptor = take(path, nbytes)
        return make(path, nbytes) if descriptor is None else descriptor
    except OSError as error:
        if error.errno not in FULL:
            raise
    remove_spares(path.parent, math.inf)
    return make(path, nbytes)


def give_up_room(path: Path, disk: Path | None) -> None:
    """Remove a file and, if it is a link into `disk`, its target. A missing file is no error."""
    with suppress(OSError):
        target = path.readlink()
        # Functions can make links there, too.
        if target.parent == disk:
            target.unlink()
    with suppress(FileNotFoundError):
        path.unlink()


def complaint(error: OSError, *directories: Path | None) -> str:
    """Return the reason why a value can't be written to these directories."""
    if error.errno not in FULL:
        return f"it can't be written: {reason_of(error)}"
    return "there is no room for it: " + ", ".join(
        _free(directory) for directory in directories if directory is not None
    )


def _free(directory: Path) -> str:
    space = os.statvfs(directory)
    free, size = (blocks * space.f_frsize / _MEGABYTE for blocks in (space.f_bavail, space.f_blocks))
    return f"{free:.1f} MB of {size:.1f} MB are free in {directory}"
