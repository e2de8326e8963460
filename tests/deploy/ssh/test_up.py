"""`handoff up`, `down` and `logs` against real SSH servers."""

import json

import pytest

from tests.deploy.ssh.machines import Machine, Operator

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]


def boot(operator: Operator, *machines: Machine) -> None:
    for machine in machines:
        machine.boot()
    operator.know(*machines)


def members(operator: Operator, exports: str) -> list[str]:
    """The names of a cluster's members, as commands see it that have evaluated what `up` has printed."""
    nodes = operator.handoff("nodes", "--json", variables=operator.evaluated(exports))
    assert nodes.returncode == 0, nodes.stderr
    return [node["name"] for node in json.loads(nodes.stdout)]


def test_machines_become_a_cluster_and_are_clean_again(operator: Operator, machines: list[Machine]) -> None:
    boot(operator, *machines)

    first = operator.handoff("up", "m1", "--", "--cpu", "1")
    assert first.stderr.startswith("✓ m1: node m1 serves at tcp://10.83.0.1:7070: cpu 1, ")
    was = machines[0].nodes()

    # In the shell that has evaluated what the first one has printed.
    up = operator.handoff("up", "m1", "m2", "m3", variables=operator.evaluated(first.stdout))
    assert up.returncode == 0, up.stderr
    said = sorted(up.stderr.splitlines())
    assert said[0].startswith("✓ m1: node m1 was up already at tcp://10.83.0.1:7070")
    assert [line.partition(" at ")[0] for line in said[1:]] == [
        "✓ m2: node m2 serves",
        "✓ m3: node m3 serves",
    ]
    assert machines[0].nodes() == was
    assert members(operator, first.stdout) == members(operator, up.stdout) == ["m1", "m2", "m3"]

    shown = operator.handoff("logs", "m1").stdout
    assert "member up member='m2'" in shown
    assert "member up member='m3'" in shown

    down = operator.handoff("down")
    assert down.returncode == 0, down.stderr
    assert sorted(down.stderr.splitlines()) == [
        f"✓ {machine.name}: its node has ended, and nothing is left there" for machine in machines
    ]
    for machine in machines:
        assert machine.left_in_home() == []
        assert machine.processes() == []
    assert operator.left() == []
