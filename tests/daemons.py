"""Nodes as processes of their own, for tests."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

ENDS_WITHIN_S = 15.0
LOOKS_EVERY_S = 0.02
#: -P: as for an installed command, the current directory is not what modules are first looked for in.
COMMAND = "handoff_actors.cli"
HANDOFF = (sys.executable, "-P", "-m", COMMAND)
PYTHON = sys.executable
ROOT = Path(__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without the variables that configure a cluster."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HANDOFF_")}
    return inherited | more


class Daemon:
    """`handoff node` with these options, serving once this is made.

    It listens at a free loopback port unless told otherwise. `prefix` is a command to start it with, for example
    `ip netns exec h1`, `python` the interpreter, and `module` what stands in for the command `handoff`.
    """

    def __init__(
        self,
        *options: str,
        variables: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        python: str = PYTHON,
        module: str = COMMAND,
    ) -> None:
        listen = () if "--listen" in options else ("--listen", "tcp://127.0.0.1:0")
        # -P, or else the current directory, hides the modules of tests.
        found = {} if module == COMMAND else {"PYTHONPATH": str(ROOT)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self.process = subprocess.Popen(
            [*prefix, python, "-P", "-m", module, "node", "--json", *listen, *options],
            env=environment(**(found | dict(variables or {}))),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        #: Every process that it has had, as far as `family` was asked for.
        self._family: set[psutil.Process] = set()
        facts = self._facts()
        self.name: str = facts["name"]
        self.address: str = facts["address"]
        self.bus: str = facts["bus"]
        #: The address of its metrics, if it serves them.
        self.metrics: str = facts.get("metrics", "")
        #: The address of its probe, if it serves any.
        self.health: str = facts.get("health", "")
        #: The directory of its values, which exists as long as the node lives.
        self.store = _store_of(self.process.pid, f"handoff-{facts['incarnation']}")

    def _facts(self) -> dict[str, Any]:
        """What it says once it serves. If it comes to another end, nothing is left of it."""
        ready = self.read_line()
        with suppress(json.JSONDecodeError):
            facts: dict[str, Any] = json.loads(ready)
            return facts
        assert self.process.stdout is not None
        # An error has several lines.
        said = ready + self.process.stdout.read() + self.log()
        self.close()
        raise AssertionError(f"the daemon ended before it served:\n{said}")

    def stored(self) -> list[Path]:
        """The node's values in memory, without spare files and the marker of the directory."""
        return [path for path in self.store.iterdir() if not path.name.startswith(("spare-", "."))]

    def log(self) -> str:
        """The node's output on stderr."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def read_line(self) -> str:
        """The next line of its stdout, which is what functions print."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def wait_for_log(self, text: str) -> None:
        """Returns once it has written this to stderr."""
        self.wait_until(lambda: text in self.log())

    def wait_for_workers(self, count: int) -> list[psutil.Process]:
        """Wait until the node has this many workers, and return them."""
        # The zygote is the first of the family.
        self.wait_until(lambda: len(self.family()) > count)
        return self.family()[1:]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns once a condition holds; fails if the daemon ends before."""
        while not condition():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LOOKS_EVERY_S)
                raise AssertionError(f"the daemon has ended:\n{self.log()}")

    def family(self) -> list[psutil.Process]:
        """The node's current zygote and workers, in the order of their start."""
        with suppress(psutil.NoSuchProcess):
            self._family.update(psutil.Process(self.process.pid).children(recursive=True))
        return sorted(filter(is_alive, self._family), key=psutil.Process.create_time)

    def terminate(self) -> int:
        """SIGTERM; waits for its end and gives its exit status."""
        return self.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; waits until nothing is left of it, nor of its workers."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal, wait for its end, and give its exit status."""
        self.family()
        self.process.send_signal(number)
        status = self.wait()
        for process in self._family:
            _wait_until_ended(process)
        return status

    def wait(self) -> int:
        """Wait for the end of the node, and return its exit status."""
        return self.process.wait(ENDS_WITHIN_S)

    def leftovers(self) -> list[str]:
        """List the store and the processes of the node that are still there after its end."""
        store = [str(self.store)] if self.store.exists() else []
        return store + [str(process) for process in self._family if is_alive(process)]

    def close(self) -> None:
        """Kill the node if it still runs."""
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


def _store_of(pid: int, name: str) -> Path:
    """In a file system that only a node's own descriptor leads to, or else in shared memory."""
    own = (descriptor / name for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return next((store for store in own if store.is_dir()), Path("/dev/shm") / name)


class Daemons:
    """Any number of daemons, to be closed together."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def start(
        self,
        *options: str,
        variables: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        python: str = PYTHON,
        module: str = COMMAND,
    ) -> Daemon:
        """One more daemon. Options, variables, prefix, interpreter and module are as for `Daemon`."""
        daemon = Daemon(*options, variables=variables, prefix=prefix, python=python, module=module)
        self._closing.callback(daemon.close)
        return daemon

    def cluster(self, size: int, *options: str) -> list[Daemon]:
        """Daemons n1, n2, ..., all joined by the address of n1, which knows them all."""
        first = self.start("--name", "n1", *options)
        others = [
            self.start("--name", f"n{number}", "--join", first.address, *options)
            for number in range(2, size + 1)
        ]
        return [first, *others]

    def close(self) -> None:
        """End them all."""
        self._closing.close()


def is_alive(process: psutil.Process) -> bool:
    """True if a process has not ended, and is not a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait_until_ended(process: psutil.Process) -> None:
    if not is_alive(process):
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            select.select([descriptor], [], [], ENDS_WITHIN_S)
        finally:
            os.close(descriptor)
