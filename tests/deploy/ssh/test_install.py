"""Machines without handoff_actors and without a network beyond: `up --install`, also as a user who is not root."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.deploy.ssh.machines import HOMES, SYSTEM_PYTHON, Machine, Operator
from tests.deploy.ssh.test_up import boot, members

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

NOTHING = {"PYTHONPATH": ""}


def abi_of(python: str) -> str:
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def bare(operator: Operator, machines: list[Machine]) -> Machine:
    """A machine with the system's Python only, of the same build as that of the tests."""
    if not Path(SYSTEM_PYTHON).exists() or abi_of(SYSTEM_PYTHON) != sysconfig.get_config_var("SOABI"):
        pytest.skip(f"{SYSTEM_PYTHON} is not of the same minor version as the Python of the tests")
    machines[0].boot(variables=NOTHING)
    operator.know(machines[0])
    return machines[0]


def test_installation_comes_and_goes_with_the_node(operator: Operator, bare: Machine) -> None:
    theirs = bare.home("alice") / ".local/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    theirs.mkdir(parents=True)
    (theirs / "installed_for_alice.py").touch()
    bare.run(f"chown -R 40001 {HOMES}/alice")
    had = bare.left_in_home("alice")

    up = operator.handoff("up", "alice@m1", "--install", python=SYSTEM_PYTHON)
    assert up.returncode == 0, up.stderr
    (python,) = bare.home("alice").glob(".cache/handoff/up/m1/*/bin/python")
    there = "/" / python.relative_to(bare.root)
    bare.run(
        f"setpriv --reuid=40001 --clear-groups env HOME={HOMES}/alice {there} -B -c 'import installed_for_alice'"
    )
    assert members(operator, up.stdout) == ["m1"]
    (node,) = bare.nodes()
    assert {node.uids().real} == {40001}
    assert node.exe().startswith("/usr/bin/python3")
    node.kill()

    # What has ended by itself still has its log.
    log = operator.handoff("logs", "alice@m1", "-n", "1", python="")
    assert len(log.stdout.splitlines()) == 1, log.stderr
    # Without the option, and without sending it anew.
    again = operator.handoff("up", "alice@m1", python="")
    assert again.returncode == 0, again.stderr

    down = operator.handoff("down", python="")
    assert down.returncode == 0, down.stderr
    assert bare.left_in_home("alice") == had


def test_nothing_remains_of_an_installation_that_fails(operator: Operator, bare: Machine) -> None:
    bare.run(f"mount -t tmpfs -o size=4m,mode=700,uid=40001 small {HOMES}/alice")

    up = operator.handoff("up", "alice@m1", "--install", python=SYSTEM_PYTHON)

    assert up.returncode == 1
    assert "No space left on device" in up.stderr
    assert bare.left_in_home("alice") == []


def test_files_and_processes_that_up_has_not_made_stay(operator: Operator, machines: list[Machine]) -> None:
    boot(operator, machines[0])
    theirs = machines[0].home() / ".cache" / "handoff" / "up" / "m1" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "file").touch()
    had = machines[0].left_in_home()
    operator.handoff("up", "m1")
    (node,) = machines[0].nodes()
    record = next(machines[0].home().rglob("node.json"))
    facts = json.loads(record.read_text())
    # As after a new start of the machine, when another program has the number.
    facts["node"][2] = "another boot"
    record.write_text(json.dumps(facts))

    down = operator.handoff("down")

    assert "no node of `handoff up` was up there" in down.stderr
    assert "not made by `handoff up`, or not removable, and left there" in down.stderr
    assert node.is_running()
    assert machines[0].left_in_home() == had
