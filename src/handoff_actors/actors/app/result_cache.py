"""The cache of results on this machine: a file for each, named by the fingerprint of its function, in a directory of the user's.

Files are written under another name and then renamed, so any number of processes may use the directory at once. A file's
time of modification is that at which it expires.
"""

import os
import secrets
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from handoff_actors.errors import HandoffError, reason_of
from handoff_actors.process.ownership import foreign_link

VARIABLE: Final = "HANDOFF_CACHE"
#: What a file begins with: its kind, when it was written (seconds since the epoch), and how long the value is.
_HEADER: Final = struct.Struct("<4sdQ")
_KIND: Final = b"HOC1"
_FRESH: Final = ".new-"
#: The directory is searched for expired files once in so many seconds.
_PRUNED_EVERY_S: Final = 3600.0
_PRUNED: Final = ".pruned"
#: Files under their first name that are older than this belong to nobody any more.
_ABANDONED_S: Final = 86400.0
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class ResultCache:
    """The cached results of one user. All methods block."""

    def __init__(self) -> None:
        """Make the directory if need be. Raises HandoffError where others could put values into it."""
        self._directory = directory = cache_directory()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts, link = directory.stat(), foreign_link(directory)
        except OSError as error:
            raise _unusable(directory, reason_of(error)) from error
        # Values are pickles: whoever can write one can have this user run code.
        if link is not None:
            raise _unusable(directory, f"{link} is a link of user {link.lstat().st_uid}")
        if facts.st_uid != os.geteuid():
            raise _unusable(directory, f"it belongs to user {facts.st_uid}, who could have you run code")
        if facts.st_mode & _WRITABLE_BY_OTHERS:
            raise _unusable(directory, f"others can write it; if none of them has, chmod go-w {directory}")

    def find(self, fingerprint: bytes, ttl_s: float) -> bytes | None:
        """Return the encoded value of a function, unless it is older than `ttl_s` seconds; None if there is none."""
        try:
            descriptor = os.open(self._path(fingerprint), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            is_own = facts.st_uid == os.geteuid() and not facts.st_mode & _WRITABLE_BY_OTHERS
            if not (is_own and stat.S_ISREG(facts.st_mode) and facts.st_size >= _HEADER.size):
                return None
            kind, written_at, nbytes = _HEADER.unpack(file.read(_HEADER.size))
            if kind != _KIND or nbytes != facts.st_size - _HEADER.size:
                return None
            # A clock that was set back makes no value younger.
            is_fresh = 0 <= time.time() - written_at < ttl_s
            return file.read() if is_fresh else None

    def store(self, fingerprint: bytes, ttl_s: float, value: bytes | memoryview) -> None:
        """Write the encoded value of a function, in place of an earlier one. Raises OSError."""
        fresh = self._directory / f"{_FRESH}{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        now = time.time()
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_HEADER.pack(_KIND, now, len(value)))
                file.write(value)
            os.utime(fresh, (now, now + ttl_s))
            fresh.rename(self._path(fingerprint))
        finally:
            fresh.unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove what has expired, if that has not been done for a while. Raises OSError."""
        marker, now = self._directory / _PRUNED, time.time()
        with suppress(FileNotFoundError):
            if 0 <= now - marker.stat().st_mtime < _PRUNED_EVERY_S:
                return
        marker.touch(mode=0o600)
        for path, expires_at in list(self._files()):
            is_abandoned = path.name.startswith(_FRESH) and now - expires_at > _ABANDONED_S
            if is_abandoned or (not path.name.startswith(".") and expires_at < now):
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, float]]:
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield Path(entry.path), entry.stat(follow_symlinks=False).st_mtime

    def _path(self, fingerprint: bytes) -> Path:
        return self._directory / fingerprint.hex()


def cache_directory() -> Path:
    """Return the directory: that of HANDOFF_CACHE, else the user's by the XDG Base Directory Specification. Raises HandoffError."""
    given = os.environ.get(VARIABLE, "")
    if given:
        return Path(given).expanduser().absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        try:
            home = Path.home() / ".cache"
        except RuntimeError as error:
            raise _unusable(Path("~/.cache"), "there is no home directory") from error
    return home / "handoff" / "results"


def _unusable(directory: Path, reason: str) -> HandoffError:
    return HandoffError(
        f"the cache of results in {directory}: {reason}; set {VARIABLE} to a directory of your own"
    )
