"""The parts of the library that each operating system has: nodes need Linux, and sessions run on macOS and others, too.

On Windows graphs can be built and drawn. All public names are there on each system, for programs that only mention them.
"""

import sys
from typing import Final, NoReturn

from handoff_actors.errors import UnsupportedPlatform

_NAMES: Final = {"darwin": "macOS", "win32": "Windows"}
_WINDOWS: Final = "win32"


def check_nodes_run_here() -> None:
    """Raise UnsupportedPlatform unless this is Linux."""
    if _platform() != "linux":
        raise UnsupportedPlatform(
            _name(),
            "nodes and workers need Linux; an app here can use a cluster of Linux machines,"
            " with Session(seeds=[...]), connect([...]) or HANDOFF_SEEDS",
        )


def check_sessions_run_here() -> None:
    """Raise UnsupportedPlatform on Windows."""
    if _platform() == _WINDOWS:
        raise UnsupportedPlatform(
            _name(),
            "nodes and workers need Linux, and apps that use them Linux or macOS; graphs can be built, checked and drawn here."
            " In the Windows Subsystem for Linux (WSL) everything runs",
        )


def stand_in(name: str) -> type:
    """Make a class for a public name whose module can't be imported here: to call it raises UnsupportedPlatform."""

    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        check_sessions_run_here()
        raise AssertionError(name)

    return type(
        name, (), {"__new__": refuse, "__doc__": f"`{name}` of another operating system; calling it raises."}
    )


def _platform() -> str:
    # mypy would take code for other systems than its own for unreachable.
    return sys.platform


def _name() -> str:
    return _NAMES.get(_platform(), _platform())
