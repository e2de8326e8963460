"""Containers made of namespaces, as a container runtime makes them, for machines that have none.

A container has a root file system, processes, a host name and a network of its own. In its root are this machine's `/usr` and
the Python of the tests, and nothing else: no home, and in `/etc/passwd` no user but root.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.daemons import ROOT
from tests.hosts.network import Host, HostNetwork

TOOLS = ("ip", "unshare", "nsenter", "setpriv", "pivot_root")
#: What stands in for the image's /usr/local: the environment of the tests, and the code that is tested.
SOFTWARE = tuple(dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT / "src"))))
PATH = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
#: As Docker gives.
SHARED_MEMORY = "64m"
LOOKS_EVERY_S = 0.02
ENDS_WITHIN_S = 20.0


@dataclass(frozen=True)
class Mount:
    """A file system in a container: a directory of the host, or one in memory if it has no source."""

    target: str
    source: Path | None = None
    size: str = ""
    mode: str = "1777"
    group: int = 0
    is_read_only: bool = False


@dataclass(frozen=True)
class Specification:
    """What a runtime is told of a container."""

    command: Sequence[str]
    variables: Mapping[str, str]
    user: int
    group: int
    hostname: str
    #: Names of others, with their addresses.
    names: Sequence[tuple[str, str]] = ()
    groups: Sequence[int] = ()
    mounts: Sequence[Mount] = ()
    is_read_only: bool = True
    drops_capabilities: bool = True
    #: Words before the command that has it limited, see tests.control_groups.
    limits: Sequence[str] = field(default_factory=tuple)


class Container:
    """A running container, which `with` ends. Its main process has the id 1 in it, and is alone with its children."""

    def __init__(self, specification: Specification, host: Host, directory: Path) -> None:
        self.specification = specification
        self.host = host
        self._log = (directory / f"{specification.hostname}.log").open("w+")
        self._root = directory / f"{specification.hostname}.root"
        self._root.mkdir()
        # Not `ip netns exec`, which hides control groups.
        network = f"--net=/run/netns/{host.namespace}"
        spaces = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
        script = "\n".join(self._script())
        self.process = subprocess.Popen(
            [*specification.limits, "nsenter", network, *spaces, "/bin/sh", "-euc", script],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"log of {self.specification.hostname}:\n{self.log()}")
        # Its child dies with it, and all in the container with that.
        self.process.kill()
        self.process.wait(ENDS_WITHIN_S)
        self._log.close()

    def run(self, *command: str, timeout_s: float = ENDS_WITHIN_S) -> subprocess.CompletedProcess[str]:
        """Run another command in the container, as `docker exec` does."""
        there = ("nsenter", f"--target={self.pid()}", "--mount", "--pid", "--net", "--ipc", "--uts", "--wd=/")
        return subprocess.run(
            [*there, *self._as_user(), *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def wait_until_it_answers(self, *probe: str, within_s: float = ENDS_WITHIN_S) -> None:
        """Repeat a command until it succeeds."""
        deadline = time.monotonic() + within_s
        while (tried := self._try(probe)).returncode != 0:
            assert self.process.poll() is None, f"the container has ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"{tried.stderr}\n{self.log()}"
            time.sleep(LOOKS_EVERY_S)

    def stop(self, within_s: float) -> int:
        """Send SIGTERM to its main process, and return the exit status. Fails where a runtime would kill it."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.process.wait(within_s)

    def log(self) -> str:
        """What it has written to stdout and stderr."""
        self._log.seek(0)
        return self._log.read()

    def pid(self) -> int:
        """The id of its main process on this machine."""
        started = self._child()
        assert started is not None, f"the container has ended:\n{self.log()}"
        return started

    def command_line(self) -> list[str]:
        """The words of its main process."""
        return Path(f"/proc/{self.pid()}/cmdline").read_bytes().decode().rstrip("\0").split("\0")

    def _try(self, probe: Sequence[str]) -> subprocess.CompletedProcess[str]:
        if self._child() is None or self.command_line()[:2] == ["/bin/sh", "-euc"]:
            return subprocess.CompletedProcess(probe, 1, "", "the container is still being made")
        return self.run(*probe)

    def _child(self) -> int | None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _script(self) -> Iterator[str]:
        """Build the root file system, go there, and become the main process."""
        specification = self.specification
        yield "mount --make-rprivate /"
        yield f"mount -t tmpfs -o mode=755 tmpfs {quoted(self._root)}; cd {quoted(self._root)}"
        yield "mkdir -p usr etc dev proc sys run .old; mkdir -m 1777 tmp; mkdir -m 700 home"
        yield "for link in bin sbin lib lib32 lib64; do [ ! -L /$link ] || cp -P /$link $link; done"
        yield bound("/usr", "/usr", "ro")
        yield "mount -t proc proc proc; mount --rbind /sys sys; mount -o remount,bind,ro sys"
        for device in DEVICES:
            yield f"touch dev/{device}; mount --bind /dev/{device} dev/{device}"
        hosts = [
            ("localhost", "127.0.0.1"),
            (specification.hostname, self.host.address),
            *specification.names,
        ]
        files = {"hosts": "".join(f"{address} {name}\n" for name, address in hosts)}
        files |= {"passwd": "root:x:0:0::/:/bin/sh\n", "group": "root:x:0:\n"}
        for name, text in files.items():
            yield f"printf %s {quoted(text)} > etc/{name}"
        shared = Mount("/dev/shm", size=SHARED_MEMORY)
        is_given = any(mount.target == shared.target for mount in specification.mounts)
        for mount in (*(() if is_given else (shared,)), *specification.mounts):
            yield mounted(mount)
        # Above the others: a clone may be in /tmp.
        for place in SOFTWARE:
            yield bound(place, place, "ro")
        yield f"hostname {quoted(specification.hostname)}"
        yield "pivot_root . .old; umount -l /.old; rmdir /.old; cd /"
        if specification.is_read_only:
            yield "mount -o remount,bind,ro /"
        yield f"exec {shlex.join((*self._as_user(), *specification.command))}"

    def _as_user(self) -> list[str]:
        specification = self.specification
        variables = {"PATH": PATH, "PYTHONPATH": str(ROOT / "src")} | dict(specification.variables)
        groups = ",".join(map(str, specification.groups))
        privileges = ["--bounding-set=-all", "--inh-caps=-all"] if specification.drops_capabilities else []
        return [
            "env", "-i", *(f"{name}={text}" for name, text in variables.items()),
            "setpriv", f"--reuid={specification.user}", f"--regid={specification.group}",
            f"--groups={groups}" if groups else "--clear-groups", *privileges, "--no-new-privs",
        ]  # fmt: skip


def quoted(text: str | Path) -> str:
    """A word of a shell script."""
    return shlex.quote(str(text))


def bound(source: str | Path, target: str, options: str) -> str:
    """Show a directory or a file of the host at a place in the root."""
    there = quoted(target.lstrip("/"))
    return (
        f"if [ -d {quoted(source)} ]; then mkdir -p {there}; else mkdir -p $(dirname {there}); touch {there}; fi; "
        f"mount --rbind {quoted(source)} {there}; mount -o remount,bind,{options} {there}"
    )


def mounted(mount: Mount) -> str:
    """Mount what a specification lists."""
    if mount.source is not None:
        return bound(mount.source, mount.target, "ro" if mount.is_read_only else "rw")
    there = quoted(mount.target.lstrip("/"))
    size = f",size={mount.size}" if mount.size else ""
    return f"mkdir -p {there}; mount -t tmpfs -o mode={mount.mode},gid={mount.group}{size} tmpfs {there}"


@contextmanager
def hosts_for_containers(size: int, net: str) -> Iterator[list[Host]]:
    """Hosts with a network of their own. Skips the test where no container can be made."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"containers need root, and {', '.join(missing or TOOLS)}")
    with HostNetwork(size, net) as network:
        yield network.hosts
