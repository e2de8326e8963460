"""The systemd units in the documentation: what systemd says of them, and whether the command has their options."""

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
from tests.docs.fences import fences

UNITS = {fence.title: fence.text for fence in fences("deployment/systemd.md") if fence.language == "ini"}
#: Options that take no value.
FLAGS = {name for parameter in node.params if getattr(parameter, "is_flag", False) for name in parameter.opts}


def service(unit: str) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parser.read_string(UNITS[unit])
    return dict(parser["Service"])


@pytest.mark.parametrize("unit", UNITS)
def test_the_command_has_the_options_of_the_unit(unit: str) -> None:
    words = shlex.split(service(unit)["ExecStart"].replace("$OPTIONS", ""))

    assert [Path(words[0]).name, words[1]] == ["handoff", "node"]
    parameters = {name: parameter for parameter in node.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= set(parameters)
    given = [word for word in words[2:] if word not in FLAGS]
    for option, value in zip(given[::2], given[1::2], strict=True):
        if option != "--key-file":
            real = value.replace("%H", "h1").replace("%i", "7070")
            parameters[option].type.convert(real, parameters[option], click.Context(node))


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_gives_the_node_the_time_that_it_drains(unit: str) -> None:
    said = service(unit)

    assert said["Type"] == "notify"
    assert said["KillMode"] == "mixed"
    assert float(said["TimeoutStopSec"]) > DRAIN_S
    assert int(said["LimitNOFILE"]) >= 65536


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    command = tmp_path / "handoff"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = tmp_path / unit
    path.write_text(
        UNITS[unit].replace("/opt/handoff/bin/handoff", str(command)).replace("User=handoff\n", "")
    )

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )

    assert "handoff-node" not in verified.stderr + verified.stdout


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
