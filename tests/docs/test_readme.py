"""Every snippet of the README is run, as it stands there."""

import ast
import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons, environment
from tests.docs.readme import ROOT, commands, snippet, snippets
from tests.hosts.network import Host, HostNetwork

pytestmark = pytest.mark.processes

BIN = Path(sys.executable).parent
#: Commands that other tests, or users of them, cover: `scripts/demo` and `scripts/test`.
FIRST_SCREEN_LINES = 50
RUN_BY = {
    "import asyncio": "test_the_first_program_prints_what_it_says",
    "10.0.0.1": "test_two_machines_run_the_first_program",
    "scripts/demo": "test_the_scripts_are_there",
    "handoff nodes": "test_a_cluster_in_three_commands",
    "discover_nodes": "test_an_app_uses_the_cluster",
    'id="train"': "test_a_function_with_every_option",
    "dag.call": "test_the_builder",
    "run.release": "test_results",
    "FunctionFailed": "test_errors",
}


async def run(source: str, **names: Any) -> dict[str, Any]:
    """Run statements that may await, as in a notebook cell; return the names they leave."""
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    namespace: dict[str, Any] = {"handoff": handoff, **names}
    running = eval(code, namespace)
    if running is not None:
        await running
    return namespace


def run_program(source: str, *prefix: str, **variables: str) -> list[str]:
    command = [*prefix, sys.executable, "-c", source]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env=environment(**variables)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_snippet_has_its_test() -> None:
    for block in snippets("python") + snippets("sh"):
        tests = [test for text, test in RUN_BY.items() if text in block]

        assert len(tests) == 1, block
        assert tests[0] in globals()


def test_the_first_screen_has_what_it_is_the_dag_and_two_machines() -> None:
    first_screen = "\n".join(
        (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN_LINES]
    )

    assert all(
        text in first_screen for text in ("No broker", "execute_distributed", "--join tcp://10.0.0.1:7070")
    )


def test_the_first_program_prints_what_it_says() -> None:
    lines = run_program(snippet("python", "import asyncio"))

    assert lines[0] == "183"
    assert len(lines) == 2


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

    lines = run_program(snippet("python", "import asyncio"), *two_machines[1].prefix, **variables)

    assert program == "python"
    assert lines[0] == "183"
    assert lines[1] in {"n1", "n2"}


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


async def test_an_app_uses_the_cluster(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    [n1, _], _ = start_cluster(daemons)
    dag = handoff.new().add_function(handoff.Function("one", [], int))

    names = await run(
        snippet("python", "discover_nodes").replace("tcp://127.0.0.1:7070", n1.address), dag=dag
    )

    assert names["run"].allocations["one"] in {"n1", "n2"}
    assert "'n1': {'cpu': 2.0" in capsys.readouterr().out
    await handoff.shutdown()


async def test_a_function_with_every_option() -> None:
    source = snippet("python", 'id="train"')

    names = await run(source, train=lambda features, labels, rate: (features, labels, rate))
    dag = names["dag"].add_function(handoff.Function("features", [], int))
    dag.add_function(handoff.Function("labels", [], str))
    async with handoff.Session(local_node={"cpu": 4, "memory": 2000, "gpu": 1}) as session:
        done = await session.execute_distributed(dag)

    assert done.results["train"] == (0, "", 0.01)


async def test_the_builder(capsys: pytest.CaptureFixture[str]) -> None:
    await run(snippet("python", "dag.call"))
    await handoff.shutdown()

    assert capsys.readouterr().out == "60\n"


async def test_results() -> None:
    dag = handoff.new().add_function(handoff.Function("features", [], bytes, extra_args=[1_000_000]))
    dag.add_function(handoff.Function("count", ["features"], len))
    done = await handoff.execute_distributed(dag)

    names = await run(snippet("python", "run.release"), run=done)

    assert names["value"] == bytes(1_000_000)
    await handoff.shutdown()


async def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    dag = handoff.new().add_function(handoff.Function("seven", [], int, extra_args=["seven"], max_retries=0))

    await asyncio.wait_for(run(snippet("python", "FunctionFailed"), dag=dag), 20)
    await handoff.shutdown()

    printed = capsys.readouterr().out
    assert printed.startswith("seven ")
    assert "ValueError(\"invalid literal for int() with base 10: 'seven'\")" in printed
