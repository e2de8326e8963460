"""The lines that a node logs, as an operator reads them."""

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

import handoff_actors as handoff
from tests.cli.command import handoff as handoff_command
from tests.daemons import Daemon, Daemons, environment
from tests.docs.quotes import check_quoted

pytestmark = pytest.mark.processes


@pytest.fixture
def node(daemons: Daemons) -> Daemon:
    return daemons.start("--name", "n1", "--cpu", "1", "--store-limit", "1", "--log-format", "json")


def lines(node: Daemon, message: str) -> list[dict[str, Any]]:
    read = map(json.loads, node.log().splitlines())
    return [line for line in read if line["message"] == message]


def line(node: Daemon, message: str) -> dict[str, Any]:
    """The only line of its kind, once it is there."""
    node.wait_for_log(message)
    (only,) = lines(node, message)
    return only


def raise_it() -> None:
    raise ValueError("no such luck\nat all")


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def end() -> None:
    os._exit(3)


async def run(node: Daemon, function: Any, *args: object, **options: Any) -> None:
    dag = handoff.DAG("nightly")
    dag.call(function, *args, id="it", **options)
    async with handoff.Session(seeds=[node.address]) as session:
        await session.execute_distributed(dag, on_failure="continue")


async def test_peers_come_and_go_and_runs_open_and_close_by_their_names(node: Daemon) -> None:
    await run(node, sum, [1, 2])

    closed = line(node, "run closed")
    came, left, opened = line(node, "peer came"), line(node, "peer left"), line(node, "run opened")
    assert came["peer"].startswith(f"app-{socket.gethostname()}-{os.getpid()}")
    assert left["peer"] == came["peer"] == opened["app"]
    assert {name: closed[name] for name in ("node", "run", "dag", "app", "done", "failed")} == {
        "node": "n1",
        "run": opened["run"],
        "dag": "nightly",
        "app": opened["app"],
        "done": 1,
        "failed": 0,
    }
    assert 0 <= closed["seconds"] < 30


async def test_a_failed_attempt_is_told_with_its_function_and_reason(
    node: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    await run(node, raise_it, max_retries=0)

    told = line(node, "attempt failed")
    assert (told["dag"], told["function"], told["attempt"], told["kind"]) == ("nightly", 0, 1, "exception")
    assert told["reason"] == "ValueError: no such luck\nat all"
    (for_good,) = [record for record in caplog.records if record.message == "function failed for good"]
    assert vars(for_good)["run"] == told["run"]
    assert vars(for_good)["function"] == "it"


@pytest.mark.parametrize(
    ("function", "args", "how"),
    [(die, [signal.SIGSEGV.value], {"signal": "SIGSEGV"}), (end, [], {"exit_code": 3})],
)
async def test_a_worker_that_dies_is_told_with_its_function(
    node: Daemon, function: Any, args: list[int], how: dict[str, object]
) -> None:
    await run(node, function, *args, max_retries=0)

    # A function that may have shared its worker is not blamed for the first death.
    node.wait_for_log("worker died")
    told = lines(node, "worker died")[0]
    assert {name: told[name] for name in how} == how
    assert (told["dag"], told["function"], told["held"], told["level"]) == ("nightly", 0, 1, "warning")
    assert told["ran_s"] < 30


async def test_spilling_is_told_once_and_not_for_each_value(node: Daemon) -> None:
    dag = handoff.DAG("large")
    for number in range(6):
        dag.call(bytes, 600_000, id=number)
    async with handoff.Session(seeds=[node.address]) as session:
        await session.execute_distributed(dag, fetch=[])

    assert line(node, "spill begun")["limit_nbytes"] == 1_000_000


def test_a_peer_of_another_version_is_refused_by_its_name(node: Daemon) -> None:
    command = [sys.executable, "-P", "-m", "tests.processes.other_version", "node", "--name", "n2"]
    refused = subprocess.run(
        [*command, "--listen", "tcp://127.0.0.1:0", "--join", node.address],
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )

    check_quoted("troubleshooting.md", "Error: node n1 refuses n2", refused.stderr)
    told = line(node, "member refused")
    assert (told["peer"], told["times"]) == ("n2", 1)


def test_a_node_whose_name_is_taken_is_refused_by_that_name(node: Daemon) -> None:
    refused = handoff_command("node", "--name", "n1", "--listen", "tcp://127.0.0.1:0", "--join", node.address)

    assert refused.returncode == 1
    told = line(node, "member refused")
    assert (told["peer"], "is in use" in told["reason"]) == ("n1", True)


async def test_of_many_runs_few_are_told_and_the_others_counted(node: Daemon) -> None:
    dag = handoff.DAG("short")
    dag.call(int, id="it")
    async with handoff.Session(seeds=[node.address]) as session:
        for _ in range(150):
            await session.execute_distributed(dag)

    assert 100 <= len(lines(node, "run opened")) < 150
    assert len(lines(node, "run closed")) == len(lines(node, "run opened"))
