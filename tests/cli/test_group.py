import json
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
    ] == [
        *("node", "nodes", "top", "ping", "run", "render"),
        *("up", "down", "logs", "alloc", "manifest", "keygen", "demo"),
    ]


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


def test_demo_as_json() -> None:
    ended = handoff("demo", "--json")

    results = json.loads(ended.stdout)["results"]
    assert results == {"sentence": "8 different words, the longest of them 'quick'"}


@pytest.mark.parametrize(
    ("language", "beginning"), [("mermaid", "graph TD;\n"), ("dot", 'digraph "failing" {\n'), ("svg", "<svg")]
)
def test_render_prints_a_picture_and_runs_nothing(jobs: Path, language: str, beginning: str) -> None:
    ended = handoff("render", "jobs:failing", "--format", language, cwd=jobs)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(beginning)


@pytest.mark.parametrize(
    ("output", "beginning"),
    [
        ("dag.svg", "<svg"),
        ("dag.mmd", "graph TD;\n"),
        ("dag.dot", 'digraph "sized-few" {\n'),
        ("-", "graph TD;"),
    ],
)
def test_render_writes_files_in_the_language_of_their_names(jobs: Path, output: str, beginning: str) -> None:
    ended = handoff("render", "jobs:sized", "2", "tag=few", "--output", output, cwd=jobs)

    assert ended.returncode == 0, ended.stderr
    written = ended.stdout if output == "-" else (jobs / output).read_text()
    assert written.startswith(beginning)


def test_render_knows_no_language_of_other_names(jobs: Path) -> None:
    refused = handoff("render", "jobs:fine", "--output", "dag.png", cwd=jobs)
    told = handoff("render", "jobs:fine", "--output", "dag.png", "--format", "svg", cwd=jobs)

    assert refused.returncode == 2
    assert "'dag.png' ends with none of .mmd, .mermaid, .dot, .gv, .svg" in refused.stderr
    assert told.returncode == 0
    assert (jobs / "dag.png").read_text().startswith("<svg")


def test_render_as_json_lists_functions_and_their_inputs(jobs: Path) -> None:
    ended = handoff("render", "jobs:sized", "1", "--json", cwd=jobs)

    assert json.loads(ended.stdout) == {
        "dag": "sized-all",
        "functions": [
            {"id": "0", "code": "point", "type": "regular", "cost": None, "inputs": []},
            {"id": "total", "code": "total", "type": "regular", "cost": None, "inputs": ["0"]},
        ],
    }
