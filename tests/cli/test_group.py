import subprocess
import sys
from pathlib import Path

import pytest

from handoff_actors.wire.versions import VERSION
from tests.cli.command import handoff
from tests.daemons import environment

pytestmark = pytest.mark.processes


def test_installed_command_tells_its_version() -> None:
    command = Path(sys.executable).with_name("handoff")

    ended = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)

    assert ended.stdout == f"handoff {VERSION}\n"


def test_version_imports_nothing_heavy() -> None:
    code = (
        "import sys; from handoff_actors.cli import main; main(['--version'], standalone_mode=False);"
        "print(sorted({'zmq', 'uvloop', 'rich'} & set(sys.modules)))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )

    assert ended.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command() -> None:
    ended = handoff("--help")

    assert ended.returncode == 0
    assert [
        line.split()[0]
        for line in ended.stdout.partition("Commands:\n")[2].splitlines()
        if line[2:3].isalpha()
    ] == ["node", "nodes", "top", "run", "render", "keygen", "demo"]


def test_unknown_command_is_refused() -> None:
    refused = handoff("nod")

    assert refused.returncode == 2
    assert "No such command 'nod'" in refused.stderr


def test_demo_tells_what_happened() -> None:
    ended = handoff("demo")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("graph TD;\n")
    assert "sentence ran on node here" in ended.stdout
    assert ended.stdout.endswith("result: 8 different words, the longest of them 'quick'\n")


@pytest.mark.parametrize(
    ("language", "beginning"), [("mermaid", "graph TD;\n"), ("dot", 'digraph "failing" {\n'), ("svg", "<svg")]
)
def test_render_prints_a_picture_and_runs_nothing(jobs: Path, language: str, beginning: str) -> None:
    ended = handoff("render", "jobs:failing", "--format", language, cwd=jobs)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(beginning)
