"""Protect a node from the end of the login session that has started it, where logind ends what a session has left."""

import getpass
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from handoff_actors.deploy.ssh.remote.channel import AgentRefused

_MANAGER = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_BUSCTL = "busctl"
_ANSWER_S = 5.0
_LINGERING = "`loginctl enable-linger` there keeps what it has"


class LoginSession(NamedTuple):
    """The facts about the session that the agent runs in."""

    #: False: no manager of sessions has anything to do with it.
    is_managed: bool
    #: True: all its processes end with it.
    kills: bool
    #: True: the shared memory of its user is removed with the user's last session.
    removes_memory: bool
    #: True: its user counts as logged in always.
    lingers: bool


def session_here() -> LoginSession:
    """Look at the session of this process."""
    # logind spares root, see logind.conf(5).
    if os.geteuid() == 0 or not _in_session() or shutil.which(_BUSCTL) is None:
        return LoginSession(is_managed=False, kills=False, removes_memory=False, lingers=False)
    lingers = Path("/var/lib/systemd/linger", getpass.getuser()).exists()
    return LoginSession(
        is_managed=True,
        kills=_is_set("KillUserProcesses"),
        removes_memory=_is_set("RemoveIPC"),
        lingers=lingers,
    )


def protection(session: LoginSession) -> tuple[list[str], str]:
    """Return the words to start a node with, and what its user should know. Raises AgentRefused if it would not live."""
    if not session.is_managed:
        return [], ""
    if session.lingers:
        # A scope of the user's manager is not the session's.
        words = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]
        return (words if session.kills else []), ""
    if session.kills:
        raise AgentRefused(
            f"logind ends the processes of a session with it there (KillUserProcesses=yes): {_LINGERING}"
        )
    if session.removes_memory:
        return [], (
            "logind removes its values from memory there when its user has logged out everywhere (RemoveIPC=yes): "
            f"{_LINGERING}"
        )
    return [], ""


def _in_session() -> bool:
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "/session-" in groups


def _is_set(name: str) -> bool:
    try:
        asked = subprocess.run(  # noqa: S603 - the words are ours
            [_BUSCTL, "get-property", *_MANAGER, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.split() == ["b", "true"]
