"""Machines with SSH servers: namespaces with addresses, host keys, host names and home directories of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.daemons import HANDOFF, ROOT, environment
from tests.hosts.network import Host

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
#: A Python that users other than root may start, too.
SYSTEM_PYTHON = "/usr/bin/python3"
STARTS_WITHIN_S = 10.0
#: Where the machines' home directories are. Real ones may have the interpreter of the tests.
HOMES = "/mnt"
#: As whom the operator gets in, unless another user is named.
USER = "root"
USERS = {USER: 0, "alice": 40001}
#: Run in a mount namespace of the machine's own.
BOOT = """
set -e
hostname {name}
mount -t tmpfs -o mode=755 homes {homes}
mount -t tmpfs -o mode=755 run /run
mkdir -m 755 /run/sshd {homes}/keys
{users}
mount --bind {files}/passwd /etc/passwd
exec {sshd} -D -e -f {files}/sshd_config
"""
CONFIG = """
Port 22
ListenAddress {address}
ListenAddress {address6}
HostKey {files}/host_key
PidFile none
UsePAM no
PasswordAuthentication no
AuthorizedKeysFile {homes}/keys/%u
SetEnv {variables}
"""


class Machine:
    """A host with an SSH server, which `ssh` knows as `name`."""

    def __init__(self, host: Host, name: str, files: Path, key: Path) -> None:
        self.host = host
        self.name = name
        self.address = host.address
        number = host.address.rpartition(".")[2]
        self.address6 = f"fd00:77::{number}"
        self._files = files
        self._key = key
        self._server: subprocess.Popen[bytes] | None = None
        #: The namespace of its host name, which is its processes' own. While it is open, no other one gets its number.
        self._namespace: Path | None = None
        self._kept: IO[bytes] | None = None

    def boot(self, *config: str, shell: str = "/bin/sh", variables: Mapping[str, str] | None = None) -> None:
        """Start its SSH server, with more lines of sshd_config. The home directories are new ones."""
        assert SSHD is not None
        self._files.mkdir(exist_ok=True)
        host_key = self._files / "host_key"
        if not host_key.exists():
            make_key(host_key)
            set_up = ["ip", "-n", self.host.namespace, "address", "add", f"{self.address6}/64"]
            subprocess.run([*set_up, "dev", "eth0", "nodad"], check=True)
        variables = {"PYTHONPATH": str(ROOT / "src"), "HANDOFF_CHECK": "1"} | dict(variables or {})
        lines = CONFIG.format(
            address=self.address,
            address6=self.address6,
            files=self._files,
            homes=HOMES,
            variables=" ".join(f"{name}={value}" for name, value in variables.items()),
        )
        (self._files / "sshd_config").write_text("\n".join([*config, lines]))
        entries = [f"{user}:*:{uid}:{uid}::{HOMES}/{user}:{shell}" for user, uid in USERS.items()]
        # The unprivileged part of sshd has a user of its own.
        others = [
            line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[0] not in USERS
        ]
        (self._files / "passwd").write_text("\n".join([*entries, *others, ""]))
        users = "\n".join(
            f"install -d -m 700 -o {uid} {HOMES}/{user}\ninstall -m 600 -o {uid} {self._key}.pub {HOMES}/keys/{user}"
            for user, uid in USERS.items()
        )
        boot = BOOT.format(name=self.name, homes=HOMES, users=users, files=self._files, sshd=SSHD)
        with (self._files / "sshd.log").open("wb") as log:
            self._server = subprocess.Popen(
                [*self.host.prefix, "unshare", "--mount", "--uts", "sh", "-c", boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_port()
        self._namespace = _uts(self._server.pid)
        self._kept = Path(f"/proc/{self._server.pid}/ns/uts").open("rb")  # noqa: SIM115 - `shut_down` closes it

    @property
    def known_hosts(self) -> str:
        """The lines about it in a file of known hosts."""
        words = (self._files / "host_key.pub").read_text().split()[:2]
        return "".join(f"{name} {' '.join(words)}\n" for name in (self.address, self.address6))

    @property
    def root(self) -> Path:
        """Its file system, as this process can open it."""
        assert self._server is not None
        return Path("/proc", str(self._server.pid), "root")

    def home(self, user: str = USER) -> Path:
        return self.root / HOMES[1:] / user

    def left_in_home(self, user: str = USER) -> list[str]:
        home = self.home(user)
        return sorted(path.relative_to(home).as_posix() for path in home.rglob("*"))

    def run(self, command: str) -> str:
        """Run a command of the shell's there, as root."""
        assert self._server is not None
        words = [
            "nsenter",
            "--target",
            str(self._server.pid),
            "--mount",
            "--uts",
            "--net",
            "sh",
            "-c",
            command,
        ]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def processes(self) -> list[psutil.Process]:
        """All that runs there but its SSH servers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    _is_in(process.pid, self._namespace)
                    and not process.name().startswith("sshd")
                    and process.status() != "zombie"
                ):
                    found.append(process)
        return found

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """Have another program listen at a port there."""
        source = f"import socket; one = socket.create_server(('', {port})); print(flush=True); one.accept()"
        program = subprocess.Popen(
            [*self.host.prefix, sys.executable, "-c", source], stdout=subprocess.PIPE, text=True
        )
        with program:
            assert program.stdout is not None
            program.stdout.readline()
            try:
                yield
            finally:
                program.kill()

    def let_in(self, *rules: str) -> None:
        """Let nothing in but answers, and what these rules of nftables allow."""
        if shutil.which("nft") is None:
            pytest.skip("firewalls need nftables' `nft`")
        allowed = (
            'iifname "lo" accept',
            "meta l4proto ipv6-icmp accept",
            "ct state established,related accept",
        )
        lines = ["type filter hook input priority 0", "policy drop", *allowed, *rules]
        table = "table inet test {\nchain input {\n" + "\n".join(f"{line};" for line in lines) + "\n}\n}\n"
        subprocess.run([*self.host.prefix, "nft", "-f", "-"], input=table, text=True, check=True)

    def nodes(self) -> list[psutil.Process]:
        """Its nodes, without their workers."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if {"handoff_actors.cli", "node"} <= {*process.cmdline()}:
                    found.append(process)
        return found

    def stop_sshd(self) -> None:
        """End the server that takes connections; those that there are stay."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def shut_down(self) -> None:
        """End all that runs there, at once."""
        if self._server is None:
            return
        while found := [pid for pid in psutil.pids() if _is_in(pid, self._namespace)]:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._server.poll()
            time.sleep(0.01)
        self._server.kill()
        self._server.wait()
        self._server = None
        if self._kept is not None:
            self._kept.close()

    def _wait_for_port(self) -> None:
        assert self._server is not None
        log = self._files / "sshd.log"
        until = time.monotonic() + STARTS_WITHIN_S
        while log.read_text().count("Server listening") < 2:
            assert self._server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.01)


class Operator:
    """The machine of the one who calls `handoff up`, with an ssh configuration and a state directory of its own."""

    def __init__(self, host: Host, machines: Sequence[Machine], files: Path, key: Path) -> None:
        self.host = host
        self._files = files
        files.mkdir()
        self.config = files / "config"
        self.known_hosts = files / "known_hosts"
        self.known_hosts.touch()
        self.state = files / "state"
        blocks = [
            f"Host {one.name}\n  HostName {one.address}\nHost {one.name}-6\n  HostName {one.address6}\n"
            for one in machines
        ]
        common = f"Host *\n  User {USER}\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
        self.config.write_text("\n".join([*blocks, common]))

    def know(self, *machines: Machine) -> None:
        """Know the host keys of these machines, and no others."""
        self.known_hosts.write_text("".join(machine.known_hosts for machine in machines))

    def know_as(self, machine: Machine, address: str) -> None:
        """Take the host key of a machine for that of this address, too."""
        with self.known_hosts.open("a") as file:
            file.write(machine.known_hosts.splitlines()[0].replace(machine.address, address) + "\n")

    def add(self, block: str) -> None:
        """Put a block in front of the configuration of ssh."""
        self.config.write_text(block + self.config.read_text())

    def left(self) -> list[str]:
        """All that its commands have left on this machine, except for the files that locks need."""
        return sorted(
            path.name for path in self.state.rglob("*") if path.is_file() and "lock" not in path.name
        )

    def shims(self) -> Path:
        """A directory with an `ssh` that has this machine's configuration as its own."""
        program = self._files / "bin" / "ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.config} "$@"\n')
        program.chmod(0o755)
        return program.parent

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.config}"

    def words(self, *words: str, python: str = sys.executable, ssh_options: str = "") -> list[str]:
        """The words of a command of ours on this machine."""
        command, *rest = words
        chosen = ["--python", python] if python and command in {"up", "down", "logs"} else []
        ssh = ["--ssh", f"{self.ssh} {ssh_options}"] if command in {"up", "down", "logs"} else []
        return [*self.host.prefix, *HANDOFF, command, *ssh, *chosen, *rest]

    def environment(self, **more: str) -> dict[str, str]:
        return environment(XDG_STATE_HOME=str(self.state), **more)

    def handoff(
        self,
        *words: str,
        variables: Mapping[str, str] | None = None,
        python: str = sys.executable,
        ssh_options: str = "",
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words, python=python, ssh_options=ssh_options),
            env=self.environment(**dict(variables or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def evaluated(self, exports: str) -> dict[str, str]:
        """The variables that a shell has once it has evaluated these lines."""
        script = f"{exports}\nenv -0"
        output = subprocess.run(
            ["sh", "-c", script], env={}, check=True, capture_output=True, text=True
        ).stdout
        variables = dict(line.partition("=")[::2] for line in output.split("\0") if line)
        return {name: value for name, value in variables.items() if name.startswith("HANDOFF_")}


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _uts(pid: int) -> Path | None:
    """The namespace of the host name that a process sees, which is each machine's own."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/uts").readlink()
    return None


def _is_in(pid: int, namespace: Path | None) -> bool:
    """True for a process in a machine's namespace. One that has not got its own yet is in that of the tests."""
    return namespace is not None and namespace != _uts(os.getpid()) and _uts(pid) == namespace
