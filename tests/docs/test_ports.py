"""The page about ports: its defaults are the command's, and a node's sockets are those that it names."""

import os
import re
import shutil
from pathlib import Path

import psutil
import pytest

from handoff_actors.addresses import bus_addresses, split_address
from handoff_actors.cli.node import LISTEN, node
from handoff_actors.cli.up import up
from handoff_actors.deploy.kubernetes.settings import KubernetesSettings
from tests.daemons import HANDOFF, Daemons, environment
from tests.docs.pages import path_of
from tests.hosts.network import KEY, HostNetwork

PAGE = "ports.md"
#: In /proc/PID/net/tcp.
LISTENS = "0A"


def rows() -> dict[str, list[str]]:
    """The other cells of the first table, by the first one."""
    text = path_of(PAGE).read_text(encoding="utf-8").partition("\n## ")[0]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return {first: others for first, *others in found}


def test_ports_and_options_of_the_page_are_those_of_the_command() -> None:
    defaults = node.make_context("node", []).params
    table = rows()
    listen = split_address(LISTEN)
    [bus, _] = bus_addresses(f"tcp://10.0.0.1:{listen.port}", f"tcp://10.0.0.1:{listen.port}")

    assert table["service"][0] == str(listen.port)
    assert table["bus"][0].endswith(f": {split_address(bus).port}")
    assert defaults["metrics_port"] is None
    assert table["metrics and probes"][0] == f"none; on {defaults['metrics_host']}"
    named = [
        re.findall(r"`(--[\w-]+)`", cells[1])
        for first, cells in table.items()
        if first not in {"port", "---"}
    ]
    assert named == [["--listen"], ["--bus-port"], ["--metrics-port", "--metrics-host"]]
    assert {option for row in named for option in row} <= {name for each in node.params for name in each.opts}


def test_other_ways_have_the_ports_of_the_page() -> None:
    hosts = up.make_context("up", ["n1"]).params
    pods = KubernetesSettings(image="registry.example/handoff:1")

    assert {hosts["port"], pods.port} == {split_address(LISTEN).port}
    assert pods.bus_port == pods.port + 1


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses at which anything listens in the network of a process."""
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == LISTENS:
            host, port = local.split(":")
            found.add((".".join(str(byte) for byte in reversed(bytes.fromhex(host))), int(port, 16)))
    return found


@pytest.mark.processes
@pytest.mark.hosts
def test_a_machine_listens_at_the_ports_of_the_page_and_no_others(daemons: Daemons) -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2's `ip`")
    with HostNetwork(1) as network:
        [host] = network.hosts
        options = ("--cpu", "1", "--listen", f"tcp://{host.address}:7070", "--metrics-port", "9100")
        daemon = daemons.start(*options, prefix=host.prefix, variables=KEY)
        daemon.wait_for_workers(1)

        found = listening(daemon.process.pid)

        assert found == {(host.address, 7070), (host.address, 7071), ("127.0.0.1", 9100)}
        daemon.terminate()


USES = """
import asyncio, psutil
import handoff_actors as handoff

def sockets():
    return [each for each in psutil.Process().net_connections() if each.status == "LISTEN"]

async def main():
    dag = handoff.new()
    dag.call(sockets, id="worker")
    async with handoff.Session() as session:
        run = await session.execute_distributed(dag)
        print(run.results["worker"], sockets())

asyncio.run(main())
"""


@pytest.mark.processes
def test_on_the_loopback_only_nodes_listen_and_nowhere_else(daemons: Daemons) -> None:
    daemon = daemons.start("--cpu", "1")

    seen = psutil.Popen(
        [HANDOFF[0], "-c", USES], env=environment(HANDOFF_SEEDS=daemon.address), stdout=-1, text=True
    ).communicate(timeout=30)[0]

    node_sockets = psutil.Process(daemon.process.pid).net_connections()
    addresses = {f"tcp://{each.laddr[0]}:{each.laddr[1]}" for each in node_sockets if each.status == "LISTEN"}
    assert addresses == {daemon.address, daemon.bus}
    assert {split_address(address).host for address in addresses} == {"127.0.0.1"}
    assert seen == "[] []\n"
