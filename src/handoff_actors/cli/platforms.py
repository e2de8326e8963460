"""The commands that this operating system has the parts for."""

from typing import Final

from handoff_actors.errors import UnsupportedPlatform
from handoff_actors.platforms import check_sessions_run_here

#: Commands that need neither a node nor a session.
_ANYWHERE: Final = frozenset({"render", "keygen", "manifest"})


def runs_here(command: str) -> bool:
    """False for a command that needs a session, where there can be none."""
    return command in _ANYWHERE or refusal() is None


def refusal() -> UnsupportedPlatform | None:
    """Return the error of all other commands; None if there is none."""
    try:
        check_sessions_run_here()
    except UnsupportedPlatform as error:
        return error
    return None
