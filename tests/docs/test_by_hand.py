"""The page deployment/by-hand.md, from nothing to a run and back: its commands, in its order, on two machines."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.daemons import environment
from tests.docs.fences import NOTHING, Fence, fences
from tests.docs.reader import compare
from tests.hosts.network import Host, HostNetwork

pytestmark = [pytest.mark.processes, pytest.mark.hosts]

PAGE = "deployment/by-hand.md"
WAITS_S = 20.0
BIN = Path(sys.executable).parent


class Machine:
    """A host with a folder, and one terminal in which a node may run."""

    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        self.folder = folder
        folder.mkdir()
        self._variables = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        self._terminal = -1
        self._node: subprocess.Popen[bytes] | None = None

    def run(self, line: str) -> str:
        """Run a command to its end, and return what it prints."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self._variables[name] = value
            return ""
        done = subprocess.run(
            [*self._host.prefix, "bash", "-c", line],
            check=False,
            capture_output=True,
            text=True,
            timeout=WAITS_S,
            cwd=self.folder,
            env=environment(**self._variables),
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start_node(self, line: str) -> str:
        """Start a node in the terminal's foreground, and return the line that says where it serves."""
        assert self._node is None
        self._terminal, end = pty.openpty()
        # A session of its own, whose terminal this is, as after a login.
        self._node = subprocess.Popen(
            [*self._host.prefix, "setsid", "--ctty", "bash", "-c", f"exec {line.removesuffix(' &')}"],
            cwd=self.folder,
            env=environment(**self._variables),
            stdin=end,
            stdout=end,
            stderr=end,
        )
        os.close(end)
        seen = ""
        while not (serves := re.search(r"^node .*$", seen, re.MULTILINE)):
            readable, _, _ = select.select([self._terminal], [], [], WAITS_S)
            assert readable, seen
            seen += os.read(self._terminal, 1 << 16).decode().replace("\r", "")
        return serves.group()

    def press_ctrl_c(self) -> None:
        """Press it in the terminal, and wait for the node's end, which has to be a good one."""
        os.write(self._terminal, b"\x03")
        self._wait()

    def close_terminal(self) -> None:
        """Close the window of the terminal."""
        os.close(self._terminal)
        self._terminal = -1

    def terminate_node(self) -> None:
        """Send the node SIGTERM, and wait for its end, which has to be a good one."""
        assert self._node is not None
        self._node.send_signal(signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        assert self._node is not None
        assert self._node.wait(WAITS_S) == 0
        self._node = None

    def processes(self) -> str:
        """The ids of all processes on the host."""
        return subprocess.run(
            ["ip", "netns", "pids", self._host.namespace], check=True, capture_output=True, text=True
        ).stdout

    def close(self) -> None:
        """Kill what still runs."""
        for number in map(int, self.processes().split()):
            os.kill(number, signal.SIGKILL)
        if self._terminal >= 0:
            self.close_terminal()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2's `ip`")
    with HostNetwork(2, "10.0.0") as network:
        made = [Machine(host, tmp_path / host.address) for host in network.hosts]
        yield made
        for machine in made:
            machine.close()


class Operator:
    """Does what the page says, on the machine that the title of each block names."""

    def __init__(self, machines: list[Machine]) -> None:
        self._first, self._second = machines

    def do(self, fence: Fence) -> str:
        """Do what a block says, and return what is seen."""
        if fence.title == "app.py":
            (self._first.folder / fence.title).write_text(fence.text, encoding="utf-8")
            return ""
        if fence.title == "on each machine":
            return self._run(self._first, fence) + self._run(self._second, fence)
        if fence.title == "on 10.0.0.2, instead":
            self._second.press_ctrl_c()
        return self._run(self._second if "10.0.0.2" in fence.title else self._first, fence)

    def _run(self, machine: Machine, fence: Fence) -> str:
        return "".join([self._command(machine, line) for line in fence.text.splitlines()])

    def _command(self, machine: Machine, line: str) -> str:
        if line == "scp -p cluster.key 10.0.0.2:":
            # There is no SSH server on these hosts.
            shutil.copy2(self._first.folder / "cluster.key", self._second.folder)
            return ""
        if line.startswith("handoff node "):
            return machine.start_node(line)
        return machine.run(line)


def test_commands_of_the_page_lead_to_a_run_and_back_to_nothing(machines: list[Machine]) -> None:
    first, second = machines
    operator = Operator(machines)

    for fence, following in pairwise([*fences(PAGE), NOTHING]):
        if fence.language not in {"sh", "python"}:
            continue
        if fence.title == "on each machine":
            first.press_ctrl_c()
            assert first.processes() + second.processes() == ""
        seen = operator.do(fence)
        if following.language == "text":
            compare(PAGE, fence, following, seen)
        if fence.title == "on 10.0.0.2, instead":
            second.close_terminal()
            # Half of the work would be left over if the node, or its workers, had gone with the terminal.
            assert first.run("python app.py") == "140 from n1 n2\n"
            second.terminate_node()

    assert [path.name for machine in machines for path in machine.folder.iterdir()] == ["app.py"]
