"""The files of members in a join directory: written, touched, read and removed. Every call may block on a file server."""

import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from handoff_actors.addresses import check_destination
from handoff_actors.core.cluster.join_files import Age, JoinEntry, age_of
from handoff_actors.errors import HandoffError, InvalidAddressError
from handoff_actors.text import is_name
from handoff_actors.transport.kept_key import key_in, opened_private
from handoff_actors.transport.keys import ClusterKey

KEY_NAME: Final = "cluster.key"
_SUFFIX: Final = ".node"
_NAME: Final = re.compile(rf"([0-9a-f]{{24}}){re.escape(_SUFFIX)}")
#: Files on their way to their name, and those that only ask the file server for the time.
_SCRATCH: Final = re.compile(r"\.[0-9a-f]{16}\.tmp")
_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITING: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
#: Longer files are no member's.
_MAX_NBYTES: Final = 4096
#: Most files that one look reads. Members learn of the others from one another.
_MOST_READ: Final = 64


class JoinDirectoryError(HandoffError):
    """A join directory can't be used."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(
            f"the join directory {os.fspath(path)} can't be used: {reason}. "
            "Name one of your own on a file system that all machines share (--join-file, HANDOFF_JOIN_FILE)"
        )
        #: Why not.
        self.reason = reason


class JoinDirectory:
    """One directory. It is made where it is missing, for this user alone."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A daemon's working directory may change, and "~" comes from variables that no shell has expanded.
        self.path = Path(path).expanduser().absolute()

    def key(self) -> ClusterKey:
        """Return the key that is kept there, and make it where there is none. Raises JoinDirectoryError, InvalidKeyError."""
        with opened_private(self.path, self._refuse, is_named=True) as opened:
            return key_in(opened, self.path / KEY_NAME, "the join directory's key")

    def look(self, own: JoinEntry | None, known: Collection[str]) -> list[JoinEntry]:
        """Write or touch the file of the member in this process, if there is one, and read those of others that live.

        Files of `known` incarnations are not read, old ones are removed. Raises JoinDirectoryError.
        """
        with opened_private(self.path, self._refuse, is_named=True) as opened:
            # A new file each time: clients of NFS then see what others have done in the directory, and it comes back where
            # it was removed.
            written = self._write(opened, b"" if own is None else msgspec.json.encode(own))
            now = _modified(opened, written)
            if own is None:
                os.unlink(written, dir_fd=opened)
            else:
                os.rename(written, f"{own.incarnation}{_SUFFIX}", src_dir_fd=opened, dst_dir_fd=opened)
                known = {own.incarnation, *known}
            return list(_live(opened, known, now))

    def remove(self, incarnation: str) -> None:
        """Remove a member's file. A missing one is no error. Raises JoinDirectoryError."""
        with opened_private(self.path, self._refuse, is_named=True) as opened, suppress(FileNotFoundError):
            os.unlink(f"{incarnation}{_SUFFIX}", dir_fd=opened)

    def _write(self, opened: int, content: bytes) -> str:
        name = f".{secrets.token_hex(8)}.tmp"
        descriptor = os.open(name, _WRITING, 0o600, dir_fd=opened)
        try:
            os.write(descriptor, content)
            # The data first: writing it would set the time again.
            os.fsync(descriptor)
            # Without a time, the file server takes its own.
            os.utime(descriptor)
        finally:
            os.close(descriptor)
        return name

    def _refuse(self, reason: str) -> JoinDirectoryError:
        return JoinDirectoryError(self.path, reason)


def _modified(opened: int, name: str) -> float:
    descriptor = os.open(name, _READING, dir_fd=opened)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _live(opened: int, known: Collection[str], now: float) -> Iterator[JoinEntry]:
    unknown = [name for name in os.listdir(opened) if _is_unknown(name, known)]
    if len(unknown) > _MOST_READ:
        # Others than last time, and than those that another process reads now.
        unknown = secrets.SystemRandom().sample(unknown, _MOST_READ)
    for name in unknown:
        # Its member may be removing it, or writing it anew.
        with suppress(OSError):
            content, age = _read(opened, name, now)
            if age == "old":
                os.unlink(name, dir_fd=opened)
            elif age == "current" and (entry := _entry(name, content)) is not None:
                yield entry


def _is_unknown(name: str, known: Collection[str]) -> bool:
    found = _NAME.fullmatch(name)
    return _SCRATCH.fullmatch(name) is not None if found is None else found[1] not in known


def _read(opened: int, name: str, now: float) -> tuple[bytes, Age]:
    # To open a file has NFS ask its server for the present state, which `stat` may not.
    descriptor = os.open(name, _READING, dir_fd=opened)
    try:
        facts = os.fstat(descriptor)
        is_own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
        content = os.read(descriptor, _MAX_NBYTES) if is_own else b""
        return content, age_of(facts.st_mtime, now)
    finally:
        os.close(descriptor)


def _entry(name: str, content: bytes) -> JoinEntry | None:
    """The content of a member's file; None for any other, such as one of a later version."""
    try:
        entry = msgspec.json.decode(content, type=JoinEntry)
        check_destination(entry.address)
    except (msgspec.DecodeError, InvalidAddressError):
        return None
    return entry if is_name(entry.name) and name == f"{entry.incarnation}{_SUFFIX}" else None
