"""Keys that are kept in a directory: the first process that needs one makes it, and all others read it."""

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from handoff_actors.errors import HandoffError, reason_of
from handoff_actors.process.ownership import foreign_link, is_trusted
from handoff_actors.transport.keys import ClusterKey

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened_private(
    directory: Path, refuse: Callable[[str], HandoffError], *, is_named: bool = False
) -> Iterator[int]:
    """Open a directory that only this user can change, and make it if it is missing. Raises what `refuse` makes of a reason.

    One that the user has named may be made in another user's, and be reached through links of the user's own.
    """
    try:
        if is_named:
            _check_links(directory, refuse)
        if not directory.exists():
            if not is_named:
                _check_owner(directory, refuse)
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory, _DIRECTORY if is_named else _DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise refuse(reason_of(error)) from error
    try:
        facts = os.fstat(descriptor)
        if facts.st_uid != os.geteuid():
            raise refuse(f"it belongs to user {facts.st_uid}")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise refuse(f"others may write to it: chmod 700 {directory}")
        try:
            yield descriptor
        except OSError as error:
            raise refuse(reason_of(error)) from error
    finally:
        os.close(descriptor)


def key_in(descriptor: int, path: Path, named: str) -> ClusterKey:
    """Return the key in the file at `path`, in an open directory, and make it where there is none.

    Any number of processes may do so at once. Raises InvalidKeyError, which calls it `named`, and OSError.
    """
    try:
        return _read(descriptor, path, named)
    except FileNotFoundError:
        _make(descriptor, path.name)
        return _read(descriptor, path, named)


def _check_links(directory: Path, refuse: Callable[[str], HandoffError]) -> None:
    there = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if (link := foreign_link(there)) is not None:
        raise refuse(f"it is reached through a link of user {link.lstat().st_uid}, {link}")


def _check_owner(directory: Path, refuse: Callable[[str], HandoffError]) -> None:
    """Refuse a directory that would be made in another user's, such as that of the user who called sudo."""
    above = next(parent for parent in directory.parents if parent.exists())
    owner = above.stat().st_uid
    if not is_trusted(owner):
        raise refuse(f"{above} belongs to user {owner}")


def _read(directory: int, path: Path, named: str) -> ClusterKey:
    descriptor = os.open(path.name, _FILE, dir_fd=directory)
    try:
        return ClusterKey.from_descriptor(descriptor, f"{named} ({path})", str(path))
    finally:
        os.close(descriptor)


def _make(directory: int, name: str) -> None:
    """Make a key in the directory, unless another process is first; the file appears complete."""
    own = f"{name}.{secrets.token_hex(8)}"
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, f"{ClusterKey.generate().text()}\n".encode("ascii"))
        os.fsync(descriptor)
        # A rename would take the place of one that others have read already.
        with suppress(FileExistsError):
            os.link(own, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(descriptor)
        os.unlink(own, dir_fd=directory)
