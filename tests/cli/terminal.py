"""A real terminal: tmux draws what a program writes, and types what a person would."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

LOOKS_EVERY_S = 0.05
SHOWS_WITHIN_S = 30.0


class Terminal:
    """One window of a tmux server of its own."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ("tmux", "-S", str(socket), "-f", "/dev/null")

    def start(
        self, command: list[str], environment: Mapping[str, str], *, columns: int = 120, lines: int = 30
    ) -> None:
        """Run a command; what its exit status is, and how the terminal is left, is shown when it ends."""
        script = f"trap : INT; {shlex.join(command)}; echo exit status $?; stty -a; cat"
        size = ("-x", str(columns), "-y", str(lines))
        # These would count for more than the size that it has; pytest-xdist sets them.
        variables = {name: value for name, value in environment.items() if name not in {"COLUMNS", "LINES"}}
        self._do("new-session", "-d", *size, "sh", "-c", script, env=variables)

    def type(self, *keys: str) -> None:
        """Press keys, under their names in tmux."""
        self._do("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Have another size."""
        self._do("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self) -> str:
        """The text on the screen now."""
        return self._do("capture-pane", "-p")

    def wait_for(self, *texts: str) -> str:
        """Wait until the screen shows all these texts, and return it."""
        ends_at = time.monotonic() + SHOWS_WITHIN_S
        while not all(text in (shown := self.screen()) for text in texts):
            assert time.monotonic() < ends_at, f"{texts} never came together; this is shown:\n{shown}"
            time.sleep(LOOKS_EVERY_S)
        return shown

    def close(self) -> None:
        """End it and what runs in it."""
        self._do("kill-server")

    def _do(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        return subprocess.run(
            [*self._tmux, *arguments], env=env, check=True, capture_output=True, text=True
        ).stdout


@contextmanager
def opened_terminal(directory: Path) -> Iterator[Terminal]:
    """A terminal, or a skipped test where there is no tmux."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux draws the terminal for this test, and is not installed")
    terminal = Terminal(directory / "tmux")
    yield terminal
    terminal.close()
