import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.ssh.machines import SSHD, Machine, Operator, make_key
from tests.hosts.network import HostNetwork, ip

SIZE = 3


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Operator, list[Machine]]]:
    """An operator's machine, and three others with SSH servers, of which none is started yet."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2's `ip`")
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("OpenSSH's client and server are not installed")
    key = tmp_path / "id"
    make_key(key)
    with HostNetwork(SIZE + 1, net="10.83.0") as network:
        machines = [
            Machine(host, f"m{number}", tmp_path / f"m{number}", key)
            for number, host in enumerate(network.hosts[:SIZE], start=1)
        ]
        try:
            yield Operator(network.hosts[SIZE], machines, tmp_path / "operator", key), machines
        finally:
            for machine in machines:
                machine.shut_down()


@pytest.fixture
def machines(site: tuple[Operator, list[Machine]]) -> list[Machine]:
    return site[1]


@pytest.fixture
def operator(site: tuple[Operator, list[Machine]]) -> Operator:
    """The machine of the one who calls `handoff up`."""
    operator = site[0]
    net = operator.host.address.rpartition(".")[2]
    ip("-n", operator.host.namespace, "address", "add", f"fd00:77::{net}/64", "dev", "eth0", "nodad")
    return operator
