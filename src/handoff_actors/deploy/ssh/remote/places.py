"""The files of `handoff up` on a machine: where they are, and which of them may be removed.

A home directory may be shared by many machines, so each has a directory of its own, named after it.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from handoff_actors.deploy.ssh.remote.channel import AgentRefused, CommandLink

LOG = "node.log"
_RECORD = "node.json"
_LOCK = "lock"
#: The file with the directories that were made for those beside it, the innermost first.
_MADE = ".made"
#: The file in an installation that says that it is one, and whether it is whole.
MARKER = ".handoff-install"
_LOOKS_EVERY_S = 0.1


def state_place() -> Path:
    """The directory of this machine's record and log."""
    return _home_of("XDG_STATE_HOME", ".local/state") / "handoff" / "up" / _machine()


def install_place() -> Path:
    """The directory of this machine's installation."""
    return _home_of("XDG_CACHE_HOME", ".cache") / "handoff" / "up" / _machine()


def make(place: Path) -> None:
    """Make a machine's directory, and those above it that are missing, which are written down there. Raises OSError."""
    missing = []
    above = place.parent
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    with ExitStack() as undoing:
        for directory in reversed(missing):
            directory.mkdir(mode=0o700, exist_ok=True)
            undoing.callback(_remove_directory, directory)
        if missing:
            note = place.parent / _MADE
            undoing.callback(note.unlink, missing_ok=True)
            note.write_text(json.dumps([str(directory) for directory in missing]), encoding="utf-8")
        place.mkdir(mode=0o700, exist_ok=True)
        undoing.pop_all()


def _remove_directory(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def remove(place: Path) -> None:
    """Remove a machine's directory, if it is empty, and with the last one those above that were made for them."""
    note = place.parent / _MADE
    with suppress(OSError, ValueError):
        place.rmdir()
        if [*place.parent.iterdir()] == [note]:
            made = json.loads(note.read_text(encoding="utf-8"))
            note.unlink()
            for directory in made:
                Path(directory).rmdir()


class State:
    """The record of the node that `up` has started on this machine. It may be changed while it is locked."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.log = place / LOG

    def read(self) -> Mapping[str, Any]:
        """Return the record; empty if there is none, or a part of one only."""
        with suppress(OSError, ValueError):
            found = json.loads((self.place / _RECORD).read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        return {}

    def write(self, record: Mapping[str, object]) -> None:
        """Replace the record. Raises OSError."""
        new = self.place / f"{_RECORD}.new"
        new.write_text(json.dumps(record), encoding="utf-8")
        new.replace(self.place / _RECORD)

    def clear(self) -> None:
        """Remove the record and the log."""
        for name in (_RECORD, f"{_RECORD}.new", LOG):
            with suppress(OSError):
                (self.place / name).unlink()

    @contextmanager
    def locked(self, link: CommandLink, within_s: float) -> Iterator[None]:
        """Keep other agents away. Raises AgentRefused, OSError."""
        until = time.monotonic() + within_s
        with ExitStack() as leaving:
            leaving.callback(remove, self.place)
            while (descriptor := self._lock()) is None:
                if time.monotonic() >= until:
                    raise AgentRefused(
                        "another `handoff up` or `down` is at work there; wait for its end, and try again"
                    )
                link.pause(_LOOKS_EVERY_S)
            leaving.callback(os.close, descriptor)
            leaving.callback(self._remove_unused_lock)
            yield

    def _remove_unused_lock(self) -> None:
        if not (self.place / _RECORD).exists():
            with suppress(OSError):
                (self.place / _LOCK).unlink()

    def _lock(self) -> int | None:
        """Return the open lock; None if another agent has it, or is removing it."""
        make(self.place)
        path = self.place / _LOCK
        with ExitStack() as closing, suppress(BlockingIOError, FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            closing.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed it meanwhile.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                closing.pop_all()
                return descriptor
        return None


def mark(directory: Path, *, whole: bool) -> None:
    """Say that a directory is an installation of `up`'s. Raises OSError."""
    (directory / MARKER).write_text(json.dumps({"made_by": "handoff up", "whole": whole}), encoding="ascii")


def is_whole(directory: Path) -> bool:
    """True for an installation that was made to its end."""
    return _marker(directory).get("whole") is True


def remove_installation(directory: Path) -> bool:
    """Remove an installation, if it is certainly one that `up` made; return whether it is gone."""
    try:
        facts = directory.lstat()
    except FileNotFoundError:
        return True
    ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
    if not (ours and _marker(directory).get("made_by") == "handoff up"):
        return False
    # The marker last: if this is cut short, the rest can still be recognised.
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MARKER:
            with suppress(OSError):
                path.unlink()
    if any(path.name != MARKER for path in directory.iterdir()):
        return False
    (directory / MARKER).unlink()
    directory.rmdir()
    return True


def _marker(directory: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads((directory / MARKER).read_text(encoding="ascii"))
        if isinstance(found, dict):
            return found
    return {}


def _home_of(variable: str, usual: str) -> Path:
    given = Path(os.environ.get(variable, ""))
    if given.is_absolute():
        return given
    home = Path("~").expanduser()
    if not home.is_dir():
        raise AgentRefused(f"the user has no home directory there: {home} is missing")
    return home / usual


def _machine() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname()) or "_"
