"""Daemons whose log or output does not get out, or goes elsewhere."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from handoff_actors import DAG, Session
from tests.cli.command import handoff
from tests.daemons import HANDOFF, Daemons, environment

pytestmark = pytest.mark.processes

PIPE_NBYTES = 4096
ENDS_WITHIN_S = 15


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that takes nothing more until it is read."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_NBYTES)
    os.write(theirs, b"." * (PIPE_NBYTES - 1) + b"\n")
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(
    closing: ExitStack,
    address: str,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    redirected: str = "",
) -> "subprocess.Popen[bytes]":
    """A node with these streams, or as a shell redirects them."""
    options = ("--name", "n1", "--cpu", "1", "--listen", address, "--log-level", "debug")
    node = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", *HANDOFF, "node", *options],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )
    closing.callback(node.wait)
    closing.callback(node.kill)
    return node


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def nodes(address: str) -> list[dict[str, object]]:
    """The nodes as `handoff nodes` shows them, once it finds the cluster."""
    while True:
        looked = handoff("nodes", "--json", "--join", address)
        if looked.returncode == 0:
            found: list[dict[str, object]] = json.loads(looked.stdout)
            return found


def names(address: str) -> list[object]:
    return [node["name"] for node in nodes(address)]


async def run_on(address: str) -> int:
    dag = DAG()
    dag.call(print, "said", id="said")
    dag.call(sum, [1, 2], id="sum")
    async with Session(seeds=[address]) as session:
        run = await session.execute_distributed(dag)
        return int(run.results["sum"])


async def test_a_reader_of_stderr_that_stands_still_stops_nothing(
    full_pipe: tuple[int, int], closing: ExitStack
) -> None:
    ours, theirs = full_pipe
    node = started(closing, "tcp://127.0.0.1:0", subprocess.PIPE, theirs)
    assert node.stdout is not None
    with node.stdout:
        address = node.stdout.readline().decode().split()[4].rstrip(":")

    assert names(address) == ["n1"]
    assert await run_on(address) == 3

    os.set_blocking(ours, False)
    assert os.read(ours, PIPE_NBYTES).endswith(b".\n")
    node.terminate()
    os.set_blocking(ours, True)
    read = b""
    while b"draining" not in read:
        read += os.read(ours, PIPE_NBYTES)
    assert read.index(b"peer left") < read.index(b"draining")
    assert node.wait(ENDS_WITHIN_S) == 0


def test_a_reader_of_stderr_that_stands_still_does_not_hold_up_the_end(
    full_pipe: tuple[int, int], closing: ExitStack
) -> None:
    node = started(closing, free_address(), subprocess.PIPE, full_pipe[1])
    assert node.stdout is not None
    with node.stdout:
        assert node.stdout.readline()

    node.terminate()

    assert node.wait(ENDS_WITHIN_S) == 0


def test_an_error_at_the_end_does_not_wait_for_a_reader(
    full_pipe: tuple[int, int], closing: ExitStack
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        node = started(closing, address, subprocess.DEVNULL, full_pipe[1])

        assert node.wait(ENDS_WITHIN_S) == 1


async def test_a_reader_of_stdout_that_stands_still_stops_nothing(
    full_pipe: tuple[int, int], closing: ExitStack
) -> None:
    ours, theirs = full_pipe
    address = free_address()
    node = started(closing, address, theirs, subprocess.DEVNULL)
    assert names(address) == ["n1"]

    assert os.read(ours, PIPE_NBYTES).endswith(b".\n")
    assert os.read(ours, PIPE_NBYTES).startswith(b"node n1 serves at")
    os.write(theirs, bytes(PIPE_NBYTES))
    # What a function prints there waits, and with it the function, but nothing else.
    dag = DAG()
    dag.call(print, "said", id="said")
    async with Session(seeds=[address]) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, output=False))
        while not (await asyncio.to_thread(nodes, address))[0]["running"]:
            assert not running.done()
        running.cancel()
    node.terminate()
    assert node.wait(ENDS_WITHIN_S) == 0


@pytest.mark.parametrize("stream", ["2>/dev/full", "2>&-", ">&-", ">/dev/full", "<&- >&- 2>&-"])
async def test_streams_that_take_nothing_do_no_harm(stream: str, closing: ExitStack) -> None:
    address = free_address()
    node = started(closing, address, redirected=stream)

    assert names(address) == ["n1"]
    assert await run_on(address) == 3

    node.terminate()
    assert node.wait(ENDS_WITHIN_S) == 0


def test_json_lines_as_the_environment_says(daemons: Daemons) -> None:
    node = daemons.start(variables={"HANDOFF_LOG_FORMAT": "json", "HANDOFF_LOG_LEVEL": "debug"})
    names(node.address)

    assert node.terminate() == 0

    lines = [json.loads(line) for line in node.log().splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    assert [line["node"] for line in lines if line["message"] == "draining"] == [node.name]


def test_sighup_has_the_log_opened_anew_and_ends_nothing(daemons: Daemons, tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    node = daemons.start("--cpu", "1", "--log-level", "debug", "--log-file", str(path))
    processes = node.wait_for_workers(1)
    names(node.address)
    node.wait_until(lambda: "peer left" in path.read_text())

    path.rename(rotated)
    node.process.send_signal(signal.SIGHUP)
    node.wait_until(path.exists)

    names(node.address)
    assert node.family()[1:] == processes
    assert node.terminate() == 0
    assert "draining" in path.read_text()
    assert node.log() == ""


def test_a_log_file_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    refused = handoff("node", "--log-file", str(tmp_path / "none" / "log"))

    assert refused.returncode == 2
    assert "--log-file" in refused.stderr.splitlines()[-1]
    assert "No such file or directory" in refused.stderr.splitlines()[-1]
