"""The check that two members can work together."""

from handoff_actors.errors import VersionMismatch
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.wire.messages.base import PROTOCOL

VERSION = "0.1.0"


def check_versions(whose: str, protocol: int, version: str, python: str) -> None:
    """Raise VersionMismatch, naming both sides, if a member of these versions and this one can't work together.

    Members with different versions of Python can: each gets only functions that it can run.
    """
    if protocol != PROTOCOL:
        raise VersionMismatch(
            f"{whose} runs handoff_actors {version} (protocol {protocol}) on Python {python}; "
            f"this side runs {VERSION} (protocol {PROTOCOL}) on Python {PYTHON}. "
            "All members of a cluster need the same protocol"
        )
