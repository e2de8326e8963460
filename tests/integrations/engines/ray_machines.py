"""Nodes of Ray on this machine: what `ray start` starts, each in a session of processes of its own."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

SETTINGS = {
    # The tests are no place for a token in the home directory, nor for reports of usage.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Other tests may need much memory.
    "RAY_memory_monitor_refresh_ms": "0",
    # Processes that nobody asks for.
    "RAY_prestart_worker_first_driver": "0",
}

_STORES = "HANDOFF_STORE_DIR"
_STOPS_WITHIN_S = 5.0
_NODE = "actors.node.child import main"


class RayMachine:
    """One node of Ray. Without an address it is the head of a cluster, with its files in the directory.

    Nodes of sessions keep their values below the directory, too.
    """

    def __init__(self, directory: Path, address: str = "", **options: Any) -> None:
        self.directory = directory
        self.stores = directory / "stores"
        self.stores.mkdir(exist_ok=True)
        self.address = address or f"127.0.0.1:{_free_port()}"
        where = ["--address", address] if address else ["--head", "--port", self.address.rpartition(":")[2]]
        # Paths of sockets are short.
        place = [] if address else ["--temp-dir", str(directory), "--include-dashboard=false"]
        named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *where, *place, *named],
            env=os.environ | SETTINGS | {_STORES: str(self.stores)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_until_started(self) -> Self:
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "Ray runtime started" in line:
                return self
        self.close()
        raise AssertionError("".join(lines))

    def nodes(self) -> list[psutil.Process]:
        """The nodes of sessions that there are on this cluster."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                if _NODE in " ".join(process.cmdline()) and process.environ().get(_STORES) == str(
                    self.stores
                ):
                    found.append(process)
        return found

    def close(self) -> None:
        """End it as `ray stop` does, and kill what is left."""
        with self._process:
            raylets = [process for process in self._processes() if process.name() == "raylet"]
            for raylet in raylets:
                # It tells the head, which otherwise counts on it for a quarter of a minute.
                raylet.terminate()
            psutil.wait_procs(raylets, _STOPS_WITHIN_S)
            while processes := self._processes():
                for process in processes:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGKILL)
                psutil.wait_procs(processes, 1)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == self._process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
