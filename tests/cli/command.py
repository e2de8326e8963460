"""Runs `handoff` as people do: in a process, with stdout and stderr piped or on a terminal."""

import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.daemons import HANDOFF, environment

ENDS_WITHIN_S = 30.0


def handoff(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, once it has ended."""
    return subprocess.run(
        [*HANDOFF, *arguments],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


class Started(subprocess.Popen[str]):
    """Ends with the test, also with one that fails."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, where)


def handoff_started(*arguments: str, cwd: Path | None = None) -> Started:
    """The command, while it runs."""
    return Started(
        [*HANDOFF, *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def handoff_on_terminal(*arguments: str, cwd: Path | None = None) -> str:
    """Run a command on a terminal of 160 columns and return its output."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*HANDOFF, *arguments],
        cwd=cwd,
        env=environment(COLUMNS="160", TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    # A terminal reports the end of its last writer as an I/O error.
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            written += piece
    os.close(ours)
    assert command.wait(ENDS_WITHIN_S) == 0, written
    return written.decode()
