import os
import shutil
from collections.abc import Iterator

import pytest

from tests.daemons import Daemon, Daemons
from tests.hosts.network import KEY, Host, HostNetwork

SIZE = 3


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Three hosts for nodes, and a fourth for the app."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2's `ip`")
    with HostNetwork(SIZE + 1) as network:
        yield network.hosts


@pytest.fixture
def app(hosts: list[Host]) -> Host:
    """The host of the app, which has no node."""
    return hosts[-1]


@pytest.fixture
def cluster(hosts: list[Host], daemons: Daemons) -> list[Daemon]:
    """Nodes h1, h2 and h3, one on each host, that have found one another by the address of h1."""
    nodes: list[Daemon] = []
    for number, host in enumerate(hosts[:SIZE], start=1):
        join = ("--join", nodes[0].address) if nodes else ()
        options = ("--name", f"h{number}", "--cpu", "2", "--listen", f"tcp://{host.address}:7070")
        nodes.append(daemons.start(*options, *join, prefix=host.prefix, variables=KEY))
    return nodes
