"""Files of dropped values, kept for a while so that the next large value gets their pages.

Taking 100 MB of pages from the kernel costs 28 ms and giving them back 13, where copying them takes 17; and 70 ms if a
virtual machine has meanwhile given them back to its host, which happens to huge pages within seconds. A file is
written over only where the kernel grants a write lease on it, which proves that no other user has it open or mapped: no
worker, no child of a worker, no array that has outlived its job. Where there are no leases no file is kept.
"""

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Pages for smaller values are quick to get from the kernel.
LEAST_NBYTES: Final = 1 << 20
#: The most that is kept of one node.
MOST_NBYTES: Final = 1 << 30
#: Seconds for which a file is kept; as long as jemalloc keeps pages. When the machine runs short, all of them go at once.
KEPT_S: Final = 10.0

_PREFIX: Final = "spare-"
_SET_LEASE: Final[int | None] = getattr(fcntl, "F_SETLEASE", None)


def set_aside(path: Path, most_nbytes: int = MOST_NBYTES) -> bool:
    """Keep the file of a dropped value, unless enough are kept; False if the file has stayed in its place."""
    facts = path.lstat()
    # A file with another name is the value of another run, too.
    if _SET_LEASE is None or facts.st_size < LEAST_NBYTES or facts.st_nlink > 1 or path.is_symlink():
        return False
    if facts.st_size + sum(size for _, size in _spares(path.parent)) > most_nbytes:
        return False
    path.rename(path.with_name(f"{_PREFIX}{path.name}"))
    return True


def take(path: Path, nbytes: int) -> int | None:
    """Make a file of that size from a kept one and return its descriptor; None if there is none.

    The content is the old one's. Raises OSError where the file system has no room to make it larger.
    """
    if nbytes < LEAST_NBYTES:
        return None
    # The best one is large enough, and not much larger.
    spares = sorted(_spares(path.parent), key=lambda spare: (spare[1] < nbytes, abs(spare[1] - nbytes)))
    for spare, size in spares:
        with suppress(FileNotFoundError):
            # The first worker to rename it has it: another one may have seen it, too.
            spare.rename(path)
            descriptor = _open_if_alone(path)
            if descriptor is not None:
                return _resized(descriptor, path, size, nbytes)
    return None


def remove_spares(directory: Path, kept_since: float) -> bool:
    """Remove the files that have been kept since `kept_since` or longer, seconds since the epoch; True if some are left."""
    is_left = False
    for spare, _ in list(_spares(directory)):
        with suppress(FileNotFoundError):
            if spare.stat().st_ctime <= kept_since:
                spare.unlink()
            else:
                is_left = True
    return is_left


def _spares(directory: Path) -> Iterator[tuple[Path, int]]:
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with suppress(FileNotFoundError):
                    yield Path(entry.path), entry.stat().st_size


def _open_if_alone(path: Path) -> int | None:
    """Open a file that has no other user, or else remove its name: processes that map it keep its content."""
    assert _SET_LEASE is not None, "nothing is kept where there are no leases"
    descriptor = os.open(path, os.O_RDWR)
    try:
        # A process that opens it just now makes the kernel send a signal, of which the usual one would end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, _SET_LEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, _SET_LEASE, fcntl.F_UNLCK)
    except OSError as error:
        os.close(descriptor)
        path.unlink()
        # EINVAL: the file system knows no leases.
        if error.errno not in {errno.EAGAIN, errno.EACCES, errno.EINVAL}:
            raise
        return None
    return descriptor


def _resized(descriptor: int, path: Path, size: int, nbytes: int) -> int:
    try:
        if size < nbytes:
            os.posix_fallocate(descriptor, size, nbytes - size)
        else:
            os.ftruncate(descriptor, nbytes)
    except OSError:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor
