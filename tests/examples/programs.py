"""Examples as processes of their own."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.daemons import environment, is_alive

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOKS_EVERY_S = 0.05
ENDS_WITHIN_S = 40.0


class Program:
    """An example that runs, and all that it has started."""

    def __init__(self, *arguments: str, directory: Path, **variables: str) -> None:
        """Start Python with these arguments."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=directory,
            env=environment(PYTHONUNBUFFERED="1", **variables),
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._family: set[psutil.Process] = set()
        #: Directories in which its nodes keep values.
        self._stores: set[Path] = set()

    def output(self) -> str:
        """The program's output, printed and logged."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns once a condition holds; fails if it ends before."""
        while not condition():
            assert not self._has_ended(), self.output()

    def wait(self) -> str:
        """Wait for the end of the program, and return its output. Fails unless it succeeded and left nothing."""
        while not self._has_ended():
            pass
        assert self.process.returncode == 0, self.output()
        assert self.leftovers() == []
        return self.output()

    def terminate(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self._look()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDS_WITHIN_S)

    def leftovers(self) -> list[str]:
        """List the processes and stores of the program that are still there after its end."""
        psutil.wait_procs(self._family, ENDS_WITHIN_S)
        return [str(process) for process in self._family if is_alive(process)] + [
            str(path) for path in self._stores if path.exists()
        ]

    def owns_stores(self) -> bool:
        """True if a node of the program's own has been seen."""
        return bool(self._stores)

    def close(self) -> None:
        """End the program if it still runs."""
        if self.process.poll() is None:
            try:
                self.terminate()
            finally:
                self.process.kill()
            psutil.wait_procs(self._family, ENDS_WITHIN_S)
        self._output.close()

    def _has_ended(self) -> bool:
        self._look()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LOOKS_EVERY_S)
        return self.process.returncode is not None

    def _look(self) -> None:
        # Processes that the program has started, and their files, may end at any time.
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            self._family.update(own.children(recursive=True))
            self._stores.update(path for process in (own, *self._family) for path in stores_of(process))


def stores_of(process: psutil.Process) -> list[Path]:
    """The directories for values that are a process's own."""
    found: list[Path] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                path = link.readlink()
                # A node that starts opens those of all others, for a moment, to see whether their owners are dead.
                if path.name.startswith("handoff-") and is_owned_through(process, link.name):
                    # Files in a file system of the node's own have no path for other processes.
                    found.append(path if path.is_dir() else link)
    return [path for path in found if path.is_dir()]


def is_owned_through(process: psutil.Process, descriptor: str) -> bool:
    """True if a process has an open directory locked, as its owner does."""
    return "lock:" in Path(f"/proc/{process.pid}/fdinfo/{descriptor}").read_text()


@contextmanager
def running(name: str, *arguments: str, directory: Path, **variables: str) -> Iterator[Program]:
    """An example that runs, and ends with the block."""
    with running_python(str(EXAMPLES / name), *arguments, directory=directory, **variables) as program:
        yield program


@contextmanager
def running_python(*arguments: str, directory: Path, **variables: str) -> Iterator[Program]:
    """An example that some launcher runs: Python, with these arguments."""
    program = Program(*arguments, directory=directory, **variables)
    try:
        yield program
    finally:
        program.close()
