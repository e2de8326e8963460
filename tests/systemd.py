"""A real systemd, as the first process of a machine that it has to itself, for tests."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil

from tests.daemons import ROOT, environment
from tests.hosts.network import Host

SYSTEMD = Path("/lib/systemd/systemd")
#: Units of the test's own, which hold no more than it takes.
UNITS = "/run/units"
#: The targets that units refer to, without what a distribution starts with them.
TARGETS = ("basic", "default", "multi-user", "network-online", "shutdown", "sysinit")
STARTS_WITHIN_S = 15.0
_numbers = count(1)


def why_not() -> str:
    """Why no systemd can be started here; "" if it can."""
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    if not SYSTEMD.exists() or shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "needs systemd, iproute2 and util-linux"
    if _group_root() is None:
        return "needs control groups of version 2 that can be written to"
    return ""


class Machine:
    """A host with systemd as its first process, which has its own `/etc`, `/opt`, `/run` and `/dev/shm`.

    Python, its packages and the sources are where they are outside, and every user may read them.
    """

    def __init__(self, host: Host, name: str, names: str) -> None:
        """`names` is what is added to `/etc/hosts`."""
        self._host = host
        root = _group_root()
        assert root is not None, "it was asked for before"
        self._group = root / f"handoff-test-{os.getpid()}-{next(_numbers)}"
        self._group.mkdir()
        script = "\n".join(["set -e", *_own_directories(), *_readable(), *_settings(name, names)])
        self._process = psutil.Popen(
            [
                *("sh", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "sh", *host.prefix),
                *("unshare", "--cgroup", "--pid", "--fork", "--mount", "--uts", "--ipc", "--kill-child"),
                *("--mount-proc", "sh", "-c", script),
            ],
            env=environment(container="test", SYSTEMD_UNIT_PATH=f"/etc/systemd/system:{UNITS}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def run(self, line: str) -> str:
        """Run a command as root; return what it prints."""
        done = self._try(line)
        assert done.returncode == 0, (
            f"{line}\n{done.stdout}{done.stderr}\n{self._try('systemctl status').stdout}"
        )
        return done.stdout

    def processes(self) -> set[str]:
        """The names of all processes of the machine, without the one that asks."""
        return {each.name() for each in self._process.children(recursive=True) if each.is_running()}

    def close(self) -> None:
        """End it, with all its processes."""
        self._process.kill()
        self._process.communicate()
        for group in sorted([self._group, *self._group.rglob("*/")], reverse=True):
            _remove(group)

    def _wait(self) -> None:
        ends_at = time.monotonic() + STARTS_WITHIN_S
        while self._try("systemctl is-system-running").stdout.strip() not in {"running", "degraded"}:
            assert self._process.poll() is None, self._process.stdout.read()
            assert time.monotonic() < ends_at, "systemd did not start"

    def _try(self, line: str) -> subprocess.CompletedProcess[str]:
        first = next(iter(self._process.children()), self._process)
        entering = (
            "nsenter",
            "--target",
            str(first.pid),
            "--mount",
            "--pid",
            "--cgroup",
            "--uts",
            "--ipc",
            "--net",
        )
        return subprocess.run(
            [*entering, "bash", "-c", line],
            check=False,
            capture_output=True,
            text=True,
            timeout=40,
            env=environment(SYSTEMD_PAGER="", SYSTEMD_COLORS="0"),
        )


def _group_root() -> Path | None:
    """The root of the control groups of version 2."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


def _own_directories() -> Iterator[str]:
    yield "mount --make-rprivate /"
    yield "mount -t tmpfs tmpfs /run"
    yield f"mkdir -p /run/lock {UNITS} /run/etc/upper /run/etc/work"
    yield "mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc"
    for place in ("/opt", "/dev/shm", "/etc/systemd/system"):
        yield f"mount -t tmpfs -o mode=755 tmpfs {place}"
    yield "chmod 1777 /dev/shm"
    yield "mount -t cgroup2 cgroup2 /sys/fs/cgroup"


def _readable() -> Iterator[str]:
    """Commands that mount directories again that only root can reach."""
    needed = [Path(place).resolve() for place in (sys.base_prefix, sys.prefix, ROOT / "src")]
    for number, place in enumerate(needed):
        yield f"mkdir -p /run/kept/{number} && mount --bind {place} /run/kept/{number}"
    for closed in sorted({parent for place in needed for parent in _closed_parents(place)}):
        yield f"mount -t tmpfs -o mode=755 tmpfs {closed}"
    for number, place in enumerate(needed):
        yield f"mkdir -p {place} && mount --bind /run/kept/{number} {place}"


def _closed_parents(place: Path) -> Sequence[Path]:
    """The uppermost directory on the way to a place that others may not pass."""
    closed = [parent for parent in reversed(place.parents) if not parent.stat().st_mode & 0o001]
    return closed[:1]


def _settings(name: str, names: str) -> Iterator[str]:
    yield f"echo {name} > /etc/hostname"
    yield f"printf '{names}' >> /etc/hosts"
    for target in TARGETS:
        yield f"printf '[Unit]\\nDefaultDependencies=no\\n' > {UNITS}/{target}.target"
    yield f"exec {SYSTEMD} --system --log-target=console --show-status=no"


def _remove(group: Path) -> None:
    """Remove a control group as soon as no process is left in it."""
    ends_at = time.monotonic() + STARTS_WITHIN_S
    while group.is_dir() and time.monotonic() < ends_at:
        with suppress(OSError):
            group.rmdir()
