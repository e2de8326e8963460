"""A Slurm cluster on this host: a real munged, slurmctld and slurmd, with a configuration of its own, for tests."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

import psutil

from tests.daemons import environment, is_alive

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scancel", "setpriv")
#: Daemons are where users' PATH often doesn't lead.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
STARTS_WITHIN_S = 20.0
ENDS_WITHIN_S = 20.0
LOOKS_EVERY_S = 0.05
#: Below the range from which the kernel takes ports for connections.
PORTS = range(20_000, 32_000)
STARTS = 3


def why_not() -> str:
    """Why no Slurm cluster can be started here; "" if one can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return f"Slurm is not installed here: there is no {', '.join(missing)} (Debian's slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as root only"


@dataclass(frozen=True)
class Machine:
    """One compute node: where its slurmd runs, and what it says that it has, true or not."""

    name: str
    cpus: int = 4
    memory_mb: int = 4000
    gpus: int = 0
    #: The words before a command that have it run on another host, such as `ip netns exec h1`.
    prefix: tuple[str, ...] = ()
    address: str = "127.0.0.1"


class SlurmCluster:
    """A partition `all` of the machines n1, n2, ..., ready once this is entered. Nothing of it is left after the end.

    Any number of them may run at once. `settings` are further lines of slurm.conf. `controller` is where slurmctld is to be
    reached, and `prefix` has it, and commands, run on that host.
    """

    def __init__(
        self,
        machines: int | Sequence[Machine] = 2,
        settings: Sequence[str] = (),
        *,
        prefix: Sequence[str] = (),
        controller: str = "127.0.0.1",
    ) -> None:
        numbered = machines if isinstance(machines, int) else 0
        self.machines = [Machine(f"n{number}") for number in range(1, numbered + 1)]
        if not isinstance(machines, int):
            self.machines = list(machines)
        self._settings = settings
        self._prefix = tuple(prefix)
        self._controller = controller
        self._closing = ExitStack()
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._commands: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for attempt in range(1, STARTS + 1):
            with ExitStack() as on_failure:
                on_failure.callback(self.close)
                #: Its configuration, its logs, and what jobs of tests like to leave there.
                self.directory = Path(tempfile.mkdtemp(prefix="slurm-"))
                self._start()
                if self._is_up():
                    on_failure.pop_all()
                    return self
                said = self.log()
            # Another process may have taken one of the ports meanwhile.
            assert attempt < STARTS, said
        raise AssertionError

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- For tests ----------------------------------------------------------------------------------------------

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for its commands, without the variables that configure a cluster of ours."""
        inherited = {name: text for name, text in environment().items() if not name.startswith("SLURM_")}
        conf = {"SLURM_CONF": str(self.directory / "slurm.conf"), "PATH": PATH}
        return inherited | conf | dict(more or {})

    def popen(
        self, *command: str, variables: Mapping[str, str] | None = None, log: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start a command, such as srun, on the login node; its output goes to a file in `directory` of that name."""
        with (self.directory / (log or f"{command[0]}.out")).open("ab") as output:
            started = subprocess.Popen(
                [*self._prefix, *command],
                env=self.variables(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
            )
        self._commands.append(started)
        return started

    def run(
        self, *command: str, variables: Mapping[str, str] | None = None, timeout_s: float = 50.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node, and return what became of it."""
        return subprocess.run(
            [*self._prefix, *command],
            env=self.variables(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.directory,
            timeout=timeout_s,
            check=False,
        )

    def ask(self, *command: str, variables: Mapping[str, str] | None = None) -> str:
        """Run a command that has to succeed, and return its output."""
        done = self.run(*command, variables=variables)
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.log()}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """The state of every job that has not ended, such as PENDING or RUNNING, by id."""
        lines = self.ask("squeue", "--noheader", "--format=%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def read(self, name: str) -> str:
        """The text of a file in `directory`; "" if there is none yet."""
        with suppress(FileNotFoundError):
            return (self.directory / name).read_text()
        return ""

    def wait_until(self, condition: Callable[[], object], within_s: float = ENDS_WITHIN_S) -> None:
        """Return once a condition holds; fail with the daemons' logs if that takes too long."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s:g} s:\n{self.log()}"
            time.sleep(LOOKS_EVERY_S)

    def processes(self) -> list[psutil.Process]:
        """Every process of its daemons and of its jobs."""
        mark = f"SLURM_CONF={self.directory}/".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError, psutil.NoSuchProcess):
                if mark in path.read_bytes():
                    found.append(psutil.Process(int(path.parent.name)))
        return [process for process in found if is_alive(process)]

    def log(self) -> str:
        """What its daemons and commands said."""
        outputs = [path for path in sorted(self.directory.glob("*")) if path.suffix in {".log", ".out"}]
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in outputs)

    def close(self) -> None:
        """End its jobs and its daemons at once, and remove its directory."""
        # They have nothing outside of the directory. One that is killed may just have started another.
        while left := self.processes():
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(left, LOOKS_EVERY_S)
        for process in (*self._daemons, *self._commands):
            process.wait(ENDS_WITHIN_S)
        self._daemons.clear()
        self._commands.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- Its daemons --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        (self.directory / "state").mkdir()
        (self.directory / "spool").mkdir()
        key = self.directory / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(64))
        (self.directory / "slurm.conf").write_text("\n".join(self._configuration()) + "\n")
        (self.directory / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        (self.directory / "gres.conf").write_text("".join(map(_gres, self.machines)))
        in_directory = {
            name: f"--{name}={self.directory / file}"
            for name, file in {
                "socket": "munge.sock",
                "key-file": "munge.key",
                "pid-file": "munged.pid",
                "seed-file": "munged.seed",
                "log-file": "munged.log",
            }.items()
        }
        self._daemon((), "munged", "--force", "--foreground", *in_directory.values())
        self.wait_until(lambda: (self.directory / "munge.sock").exists() or self._has_lost_one())
        self._daemon(self._prefix, "slurmctld", "-D", "-c")
        for machine in self.machines:
            self._daemon(machine.prefix, "slurmd", "-D", "-N", machine.name)

    def _daemon(self, prefix: Sequence[str], program: str, *options: str) -> None:
        with (self.directory / f"{program}.out").open("ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    # Killed tests leave none behind.
                    [*prefix, "setpriv", "--pdeathsig", "KILL", "--", program, *options],
                    env=self.variables(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                )
            )

    def _has_lost_one(self) -> bool:
        return any(daemon.poll() is not None for daemon in self._daemons)

    def _is_up(self) -> bool:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline and not self._has_lost_one():
            states = self.run("sinfo", "--noheader", "--Node", "--format=%T").stdout.split()
            if states == ["idle"] * len(self.machines):
                return True
            time.sleep(LOOKS_EVERY_S)
        return False

    def _configuration(self) -> list[str]:
        own, port, *ports = socket.gethostname(), *_free_ports(1 + len(self.machines))
        return [
            "ClusterName=test",
            f"SlurmctldHost={own}({self._controller})",
            f"SlurmctldPort={port}",
            "SlurmUser=root",
            f"AuthInfo=socket={self.directory}/munge.sock",
            "CredType=cred/munge",
            f"StateSaveLocation={self.directory}/state",
            f"SlurmdSpoolDir={self.directory}/spool/%n",
            f"SlurmctldPidFile={self.directory}/slurmctld.pid",
            f"SlurmdPidFile={self.directory}/slurmd-%n.pid",
            f"SlurmctldLogFile={self.directory}/slurmctld.log",
            f"SlurmdLogFile={self.directory}/slurmd-%n.log",
            # Control groups would have to be this test's own.
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "AccountingStorageType=accounting_storage/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "SchedulerParameters=batch_sched_delay=0,sched_interval=1",
            # The machines say that they have more than this host.
            "SlurmdParameters=config_overrides",
            "ReturnToService=2",
            "MpiDefault=none",
            "GresTypes=gpu",
            "KillWait=5",
            *self._settings,
            *(
                f"NodeName={machine.name} NodeHostname={own} NodeAddr={machine.address} Port={its} CPUs={machine.cpus} "
                f"RealMemory={machine.memory_mb} Gres=gpu:{machine.gpus}"
                for machine, its in zip(self.machines, ports, strict=True)
            ),
            "PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE",
        ]


def _gres(machine: Machine) -> str:
    # Any devices do for tests that look at their numbers only.
    last = machine.gpus - 1
    return f"NodeName={machine.name} Name=gpu File=/dev/tty[0-{last}]\n" if machine.gpus else ""


def _free_ports(count: int) -> list[int]:
    choice, found = Random(), list[int]()  # not the seeded one: tests at the same time would choose the same
    while len(found) < count:
        port = choice.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    return found


if __name__ == "__main__":
    # A cluster to try things in: a shell whose commands reach it.
    with SlurmCluster() as cluster:
        sys.exit(
            subprocess.run([os.environ.get("SHELL", "bash")], env=cluster.variables(), check=False).returncode
        )
