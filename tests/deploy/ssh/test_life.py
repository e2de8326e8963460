"""Clusters over time: machines that fail, are started anew, are added, and commands that are cut short or meet."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.ssh.machines import HOMES, USER, Machine, Operator
from tests.deploy.ssh.test_up import boot, members

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

WITHIN_S = 20.0


def wait_until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def start(operator: Operator, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        operator.words(*words),
        env=operator.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_clean(machine: Machine) -> bool:
    return machine.left_in_home() == [] and machine.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_remains_of_an_up_that_is_cut_short(
    operator: Operator, machines: list[Machine], number: signal.Signals
) -> None:
    boot(operator, machines[0])
    up = start(operator, "up", "m1")
    wait_until(lambda: machines[0].nodes() != [])

    up.send_signal(number)
    _, errors = up.communicate(timeout=WITHIN_S)

    if number == signal.SIGINT:
        assert up.returncode == 130
        assert errors == "cancelled\n"
        assert operator.left() == []
    wait_until(lambda: is_clean(machines[0]))


def test_two_that_meet_make_one_cluster(operator: Operator, machines: list[Machine]) -> None:
    boot(operator, *machines)

    both = [start(operator, "up", "m1", "m2"), start(operator, "up", "m2", "m3")]
    ended = [up.communicate(timeout=WITHIN_S) for up in both]

    assert [up.returncode for up in both] == [0, 0], ended
    assert sum(errors.count("m2: node m2 serves") for _, errors in ended) == 1
    assert sum(errors.count("m2: node m2 was up already") for _, errors in ended) == 1
    for exports, _ in ended:
        assert members(operator, exports) == ["m1", "m2", "m3"]


def test_hosts_join_what_is_left_of_the_cluster(operator: Operator, machines: list[Machine]) -> None:
    boot(operator, *machines)
    operator.handoff("up", "m1", "m2")
    machines[0].shut_down()

    up = operator.handoff("up", "m1", "m2", "m3", ssh_options="-o ConnectTimeout=1")

    assert up.returncode == 1
    assert "✗ m1: " in up.stderr
    assert "✓ m2: node m2 was up already" in up.stderr
    assert "✓ m3: node m3 serves" in up.stderr
    assert {"m2", "m3"} <= set(members(operator, up.stdout))


def test_down_keeps_hosts_that_it_cannot_reach(operator: Operator, machines: list[Machine]) -> None:
    boot(operator, *machines[:2])
    operator.handoff("up", "m1", "m2")
    machines[0].stop_sshd()

    first = operator.handoff("down")
    assert first.returncode == 1
    assert "✗ m1: " in first.stderr
    assert "✓ m2: its node has ended" in first.stderr
    assert operator.left() == ["cluster.key", "hosts.json"]

    assert operator.handoff("down", "--forget", "m1").returncode == 0
    assert operator.left() == []
    assert operator.handoff("down").stderr == "no host is up\n"


def test_node_that_ends_with_its_session_is_a_failure(operator: Operator, machines: list[Machine]) -> None:
    # As logind does it where KillUserProcesses=yes.
    killing = "pkill -KILL --ns $$ --nslist uts -f '^[^ ]*python -P -m handoff_actors.cli node'"
    boot(operator)
    machines[0].boot(f'ForceCommand /bin/sh -c "$SSH_ORIGINAL_COMMAND"; {killing}')
    operator.know(machines[0])

    up = operator.handoff("up", "m1")

    assert up.returncode == 1
    assert "its node ended with the SSH session" in up.stderr
    wait_until(lambda: is_clean(machines[0]))


def test_machines_with_one_home_directory_have_a_node_each(
    operator: Operator, machines: list[Machine], tmp_path: Path
) -> None:
    boot(operator, *machines[:2])
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for machine in machines[:2]:
        machine.run(f"mount --bind {home} {HOMES}/{USER}")

    up = operator.handoff("up", "m1", "m2")
    assert members(operator, up.stdout) == ["m1", "m2"]

    operator.handoff("down", "m1")
    assert len(machines[1].nodes()) == 1
    assert "m2: its node has ended" in operator.handoff("down").stderr
    assert [*home.iterdir()] == []


def test_log_is_followed_and_the_key_is_nowhere_to_be_read(
    operator: Operator, machines: list[Machine]
) -> None:
    boot(operator, *machines[:2])
    operator.handoff("up", "m1")
    following = start(operator, "logs", "m1", "-f", "-n", "0")
    operator.handoff("up", "m2")

    assert following.stdout is not None
    assert "member up member='m2'" in following.stdout.readline()
    key = (operator.state / "handoff" / "ssh" / "cluster.key").read_text().strip()
    paths = [*machines[0].home().rglob("*")]
    assert all(key.encode() not in path.read_bytes() for path in paths if path.is_file())
    assert {oct(path.stat().st_mode & 0o077) for path in paths} == {"0o0"}
    for process in machines[0].processes():
        assert key not in "".join([*process.cmdline(), *process.environ().values()])

    operator.handoff("down", "m1")
    rest, errors = following.communicate(timeout=WITHIN_S)
    assert "draining" in rest
    assert errors == ""
