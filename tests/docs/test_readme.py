"""Every snippet of the README is run, as it stands there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemon, Daemons, environment
from tests.docs.reader import Notebook
from tests.docs.readme import ROOT, commands, snippet, snippets
from tests.hosts.network import Host, HostNetwork

pytestmark = pytest.mark.processes

BIN = Path(sys.executable).parent
#: Commands that other tests, or users of them, cover: `scripts/demo` and `scripts/test`.
FIRST_SCREEN_LINES = 50
RUN_BY = {
    "10.0.0.1": "test_two_machines_run_the_first_program",
    "scripts/demo": "test_the_scripts_are_there",
    "handoff nodes": "test_a_cluster_in_three_commands",
}


def run_program(source: str, *prefix: str, **variables: str) -> list[str]:
    command = [*prefix, sys.executable, "-c", source]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env=environment(**variables)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_command_has_its_test() -> None:
    for block in snippets("sh"):
        tests = [test for text, test in RUN_BY.items() if text in block]

        assert len(tests) == 1, block
        assert tests[0] in globals()


def test_the_first_screen_has_what_it_is_the_dag_and_two_machines() -> None:
    first_screen = "\n".join(
        (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN_LINES]
    )

    assert all(
        text in first_screen
        for text in (
            "No broker",
            "execute_distributed",
            "handoff.call(",
            "handoff.map(",
            "@handoff.task",
            "--join tcp://10.0.0.1:7070",
        )
    )


def test_the_scripts_are_there() -> None:
    for [script] in commands(snippet("sh", "scripts/demo")):
        assert os.access(ROOT / script, os.X_OK)


@pytest.fixture
def two_machines() -> Any:
    if os.geteuid() != 0 or not any(
        os.access(Path(place) / "ip", os.X_OK) for place in os.environ["PATH"].split(":")
    ):
        pytest.skip("network namespaces need root and iproute2's `ip`")
    with HostNetwork(2, "10.0.0") as network:
        yield network.hosts


@pytest.mark.hosts
def test_two_machines_run_the_first_program(
    two_machines: list[Host], daemons: Daemons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keygen, first, second, app = commands(snippet("sh", "10.0.0.1"))
    monkeypatch.chdir(tmp_path)
    subprocess.run([str(BIN / keygen[0]), *keygen[1:]], check=True)
    for host, words in zip(two_machines, (first, second), strict=True):
        assert words[:2] == ["handoff", "node"]
        daemons.start(*words[2:], prefix=host.prefix)
    *settings, program, _ = app
    variables = dict(setting.split("=") for setting in settings)

    lines = run_program(snippet("python", "run_sync"), *two_machines[1].prefix, **variables)

    assert program == "python"
    [line] = lines
    total, node = line.split()
    assert total == "180"
    assert node in {"n1", "n2"}


def start_cluster(daemons: Daemons) -> tuple[list[Daemon], list[str]]:
    """Run the three commands at free ports; return the nodes, and the last command."""
    first, second, look = commands(snippet("sh", "handoff nodes"))
    n1 = daemons.start(*(word.replace(":7070", ":0") for word in first[2:]))
    joined = [n1.address if word.endswith(":7070") else word.replace(":7071", ":0") for word in second[2:]]
    n2 = daemons.start(*joined)
    return [n1, n2], [n2.address if word.endswith(":7071") else word for word in look]


def test_a_cluster_in_three_commands(daemons: Daemons) -> None:
    _, look = start_cluster(daemons)

    shown = subprocess.run([str(BIN / look[0]), *look[1:]], check=True, capture_output=True, text=True).stdout

    assert "n1" in shown
    assert "n2" in shown


def test_every_python_snippet_prints_what_it_says(tmp_path: Path) -> None:
    with Notebook(tmp_path) as notebook:
        first, calls, nodes, options, builder, results, errors = map(notebook.run, snippets("python"))

    assert first.splitlines()[0].startswith("180 ")
    assert calls == "[8]\n[2]\n[4, 6]\n"
    assert nodes.startswith("{'n1': {'cpu': 2.0, ")
    assert options == ""
    assert builder == "60\n"
    assert results.startswith("1000000 StoredValue(node=")
    assert errors.startswith("seven ")
    assert "ValueError(\"invalid literal for int() with base 10: 'seven'\")" in errors
