"""The systemd unit in the documentation: what systemd says of it, and whether the command has its options."""

import shlex
import shutil
import socket
import subprocess
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

from handoff_actors.actors.node.host.containers import DRAIN_S
from handoff_actors.cli.node import node
from tests.daemons import Daemons

PAGE = Path(__file__).parents[2] / "docs" / "deployment" / "systemd.md"


def unit() -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.partition('```ini title="handoff-node.service"\n')[2].partition("```")[0]


def service() -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parser.read_string(unit())
    return dict(parser["Service"])


def test_the_command_has_the_options_of_the_unit() -> None:
    words = shlex.split(service()["ExecStart"])

    assert [Path(words[0]).name, words[1]] == ["handoff", "node"]
    options = {name for parameter in node.params for name in parameter.opts}
    given = words[2:]
    assert {word for word in given if word.startswith("--")} <= options
    parameters = {name: parameter for parameter in node.params for name in parameter.opts}
    for option, value in zip(given[::2], given[1::2], strict=True):
        if option != "--key-file":
            parameters[option].type.convert(
                value.replace("%H", "h1"), parameters[option], click.Context(node)
            )


def test_systemd_gives_the_node_the_time_that_it_drains() -> None:
    said = service()

    assert said["Type"] == "notify"
    assert said["KillMode"] == "mixed"
    assert float(said["TimeoutStopSec"]) > DRAIN_S
    assert int(said["LimitNOFILE"]) >= 65536


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    command = tmp_path / "handoff"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = tmp_path / "handoff-node.service"
    path.write_text(unit().replace("/opt/handoff/bin/handoff", str(command)).replace("User=handoff\n", ""))

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )

    assert "handoff-node.service" not in verified.stderr + verified.stdout


@pytest.mark.processes
def test_a_daemon_tells_systemd_and_its_functions_do_not(daemons: Daemons, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        node = daemons.start("--cpu", "1", variables={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        (worker,) = node.wait_for_workers(1)
        assert "NOTIFY_SOCKET" not in worker.environ()

        assert node.terminate() == 0

        told = [systemd.recv(4096).decode().partition("\n")[0] for _ in range(3)]
    assert told == ["STATUS=starting", "READY=1", "STOPPING=1"]
