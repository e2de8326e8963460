"""The lines by which a daemon says that it serves, for scripts that wait for them.

The daemon goes on serving if the lines can't be written: a pipe that nobody reads, or a full disk, is no reason to leave
a cluster, nor to keep it waiting.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from handoff_actors.errors import reason_of

log = logging.getLogger(__name__)

_STDOUT: Final = 1
#: Seconds for which the end of the daemon waits for its lines.
_LINGER_S: Final = 0.5


def announce(line: str) -> Callable[[], None]:
    """Write a line to stdout in a thread; return a function that waits a moment until it is written."""
    writing = threading.Thread(target=_write, args=[line], name="handoff announcement", daemon=True)
    writing.start()
    return lambda: writing.join(_LINGER_S)


def _write(line: str) -> None:
    try:
        # Not sys.stdout, whose lock a thread that waits for a reader would hold until the process has ended.
        with open(_STDOUT, "wb", buffering=0, closefd=False) as stdout:
            rest = memoryview(f"{line}\n".encode(errors="backslashreplace"))
            while rest:
                rest = rest[stdout.write(rest) :]
    except OSError as error:
        log.warning("stdout can't be written to", extra={"reason": reason_of(error)})
