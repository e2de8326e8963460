"""The user's own key, shared by the daemons, apps and commands of one user where no cluster key is given.

The first of these processes makes it, in the user's state directory, where the others find it. Other users of the
machine, containers and browsers can't read it, and so are not members.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from handoff_actors.errors import InvalidKeyError
from handoff_actors.transport.kept_key import key_in, opened_private
from handoff_actors.transport.keys import KEY_VARIABLE, ClusterKey

_NAME: Final = "user.key"


def user_key() -> ClusterKey:
    """Return the user's key, and make it where there is none. Any number of processes may do so at once.

    Raises InvalidKeyError, which names HANDOFF_KEY, if the user has no place for the key, or others could have put one
    there.
    """
    directory = state_home() / "handoff"
    with opened_private(directory, lambda reason: _no_place(directory, reason)) as opened:
        return key_in(opened, directory / _NAME, "this user's own key")


def state_home() -> Path:
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


def _no_place(where: Path | None, reason: str) -> InvalidKeyError:
    place = "" if where is None else f" in {where}"
    return InvalidKeyError(
        f"this user's own key can't be kept{place}: {reason}. "
        f"Set {KEY_VARIABLE} to one that `handoff keygen` makes, in every process of the cluster"
    )
