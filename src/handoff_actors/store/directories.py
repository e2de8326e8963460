"""The directories that a node has for its values: how they are made, and which of them may be removed.

They stand in places that other programs use, too, and a removal can't be undone. So a starting node removes only what
certainly was another node's: a directory of the same user, no link, with a name of exactly our form, and our marker in
it, whose owner has died. A live owner holds a lock, which is taken before there is a marker and ends with its process.
"""

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final

#: The file that tells a node's directory from any other of that name.
MARKER: Final = ".handoff-node"
#: The most entries of a shared directory that are looked at.
MOST_ENTRIES: Final = 100_000
_PREFIX: Final = "handoff-"
_SPILLED: Final = "-spilled"
#: An incarnation, see `NodeActor`.
_NAME: Final = re.compile(rf"{_PREFIX}[0-9a-f]{{24}}({_SPILLED})?")
#: Follows no link and waits for no FIFO that has been put in the directory's place.
_OPENING: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def name_of(incarnation: str, *, on_disk: bool = False) -> str:
    """The name of a node's directory in memory, or of its directory for values on disk."""
    return f"{_PREFIX}{incarnation}{_SPILLED if on_disk else ''}"


def make(directory: Path) -> int:
    """Make a directory and return the descriptor whose lock shows that it has an owner. Raises OSError, leaving nothing."""
    directory.mkdir(mode=0o700)
    try:
        descriptor = os.open(directory, _OPENING)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            _mark(descriptor)
        except OSError:
            os.close(descriptor)
            raise
    except OSError:
        directory.rmdir()
        raise
    return descriptor


def is_there(directory: Path, descriptor: int) -> bool:
    """True if a directory that was made with this descriptor is still in its place. Its marker is put back where need be."""
    try:
        found, opened = directory.lstat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino):
        return False
    if not _is_ours(descriptor):
        # Cleaners remove files that are old.
        _mark(descriptor)
    return True


def adopt(directory: Path) -> None:
    """Make a directory, or mark one that is empty, so that it may be removed. Raises FileExistsError, OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(path.name != MARKER for path in directory.iterdir()):
        raise FileExistsError(f"{directory} is to become a store and is not empty")
    with _opened(directory) as descriptor:
        _mark(descriptor)


def remove(directory: Path) -> None:
    """Remove a directory that this process's node has made, if it is still that one. A missing one is no error."""
    with suppress(OSError), _opened(directory) as descriptor:
        if _is_ours(descriptor):
            _remove_all(directory, descriptor)


def remove_orphans(place: Path) -> Generator[Path, None, None]:
    """Remove the directories in this place whose nodes, and whose zygotes, which would have done it, were both killed.

    Yields the path of each before it is removed, which may take long. Other users can make any number of entries there,
    so only the first MOST_ENTRIES are looked at.
    """
    named: list[Path] = []
    with suppress(OSError), os.scandir(place) as entries:
        named = [place / entry.name for entry in islice(entries, MOST_ENTRIES) if _is_candidate(entry)]
    for directory in named:
        with suppress(OSError), _opened(directory) as descriptor:
            if _is_ours(descriptor):
                # Fails while its owner lives, or another node is removing it.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield directory
                _remove_all(directory, descriptor)


def _is_candidate(entry: "os.DirEntry[str]") -> bool:
    # Its owner may be removing it.
    with suppress(OSError):
        return (
            _NAME.fullmatch(entry.name) is not None
            and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        )
    return False


def _remove_all(directory: Path, descriptor: int) -> None:
    """Remove a directory, its marker last: if this is cut short, the rest can still be recognised."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MARKER:
            with suppress(OSError):
                path.unlink()
    (directory / MARKER).unlink(missing_ok=True)
    try:
        directory.rmdir()
    except OSError:
        _mark(descriptor)
        raise


def _is_ours(descriptor: int) -> bool:
    """True if an open directory belongs to this user and has the marker of a node in it."""
    if os.fstat(descriptor).st_uid != os.geteuid():
        return False
    with suppress(FileNotFoundError):
        facts = os.stat(MARKER, dir_fd=descriptor, follow_symlinks=False)
        return stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
    return False


def _mark(descriptor: int) -> None:
    os.close(
        os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=descriptor)
    )


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, _OPENING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
