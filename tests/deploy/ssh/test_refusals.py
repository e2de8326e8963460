"""Hosts on which nothing can be started: each says why, and what to do, and nothing remains there."""

from pathlib import Path

import pytest

from tests.deploy.ssh.machines import HOMES, USER, Machine, Operator

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

SOON = "-o ConnectTimeout=1"


def lines(text: str) -> dict[str, str]:
    """The line of each host, without its sign."""
    return {line[2:].partition(": ")[0]: line.partition(": ")[2] for line in text.splitlines()}


def is_clean(machine: Machine) -> bool:
    return machine.left_in_home() == [] and machine.processes() == []


def test_hosts_that_ssh_cannot_enter_say_why_and_others_come_up(
    operator: Operator, machines: list[Machine]
) -> None:
    machines[0].boot()
    machines[1].boot("PubkeyAuthentication no", "KbdInteractiveAuthentication yes")
    machines[2].boot()
    machines[0].host.part(operator.host, "silent")
    nobody, closed, unnamed = "10.83.0.99", operator.host.address, "no-such-host.invalid"
    operator.know(machines[2])
    operator.know_as(machines[1], machines[1].address)
    operator.know_as(machines[2], machines[1].address6)

    hosts = ("m1", "m1-6", "m2", "m2-6", "m3", nobody, closed, unnamed)
    up = operator.handoff("up", *hosts, ssh_options=SOON, timeout_s=20.0)

    said = lines(up.stderr)
    assert up.returncode == 1
    assert "timed out" in said["m1"]
    assert "host key is not known: connect once by hand" in said["m1-6"]
    assert "Permission denied" in said["m2"]
    assert "ssh-copy-id" in said["m2"]
    assert "its host key is not the one that was known" in said["m2-6"]
    assert said["m3"].startswith("node m3 serves at")
    assert "is it up, and reachable from here?" in said[nobody]
    assert "is its SSH server up" in said[closed]
    assert "is it spelled as in ~/.ssh/config" in said[unnamed]
    assert operator.evaluated(up.stdout)["HANDOFF_SEEDS"] == "tcp://10.83.0.3:7070"
    assert is_clean(machines[0])
    assert is_clean(machines[1])


def test_login_that_runs_no_commands_is_named_and_gets_no_key(
    operator: Operator, machines: list[Machine]
) -> None:
    machines[0].boot("Banner /etc/passwd", shell="/usr/sbin/nologin")
    machines[1].boot(f"ForceCommand timeout 0.3 cat > {HOMES}/{USER}/heard; echo no shell for you")
    operator.know(*machines[:2])

    up = operator.handoff("up", "m1", "m2")

    said = lines(up.stderr)
    assert "This account is currently not available" in said["m1"]
    assert "no shell for you" in said["m2"]
    assert (machines[1].home() / "heard").read_text() == ""


def test_pythons_that_will_not_do_are_named(
    operator: Operator, machines: list[Machine], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "python3"
    old.write_text("#!/bin/sh\necho 3.9.2\nexit 1\n")
    old.chmod(0o755)
    machines[0].boot(variables={"PATH": str(old.parent)})
    machines[1].boot(variables={"PATH": "/nonexistent"})
    machines[2].boot(variables={"PYTHONPATH": str(tmp_path)})
    (tmp_path / "handoff_actors").mkdir()
    (tmp_path / "handoff_actors" / "__init__.py").write_text("import no_such_dependency\n")
    operator.know(*machines)

    found = lines(operator.handoff("up", "m1", "m2", python="").stderr)
    given = lines(operator.handoff("up", "m1", "m2", python="~/env/bin/python").stderr)
    broken = lines(operator.handoff("up", "m3").stderr)

    assert f"it has only Python 3.9.2 ({old}); nodes need Python 3.11 or later" in found["m1"]
    assert "it has no Python" in found["m2"]
    assert "--python ~/env/bin/python: it is not there" in given["m1"]
    assert "can't be loaded: " in broken["m3"]
    assert "--install" in broken["m3"]
    assert all(map(is_clean, machines))


def test_other_protocol_is_named_before_anything_starts(
    operator: Operator, machines: list[Machine], tmp_path: Path
) -> None:
    for name, text in {
        "__init__.py": "",
        "cli/node.py": "",
        "wire/versions.py": 'VERSION = "9.9"',
        "wire/messages/base.py": "PROTOCOL = 99",
    }.items():
        path = tmp_path / "handoff_actors" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machines[0].boot(variables={"PYTHONPATH": str(tmp_path)})
    operator.know(machines[0])

    up = operator.handoff("up", "m1")

    assert "has handoff_actors 9.9 (protocol 99)" in lines(up.stderr)["m1"]
    assert is_clean(machines[0])


def test_ports_in_use_and_wrong_options_are_named_and_nothing_remains(
    operator: Operator, machines: list[Machine]
) -> None:
    machines[0].boot()
    operator.know(machines[0])
    with machines[0].listening(7070):
        taken = operator.handoff("up", "m1")
        wrong = operator.handoff("up", "m1", "--port", "7170", "--", "--cpu", "many")

    assert "port 7070 can't be had there: Address already in use" in lines(taken.stderr)["m1"]
    assert "--port" in lines(taken.stderr)["m1"]
    assert "'many' is not a valid float" in lines(wrong.stderr)["m1"]
    assert is_clean(machines[0])


def test_homes_that_take_no_files_are_named(operator: Operator, machines: list[Machine]) -> None:
    for machine in machines[:2]:
        machine.boot()
    operator.know(*machines[:2])
    machines[0].run(f"mount -t tmpfs -o size=64k,mode=700 full {HOMES}/{USER}")
    machines[0].run(f"dd if=/dev/zero of={HOMES}/{USER}/filler bs=4k 2>/dev/null || true")
    machines[1].run(f"mount -t tmpfs -o ro none {HOMES}/{USER}")

    up = operator.handoff("up", "m1", "m2")

    said = lines(up.stderr)
    assert "No space left on device" in said["m1"]
    assert "Read-only file system" in said["m2"]
    assert machines[0].left_in_home() == ["filler"]
    assert is_clean(machines[1])


def test_node_that_cannot_be_reached_from_here_is_not_left(
    operator: Operator, machines: list[Machine]
) -> None:
    machines[0].boot()
    operator.know(machines[0])
    machines[0].let_in("tcp dport 22 accept")

    up = operator.handoff("up", "m1")

    assert "this machine gets no answer from its node at tcp://10.83.0.1:7070" in lines(up.stderr)["m1"]
    assert up.stdout == ""
    assert is_clean(machines[0])
