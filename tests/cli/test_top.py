"""`handoff top` in a terminal, and piped; `handoff nodes` while something runs."""

import asyncio
import fcntl
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import handoff_actors as handoff
from tests.cli.command import handoff as command, handoff_started
from tests.cli.terminal import Terminal, opened_terminal
from tests.daemons import HANDOFF, environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture
def cluster() -> Iterator[handoff.LocalCluster]:
    with handoff.LocalCluster(nodes=2, cpu=1, memory=1000) as made:
        yield made


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with opened_terminal(tmp_path) as opened:
        yield opened


@contextmanager
def busy(cluster: handoff.LocalCluster, gate: Path) -> Iterator[None]:
    """Meanwhile each node runs one function of a run."""

    def wait_at(path: str) -> bytes:
        handoff.current().set_progress(3, 10)
        with open(path, "rb") as shut:  # noqa: PTH123 - this is for the node
            fcntl.flock(shut, fcntl.LOCK_SH)
        return bytes(100_000)

    dag = handoff.DAG("nightly\n\x1b[2J")
    dag.call(int, id="quick")
    for number in range(2):
        dag.call(wait_at, str(gate), cost={"cpu": 1}, id=f"fit {number}")
    with gate.open("wb") as shut:
        fcntl.flock(shut, fcntl.LOCK_EX)
        app = Thread(target=cluster.run_sync, args=(dag,))
        app.start()
        yield
    app.join()


def shown(cluster: handoff.LocalCluster) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads(command("nodes", "--json", "--join", cluster.seeds[0]).stdout)
    return nodes


def serves_one(node: dict[str, Any]) -> bool:
    """True for a node that runs one function, and that the app has told of its progress, and of the function's id."""
    return [run["running"] for run in node["runs"]] == [node["running"]] == [1] and all(
        run["progress"] and [function for function in run["reporting"] if function["function"]]
        for run in node["runs"]
    )


def test_nodes_say_whose_runs_they_serve(cluster: handoff.LocalCluster, tmp_path: Path) -> None:
    with busy(cluster, tmp_path / "gate"):
        while not all(serves_one(node) for node in shown(cluster)):
            pass
        nodes = shown(cluster)
        piped = command("nodes", "--join", cluster.seeds[1]).stdout

    [first], [second] = (node["runs"] for node in nodes)
    reporting = [function for served in (first, second) for function in served.pop("reporting")]
    assert first == second
    assert sorted(reporting, key=repr) == [
        {"function": f"'fit {number}'", "done": 3, "total": 10} for number in range(2)
    ]
    assert (first["running"], first["queued"], first["stored"], first["closing"]) == (1, 0, 0, False)
    assert first["owner"].startswith(f"app-{os.uname().nodename}-{os.getpid()}-")
    assert first["dag"] == "nightly\n\x1b[2J"
    assert first["progress"] == {
        "functions": 3,
        "done": 1,
        "retried": 0,
        "failed": 0,
        "skipped": 0,
        "stages": [],
    }
    header, row = piped.split("\n\n")[1].splitlines()
    assert header.split() == ["run", "dag", "of", "nodes", "done", "running", "queued", "stored", "bytes"]
    dag = r"nightly\n\x1b[2J"
    assert row.split() == [first["run"], dag, first["owner"], "n1,", "n2", "1/3", "2", "0", "0"]
    header, *rows = piped.split("\n\n")[2].splitlines()
    assert header.split() == ["function", "run", "node", "done"]
    assert sorted(row.split()[-4:] for row in rows) == [
        [f"n{number}", "3/10", "(30", "%)"] for number in (1, 2)
    ]


async def test_nodes_say_which_stages_of_streams_they_run(cluster: handoff.LocalCluster) -> None:
    dag = handoff.DAG("nightly")
    number = dag.call(None, type="input", id="number")
    dag.call(abs, number, id="positive", cost={"cpu": 1}, parallelism=2)
    stages: list[dict[str, Any]] = []
    async with cluster.session() as session, session.stream(dag) as pipeline:
        for _ in range(3):
            await pipeline.call(-1)
        async with asyncio.timeout(20):
            while not stages:
                nodes = await asyncio.to_thread(shown, cluster)
                told = [run["progress"] for node in nodes for run in node["runs"]]
                stages = [stage for progress in told if progress for stage in progress["stages"]]
        text = await asyncio.to_thread(command, "top", "--once", "--join", cluster.seeds[0])

    assert stages[0] == {
        "function": "'positive'",
        "nodes": ["n1", "n2"],
        "workers": 2,
        "items": 3,
        "failed": 0,
        "queued": 0,
        "with_workers": 0,
    }
    assert re.search(r"'positive' +nightly +n1, n2 +2 +3 +0\n", text.stdout)


def test_a_node_that_does_not_answer_is_shown_without_its_runs(cluster: handoff.LocalCluster) -> None:
    os.kill(cluster.nodes[1].pid, signal.SIGSTOP)
    try:
        answering, frozen = shown(cluster)
    finally:
        os.kill(cluster.nodes[1].pid, signal.SIGCONT)

    assert (answering["name"], answering["runs"]) == ("n1", [])
    assert (frozen["name"], frozen["runs"]) == ("n2", None)


def start_top(terminal: Terminal, cluster: handoff.LocalCluster, *options: str, columns: int = 120) -> None:
    watched = [*HANDOFF, "top", "--join", cluster.seeds[0], "--interval", "0.2", *options]
    terminal.start(watched, environment(), columns=columns)


def assert_ended_well(terminal: Terminal) -> None:
    # stty tells that what is typed is shown again, and read by lines.
    screen = terminal.wait_for("exit status 0", " echo ", " icanon ")
    assert "Traceback" not in screen
    assert "workers" not in screen


def test_top_follows_runs_and_nodes(
    cluster: handoff.LocalCluster, terminal: Terminal, tmp_path: Path
) -> None:
    start_top(terminal, cluster)
    idle = terminal.wait_for("2 nodes, 0 runs, 0 running, 0 queued; spare cpu 2, memory 2000 of cpu 2")
    with busy(cluster, tmp_path / "gate"):
        shown = ("cpu 0/1, memory 1000/1000", r"nightly\n\x1b[2J", "1/3", "n1, n2", "'fit 1'", "3/10 (30 %)")
        working = terminal.wait_for("1 run, 2 running", *shown)
    terminal.wait_for("0 runs, 0 running")
    cluster.nodes[1].kill()
    terminal.wait_for("1 node, 0 runs")
    cluster.add({"gpu": 3})
    terminal.wait_for("2 nodes", "gpu 3/3")
    terminal.type("q")

    assert "q: quit" in idle
    assert f"app-{os.uname().nodename}-{os.getpid()}" in working
    assert_ended_well(terminal)


def test_ctrl_c_ends_top_and_leaves_the_terminal_as_it_was(
    cluster: handoff.LocalCluster, terminal: Terminal
) -> None:
    start_top(terminal, cluster)
    terminal.wait_for("2 nodes", "q: quit")
    terminal.type("C-c")

    assert_ended_well(terminal)


def test_top_fits_a_terminal_of_any_size(cluster: handoff.LocalCluster, terminal: Terminal) -> None:
    for _ in range(2):
        cluster.add()
    start_top(terminal, cluster, "--interval", "100", columns=80)
    terminal.wait_for("4 nodes", " n4 ", "cpu 1/1, memory 1000/1000", "q: quit")
    terminal.resize(60, 8)

    small = terminal.wait_for("2 more nodes; q: quit")
    assert " n2 " in small
    assert " n3 " not in small


def test_piped_top_writes_plain_looks_until_it_is_told_to_end(cluster: handoff.LocalCluster) -> None:
    with handoff_started("top", "--join", cluster.seeds[0], "--interval", "0.1") as top:
        assert top.stdout is not None
        summaries = [line for line, _ in zip(top.stdout, range(20), strict=False) if "nodes, 0 runs" in line]
        top.send_signal(signal.SIGINT)
        rest, errors = top.communicate()

    assert len(summaries) >= 3
    assert "\x1b" not in "".join(summaries) + rest
    assert (top.returncode, errors) == (0, "")


def test_top_once_is_one_look(cluster: handoff.LocalCluster) -> None:
    looked = command("top", "--once", "--join", cluster.seeds[0])

    assert looked.stdout.count("2 nodes, 0 runs") == 1
    assert looked.returncode == 0


def test_top_as_json_is_one_object_a_look(cluster: handoff.LocalCluster) -> None:
    looked = command("top", "--once", "--json", "--join", cluster.seeds[0])

    assert [node["name"] for node in json.loads(looked.stdout)["nodes"]] == ["n1", "n2"]


def test_top_of_no_cluster_says_so(tmp_path: Path) -> None:
    looked = command("top", "--join", "tcp://127.0.0.1:9", cwd=tmp_path)

    assert looked.returncode == 1
    assert looked.stderr.startswith("Error: ")
    assert looked.stderr.count("\n") == 1
