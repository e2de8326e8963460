"""The page deployment/systemd.md, from nothing to a run and back, with a real systemd on each of two machines."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from handoff_actors.transport.keys import ClusterKey
from tests.daemons import ROOT
from tests.docs.fences import NOTHING, Fence, fences
from tests.docs.reader import compare
from tests.hosts.network import HostNetwork
from tests.systemd import UNITS, Machine, why_not

pytestmark = [pytest.mark.processes, pytest.mark.hosts, pytest.mark.timeout(120)]

PAGE = "deployment/systemd.md"
NAMES = r"10.0.0.1 n1 n1.example\n10.0.0.2 n2 n2.example\n"
#: Has the node find this interpreter's packages, and the sources under test.
ELSEWHERE = f"[Service]\nEnvironment=PYTHONPATH={ROOT / 'src'}\n"
DROP_IN = f"{UNITS}/handoff-node.service.d"


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as closing:
        hosts = closing.enter_context(HostNetwork(2, "10.0.0")).hosts
        made = []
        for number, host in enumerate(hosts, start=1):
            made.append(Machine(host, f"n{number}", NAMES))
            closing.callback(made[-1].close)
        yield made


class Operator:
    """Does what the page says, in one directory that both machines have."""

    def __init__(self, machines: list[Machine], folder: Path) -> None:
        self._machines = machines
        self._folder = folder
        (folder / "cluster.key").write_text(ClusterKey.generate().text(), encoding="utf-8")
        (folder / "cluster.key").chmod(0o600)
        for machine in machines:
            machine.run(f"mkdir -p {DROP_IN} && printf '{ELSEWHERE}' > {DROP_IN}/test.conf")

    def do(self, fence: Fence) -> str:
        """Do what a block says, and return what is seen."""
        if Path(fence.title).suffix in {".py", ".service"}:
            (self._folder / fence.title).write_text(fence.text, encoding="utf-8")
            return ""
        if fence.title == "on each machine, as root":
            # At the same time, as those who are not told of an order would do it.
            with ThreadPoolExecutor() as threads:
                return "".join(list(threads.map(lambda machine: self._run(machine, fence), self._machines)))
        assert fence.title == "on n1.example"
        return self._run(self._machines[0], fence)

    def _run(self, machine: Machine, fence: Fence) -> str:
        lines = [line for line in fence.text.splitlines() if " install /path/to/clone" not in line]
        return "".join([machine.run(f"cd {self._folder} && {self._real(line)}") for line in lines])

    def _real(self, line: str) -> str:
        """The suite has no network to install from, and an environment that is complete."""
        if line == "python3 -m venv /opt/handoff":
            return f"ln -s {sys.prefix} /opt/handoff"
        return line if "app.py" not in line else f"PYTHONPATH={ROOT / 'src'} {line}"


def test_commands_of_the_page_lead_to_a_run_and_back_to_nothing(
    machines: list[Machine], tmp_path: Path
) -> None:
    operator = Operator(machines, tmp_path)

    for fence, following in pairwise([*fences(PAGE), NOTHING]):
        if fence.language not in {"sh", "python", "ini"}:
            continue
        seen = operator.do(fence)
        if following.language == "text":
            compare(PAGE, fence, following, seen)

    for machine in machines:
        assert machine.processes() == {"systemd"}
        assert (
            machine.run("ls -A /dev/shm /opt; systemctl list-units --failed --no-legend")
            == "/dev/shm:\n\n/opt:\n"
        )
        assert "handoff" not in machine.run("cat /etc/passwd; ls /etc /etc/systemd/system")
