"""Members behind firewalls that let through one port, in one direction, or nothing for a while."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.daemons import HANDOFF, Daemon, Daemons
from tests.docs.quotes import check_quoted
from tests.hosts.network import KEY, Host, HostNetwork

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

#: Longer than a member may be silent with the short times of `impatient`.
WHILE_S = 5.0
#: How soon a network that is back is to be whole again, with the short pauses.
WHOLE_S = 6.0


@pytest.fixture
def pair() -> Iterator[tuple[Host, Host]]:
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nft") is None:
        pytest.skip("network namespaces need root, iproute2's `ip` and `nft`")
    with HostNetwork(2, net="10.81.0") as network:
        one, other = network.hosts
        yield one, other


def let_in(host: Host, *rules: str) -> None:
    """Let nothing in but answers, and what these rules of nftables allow."""
    allowed = ('iifname "lo" accept', "ct state established,related accept", *rules)
    lines = ["type filter hook input priority 0", "policy drop", *allowed]
    table = "table inet test {\nchain input {\n" + "\n".join(f"{line};" for line in lines) + "\n}\n}\n"
    subprocess.run([*host.prefix, "nft", "-f", "-"], input=table, text=True, check=True)


def start(
    daemons: Daemons, host: Host, name: str, *options: str, module: str = "tests.hosts.impatient"
) -> Daemon:
    listen = ("--name", name, "--cpu", "1", "--listen", f"tcp://{host.address}:7070")
    return daemons.start(*listen, *options, prefix=host.prefix, variables=KEY, module=module)


def seen(host: Host, daemon: Daemon) -> list[str]:
    command = [*host.prefix, *HANDOFF, "nodes", "--join", daemon.address, "--json"]
    shown = subprocess.run(command, check=True, env=os.environ | KEY, capture_output=True, text=True).stdout
    return [node["name"] for node in json.loads(shown)]


def test_only_the_port_of_the_service_is_necessary(pair: tuple[Host, Host], daemons: Daemons) -> None:
    for host in pair:
        let_in(host, "tcp dport 7070 accept")
    first = start(daemons, pair[0], "n1")
    second = start(daemons, pair[1], "n2", "--join", first.address)

    time.sleep(WHILE_S)

    assert seen(pair[0], first) == seen(pair[1], second) == ["n1", "n2"]
    for log in (first.log(), second.log()):
        assert log.count("bus unreachable") == 1
        check_quoted("ports.md", "WARNING bus unreachable", log)
        assert "member down" not in log


def test_node_that_can_only_connect_outwards_is_a_member(pair: tuple[Host, Host], daemons: Daemons) -> None:
    let_in(pair[1])
    first = start(daemons, pair[0], "n1")
    second = start(daemons, pair[1], "n2", "--join", first.address)

    time.sleep(WHILE_S)

    assert seen(pair[0], first) == seen(pair[1], second) == ["n1", "n2"]
    assert second.log().count("unreachable for a member") == 1
    check_quoted("ports.md", "WARNING unreachable for a member", second.log())
    assert "member down" not in first.log() + second.log()


def test_split_heals_without_seeds(pair: tuple[Host, Host], daemons: Daemons) -> None:
    first = start(daemons, pair[0], "n1")
    second = start(daemons, pair[1], "n2", "--join", first.address)
    pair[1].unplug()
    for daemon in (first, second):
        daemon.wait_for_log("member down")
    # Longer than the buses are listened to.
    time.sleep(1.0)
    assert seen(pair[0], first) == ["n1"]

    pair[1].plug_in()
    healed_at = time.monotonic()

    for daemon in (first, second):
        daemon.wait_until(lambda daemon=daemon: daemon.log().count("member up") == 2)  # type: ignore[misc]
    assert time.monotonic() < healed_at + WHOLE_S
