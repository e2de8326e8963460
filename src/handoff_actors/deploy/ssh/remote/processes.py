"""Processes that outlive the agent: how they are recognised later, and ended."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_LOOKS_EVERY_S = 0.05
#: After a second SIGTERM a node ends at once.
_AT_ONCE_S = 5.0
#: For the processes of a node that was killed, which clear away.
_CLEARING_S = 2.0


class Identity(NamedTuple):
    """A process, told apart from any later one of the same number, also after the machine was started anew."""

    pid: int
    #: In ticks since the machine was started.
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The process of this number; None if there is none, or it has ended."""
        facts = _stat(pid)
        return None if facts is None else cls(pid, facts.started, _boot())

    @classmethod
    def read(cls, fields: Any) -> "Identity | None":
        """Read what was once an identity, as JSON has it; None if it is none."""
        match fields:
            case [int(pid), int(started), str(boot)]:
                return cls(pid, started, boot)
        return None

    @property
    def lives(self) -> bool:
        """True while this very process runs."""
        return Identity.of(self.pid) == self


class _Stat(NamedTuple):
    session: int
    started: int


def end(node: Identity, drain_s: float) -> bool:
    """End a node, and all that it has started; return whether it had to be killed.

    The node leads a session of its own. It has so long for what runs on it, and is told a second time after that.
    """
    if drain_s > 0 and _told(node, drain_s):
        _clear_session(node.pid)
        return False
    # Twice, as the first one may be the first of all.
    was_killed = not (_told(node, _LOOKS_EVERY_S) or _told(node, _AT_ONCE_S))
    if was_killed:
        _signal(node.pid, signal.SIGKILL)
    _clear_session(node.pid)
    return was_killed


def _told(node: Identity, within_s: float) -> bool:
    if node.lives:
        _signal(node.pid, signal.SIGTERM)
    return _wait_until_ended(node, within_s)


def _wait_until_ended(node: Identity, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while node.lives:
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOKS_EVERY_S)
    return True


def _clear_session(leader: int) -> None:
    """Wait for the other processes of a session, and then kill them."""
    until = time.monotonic() + _CLEARING_S
    while (others := list(_in_session(leader))) and time.monotonic() < until:
        time.sleep(_LOOKS_EVERY_S)
    for pid in others:
        _signal(pid, signal.SIGKILL)


def _in_session(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            facts = _stat(int(entry.name))
            if facts is not None and facts.session == leader:
                yield int(entry.name)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in brackets may have brackets and spaces of its own. See proc(5).
    state, _, _, session, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else _Stat(int(session), int(rest[15]))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
