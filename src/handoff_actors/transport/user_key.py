"""The user's own key, shared by the daemons, apps and commands of one user where no cluster key is given.

The first of these processes makes it, in the user's state directory, where the others find it. Other users of the
machine, containers and browsers can't read it, and so are not members.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from handoff_actors.errors import InvalidKeyError, reason_of
from handoff_actors.process.ownership import is_trusted
from handoff_actors.transport.keys import KEY_VARIABLE, ClusterKey

_NAME: Final = "user.key"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def user_key() -> ClusterKey:
    """Return the user's key, and make it where there is none. Any number of processes may do so at once.

    Raises InvalidKeyError, which names HANDOFF_KEY, if the user has no place for the key, or others could have put one
    there.
    """
    directory = _state_home() / "handoff"
    with _opened(directory) as opened:
        try:
            return _read(opened, directory)
        except FileNotFoundError:
            _make(opened)
            return _read(opened, directory)


def _state_home() -> Path:
    """The directory for programs' state of this user, see the XDG Base Directory Specification."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        return given
    # Without HOME, that of the system's list of users.
    home = Path("~").expanduser() if "HOME" in os.environ or _is_known() else Path()
    if not (home.is_absolute() and home.is_dir()):
        raise _no_place(None if home == Path() else home, "there is no home directory")
    return home / ".local" / "state"


def _is_known() -> bool:
    # Most processes have a HOME.
    import pwd  # noqa: PLC0415

    with suppress(KeyError):
        return bool(pwd.getpwuid(os.getuid()).pw_dir)
    return False


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Open the directory that only this user can change, and make it if it is missing. Raises InvalidKeyError."""
    try:
        if not directory.exists():
            _check_owner(directory)
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory, _DIRECTORY)
    except OSError as error:
        raise _no_place(directory, reason_of(error)) from error
    try:
        facts = os.fstat(descriptor)
        if facts.st_uid != os.geteuid():
            raise _no_place(directory, f"it belongs to user {facts.st_uid}")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _no_place(directory, f"others may write to it: chmod 700 {directory}")
        try:
            yield descriptor
        except OSError as error:
            raise _no_place(directory, reason_of(error)) from error
    finally:
        os.close(descriptor)


def _check_owner(directory: Path) -> None:
    """Raise InvalidKeyError if the directory would be made in another user's, such as that of the user who called sudo."""
    above = next(parent for parent in directory.parents if parent.exists())
    owner = above.stat().st_uid
    if not is_trusted(owner):
        raise _no_place(directory, f"{above} belongs to user {owner}")


def _read(directory: int, named: Path) -> ClusterKey:
    path = named / _NAME
    descriptor = os.open(_NAME, _FILE, dir_fd=directory)
    try:
        return ClusterKey.from_descriptor(descriptor, f"this user's own key ({path})", str(path))
    finally:
        os.close(descriptor)


def _make(directory: int) -> None:
    """Make a key in the directory, unless another process is first; the file appears complete."""
    own = f"{_NAME}.{secrets.token_hex(8)}"
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, f"{ClusterKey.generate().text()}\n".encode("ascii"))
        os.fsync(descriptor)
        # A rename would take the place of one that others have read already.
        with suppress(FileExistsError):
            os.link(own, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(descriptor)
        os.unlink(own, dir_fd=directory)


def _no_place(where: Path | None, reason: str) -> InvalidKeyError:
    place = "" if where is None else f" in {where}"
    return InvalidKeyError(
        f"this user's own key can't be kept{place}: {reason}. "
        f"Set {KEY_VARIABLE} to one that `handoff keygen` makes, in every process of the cluster"
    )
