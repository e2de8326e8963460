import json
from functools import partial

import pytest

from tests.cli.command import handoff, handoff_on_terminal
from tests.daemons import Daemon, Daemons

pytestmark = pytest.mark.processes


def members(daemon: Daemon) -> list[dict[str, object]]:
    listed = handoff("nodes", "--join", daemon.address, "--json")
    assert listed.returncode == 0, listed.stderr
    nodes: list[dict[str, object]] = json.loads(listed.stdout)
    return nodes


def sees(daemon: Daemon, addresses: dict[str, str]) -> bool:
    return {node["name"]: node["address"] for node in members(daemon)} == addresses


def test_every_member_shows_the_same_nodes(daemons: Daemons) -> None:
    cluster = daemons.cluster(3, "--cpu", "2", "--memory", "8000")
    addresses = {daemon.name: daemon.address for daemon in cluster}

    for daemon in cluster:
        # The third one's advert may still be on its way to the second.
        daemon.wait_until(partial(sees, daemon, addresses))


def test_json_has_all_that_a_node_says_of_itself(daemons: Daemons) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "2", "--memory", "8000", "--resource", "licence=3")

    (node,) = members(daemon)

    offer = {"cpu": 2.0, "memory": 8000.0, "licence": 3.0}
    assert node["capabilities"] == node["spare"] == offer
    assert (node["running"], node["queued"], node["workers"], node["stored"]) == (0, 0, 2, 0)
    assert node["leaving"] is False
    assert f"handoff-{node['incarnation']}" == daemon.store.name


def test_piped_table_is_plain_text(daemons: Daemons) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "2", "--memory", "1234567")

    listed = handoff("nodes", "--join", daemon.address)

    header, row = listed.stdout.splitlines()
    offer = "cpu 2, memory 1234567"
    assert header.split("  ")[0].strip() == "name"
    assert row.split() == ["n1", daemon.address, *offer.split(), *offer.split(), "0", "0", "2", "0", "0"]


def test_terminal_gets_a_table(daemons: Daemons) -> None:
    daemon = daemons.start("--name", "n[bold]1")

    written = handoff_on_terminal("nodes", "--join", daemon.address)

    assert "┏━━" in written
    assert "n[bold]1" in written
    assert "stored bytes" in written


def test_nodes_need_an_address() -> None:
    refused = handoff("nodes")

    assert refused.returncode == 2
    assert "--join" in refused.stderr
