"""The place for values that leave memory: a directory on a disk.

Many systems and containers have /tmp in memory, where a spilled value would take as much of it as before, and count
against a container's limit. /var/tmp is on a disk nearly everywhere.
"""

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

NO_DISK: Final = (
    "values can't be spilled to disk: no directory for temporary files can be written to, or all are in memory; "
    "set TMPDIR, or give the node one with --spill-dir"
)
_LARGE: Final = Path("/var/tmp")  # noqa: S108 - private directories within
_MOUNTS: Final = Path("/proc/self/mountinfo")
_IN_MEMORY: Final = frozenset({"ramfs", "tmpfs"})


def spill_place(given: Path | None) -> Path | None:
    """Return the directory given, or else one for temporary files, which is on a disk unless TMPDIR says otherwise. None: there is none."""
    if given is not None:
        return given
    usual = _usual()
    if usual is not None and usual == _chosen():
        return usual
    for place in filter(None, (usual, _LARGE)):
        if os.access(place, os.W_OK | os.X_OK) and not is_in_memory(place):
            return place
    # An app that hasn't set up logging prints it, too: it has no other sign of it until a function fails.
    log.warning("%s", NO_DISK)
    return None


def _usual() -> Path | None:
    with suppress(FileNotFoundError):
        return Path(tempfile.gettempdir())
    return None


def _chosen() -> Path | None:
    """The directory that the user has chosen for temporary files."""
    named = next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), None)
    return None if named is None else Path(named).absolute()


def is_in_memory(directory: Path) -> bool:
    """True if the files of a directory certainly are in memory. Raises OSError."""
    device = directory.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            # See proc(5): the third field is the device; the type of the file system follows the only dash.
            facts, _, source = line.partition(" - ")
            if facts.split(" ")[2] == number:
                return source.split(" ")[0] in _IN_MEMORY
    return False
