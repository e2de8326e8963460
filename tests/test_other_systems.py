"""What works on systems other than Linux: simulated, in processes that lack what these systems lack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handoff_actors.wire.versions import VERSION
from tests.daemons import Daemons, environment

ROOT = Path(__file__).parents[1]
SYSTEMS = ["macos", "windows", "a_bare_windows"]
MACOS = "this is macOS: nodes and workers need Linux; an app here can use a cluster"
WINDOWS = "this is Windows: nodes and workers need Linux, and apps that use them Linux or macOS"
GRAPHS = """
import handoff_actors as handoff

names = {name: getattr(handoff, name) for name in handoff.__all__}
dag = handoff.new()
total = dag.call(sum, [1, 2], id="total", cost={"cpu": 1})
dag.call(print, total)
dag.validate()
print(dag.to_mermaid().splitlines()[0], dag.to_dot().splitlines()[0].split()[0])
"""
REFUSED = """
import asyncio
import handoff_actors as handoff

dag = handoff.new()
dag.call(sum, [1, 2])


async def enter(context):
    async with context:
        pass


for start in [
    lambda: handoff.run_sync(dag),
    lambda: asyncio.run(handoff.execute_distributed(dag)),
    lambda: asyncio.run(handoff.execute_local(dag)),
    lambda: asyncio.run(handoff.register_local_node({"cpu": 1})),
    lambda: asyncio.run(enter(handoff.Session(local_node={"cpu": 1}))),
    lambda: handoff.LocalCluster().start(),
    lambda: asyncio.run(enter(handoff.LocalCluster())),
    lambda: handoff.Executor().submit(sum, [1]),
]:
    try:
        start()
    except handoff.UnsupportedPlatform as error:
        print(error.platform, error)
"""
CLIENT = """
import asyncio
import logging
import sys

import handoff_actors as handoff

SEEDS = sys.argv[1:]
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)


def work(number):
    print("printed", number)
    logging.getLogger("work").info("logged %s", number)
    return number * 2


def fail():
    raise KeyError("mine")


async def main():
    async with handoff.Session(seeds=SEEDS) as session:
        dag = handoff.new()
        doubled = dag.call(work, 21, id="doubled", cost={"cpu": 1})
        large = dag.call(bytes, 5_000_000, id="large")
        dag.call(lambda number, large, sent: number + len(large) + len(sent), doubled, large, b"x" * 3_000_000, id="sum")
        run = await session.execute_distributed(dag, journal="run.db", working_dir=".", env_vars={"A": "b"}, progress=True)
        print(run.results["sum"], len(await run.results["large"]), set(run.allocations.values()))
        run.to_trace("trace.json")
        try:
            await session.execute_distributed(handoff.new().add_function(handoff.Function("f", [], fail)), max_retries=0)
        except handoff.FunctionFailed as error:
            print(repr(error.__cause__))
    await handoff.connect(SEEDS)
    print(await handoff.discover_nodes())
    await handoff.shutdown()


asyncio.run(main())
with handoff.Executor(seeds=SEEDS) as executor:
    print(list(executor.map(abs, [-1, -2])))
"""


def run_on(
    system: str, program: str, *arguments: str, directory: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own that lacks what the system lacks."""
    simulated = f"from tests.another_system import become_{system}\nbecome_{system}()\n{program}"
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", simulated, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=directory,
        env=environment(PYTHONPATH=paths),
    )


def command_on(system: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run_on(system, f"from handoff_actors.cli import main; main({list(words)!r})")


@pytest.mark.parametrize("system", SYSTEMS)
def test_graphs_are_built_and_drawn_and_every_name_is_there(system: str) -> None:
    done = run_on(system, GRAPHS)

    assert done.stdout == "graph TD; digraph\n", done.stderr


@pytest.mark.parametrize(
    ("system", "said"),
    [("macos", f"macOS {MACOS}"), ("windows", f"Windows {WINDOWS}"), ("a_bare_windows", "")],
)
def test_what_needs_a_node_says_so(system: str, said: str) -> None:
    program = REFUSED if said else "import handoff_actors\nhandoff_actors.run_sync(handoff_actors.new())"

    done = run_on(system, program)

    if said:
        assert [line.startswith(said) for line in done.stdout.splitlines()] == [True] * 8, done.stderr
    else:
        assert WINDOWS in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["background", "dask", "prometheus"])
def test_integrations_that_need_more_say_so_when_they_are_imported(name: str) -> None:
    done = run_on("windows", f"import handoff_actors.integrations.{name}")

    assert WINDOWS in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_command_tells_its_version(system: str) -> None:
    assert command_on(system, "--version").stdout == f"handoff {VERSION}\n"


@pytest.mark.parametrize(
    ("system", "words", "said"),
    [
        ("macos", ["node"], MACOS),
        ("macos", ["demo"], MACOS),
        ("windows", ["node"], WINDOWS),
        ("a_bare_windows", ["nodes", "--join", "tcp://127.0.0.1:9"], WINDOWS),
    ],
)
def test_commands_that_need_more_end_with_one_line(system: str, words: list[str], said: str) -> None:
    done = command_on(system, *words)

    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {said}")
    assert done.stderr.count("\n") == 1


def test_help_on_windows_lists_commands_that_work_there() -> None:
    commands = command_on("windows", "--help").stdout.partition("Commands:\n")[2]

    assert [line.split()[0] for line in commands.splitlines() if line[2:3].isalpha()] == [
        "render",
        "manifest",
        "keygen",
    ]


def test_a_manifest_can_be_made_on_windows() -> None:
    done = command_on("windows", "manifest", "kubernetes", "--image", "handoff:1", "--env", "LEVEL=3")

    assert (done.returncode, done.stderr) == (0, "")
    assert "kind: StatefulSet" in done.stdout


@pytest.mark.processes
def test_an_app_on_macos_uses_a_cluster(daemons: Daemons, tmp_path: Path) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "2")

    done = run_on("macos", CLIENT, daemon.address, directory=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "[n1 doubled] printed 21\n" in done.stdout
    assert "[n1 doubled] logged 21\n" in done.stdout
    assert "8000042 5000000 {'n1'}\n" in done.stdout
    assert "KeyError('mine')\n" in done.stdout
    assert "{'n1': {'cpu': 2.0, " in done.stdout
    assert done.stdout.endswith("[1, 2]\n")
    assert "3/3 done" in done.stderr


@pytest.mark.processes
def test_commands_on_macos_use_a_cluster(daemons: Daemons, tmp_path: Path) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "2")
    jobs = tmp_path / "jobs.py"
    jobs.write_text(GRAPHS, encoding="utf-8")

    nodes = command_on("macos", "nodes", "--join", daemon.address)
    top = command_on("macos", "top", "--once", "--join", daemon.address)
    run = command_on("macos", "run", f"{jobs}:dag", "--fetch", "total", "--join", daemon.address)

    assert "cpu 2" in nodes.stdout
    assert "cpu 2" in top.stdout
    assert "total = 3\n" in run.stdout, run.stderr
