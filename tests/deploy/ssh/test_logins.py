"""Logins as they are: other shells, banners, users, jump hosts, IPv6, names of ssh's configuration."""

import shutil
import tempfile

import pytest

from tests.deploy.ssh.machines import USER, Machine, Operator
from tests.deploy.ssh.test_up import boot, members

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

#: Those that read files at the start of a command, the oddest first.
SHELLS = [path for path in map(shutil.which, ("fish", "tcsh", "zsh", "bash")) if path]
#: What a login script may print, with an open line at the end, and the file of each shell that has it.
NOISE = "echo Welcome to the cluster; echo error >&2; /usr/bin/printf 'quota: 3%% '\n"
STARTUP = (".bashrc", ".config/fish/config.fish", ".zshenv", ".tcshrc", ".cshrc")


def test_any_login_shell_will_do_and_may_be_noisy(operator: Operator, machines: list[Machine]) -> None:
    shells = dict(zip(machines, SHELLS, strict=False))
    for machine, shell in shells.items():
        machine.boot(shell=shell)
        for name in STARTUP:
            path = machine.home() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(NOISE)
    operator.know(*shells)

    up = operator.handoff("up", *(machine.name for machine in shells))
    down = operator.handoff("down")

    assert up.returncode == 0, up.stderr
    assert down.returncode == 0, down.stderr
    # fish has a history there.
    left = [path for machine in shells for path in machine.left_in_home()]
    assert [path for path in left if "handoff" in path] == []


def test_hosts_are_reached_as_ssh_reaches_them(operator: Operator, machines: list[Machine]) -> None:
    boot(operator, *machines)
    machines[0].let_in(f"ip saddr {machines[1].address} tcp dport 22 accept", "tcp dport 7070 accept")
    operator.add(f"Host behind\n  HostName {machines[0].address}\n  ProxyJump m2\n")

    # The first connection stays for others, and has a socket, whose path has to be short.
    with tempfile.TemporaryDirectory(prefix="h") as place:
        operator.add(f"Host m3\n  ControlMaster auto\n  ControlPath {place}/%n\n  ControlPersist 2\n")
        up = operator.handoff("up", "behind", "m2-6", f"{USER}@m3", "m3", "m3")

    assert up.returncode == 0, up.stderr
    assert "node behind serves at tcp://10.83.0.1:7070" in up.stderr
    assert "node m2-6 serves at tcp://[fd00:77::2]:7070" in up.stderr
    # One of the two was first.
    assert "m3: node m3 " in up.stderr
    assert "m3 was up already" in up.stderr
    assert sorted(members(operator, up.stdout)) == ["behind", "m2-6", "m3"]
