"""Commands and daemons whose standard streams are closed, full, or read by nobody."""

import asyncio
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path
from typing import IO

import pytest

import handoff_actors as handoff
from handoff_actors.wire.versions import VERSION
from tests.daemons import HANDOFF, environment

pytestmark = pytest.mark.processes

#: Each way to have, or not to have, stdin, stdout and stderr.
CLOSED = [" ".join(ways) for ways in product(("", "<&-"), (">&-", ">/dev/full"), ("", "2>&-", "2>/dev/full"))]


def ended(command: str, streams: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *HANDOFF, *command.split()],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("streams", CLOSED)
def test_a_command_without_streams_ends_as_it_would_with_them_and_says_if_its_output_is_lost(
    streams: str,
) -> None:
    end = ended("--version", streams)

    is_lost = "full" in streams.split("2>", maxsplit=1)[0]
    assert end.returncode == (1 if is_lost else 0)
    is_said = is_lost and "2>" not in streams
    assert end.stderr == ("Error: stdout can't be written to: No space left on device\n" if is_said else "")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{' '.join(HANDOFF)} --help | true; {' '.join(HANDOFF)} --version | head -1"

    end = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)

    assert (end.stdout, end.stderr) == (f"handoff {VERSION}\n", "")


PRINTS = """
import handoff_actors as handoff
dag = handoff.new()
dag.call(lambda: print("printed") or 3, id="a")
"""


@pytest.mark.parametrize("option", ["", "--json"])
def test_results_reach_stdout_where_stderr_takes_nothing(option: str, tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(PRINTS)

    end = ended(f"run {tmp_path}/graph.py:dag {option}", "2>/dev/full")

    assert end.returncode == 0
    assert '"a": 3' in end.stdout if option else "a = 3" in end.stdout


def print_much() -> int:
    for _ in range(2000):
        print("x" * 100)
    return 7


async def run_without_output(address: str) -> object:
    dag = handoff.new()
    dag.call(print_much, id="a")
    async with handoff.Session([address]) as session:
        return (await session.execute_distributed(dag, output=False, timeout=20)).results["a"]


@contextmanager
def unread_pipe() -> Iterator[IO[bytes]]:
    """A pipe that is full."""
    ours, theirs = os.pipe()
    while select.select([], [theirs], [], 0)[1]:
        os.write(theirs, b"x" * select.PIPE_BUF)
    with os.fdopen(theirs, "wb") as pipe, os.fdopen(ours, "rb"):
        yield pipe


@contextmanager
def full_disk() -> Iterator[IO[bytes]]:
    with Path("/dev/full").open("wb") as full:
        yield full


@pytest.mark.parametrize("stdout", [unread_pipe, full_disk])
def test_a_node_that_cannot_write_to_stdout_serves_and_runs_functions_that_print(
    stdout: Callable[[], AbstractContextManager[IO[bytes]]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with stdout() as descriptor:
        node = subprocess.Popen(
            [*HANDOFF, "node", "--cpu", "1", "--listen", address],
            env=environment(),
            stdout=descriptor,
            stderr=subprocess.PIPE,
        )
        try:
            assert asyncio.run(run_without_output(address)) == 7
            node.terminate()
            assert node.wait(15) == 0
        finally:
            node.kill()
            node.communicate()


HOSTS = {b"plain": "plain-", b"a\tb\x1b[2J": "a-b-[2J-", b"\xff": "--", b"": "node-"}
NAMED_AFTER = """
import ctypes, os, sys
from handoff_actors.actors.node.hosting import _name_of_host
from handoff_actors.text import is_name
# CLONE_NEWUTS
ctypes.CDLL(None).unshare(0x04000000)
name = bytes.fromhex(sys.argv[1])
assert ctypes.CDLL(None).sethostname(name, len(name)) == 0
made = _name_of_host()
assert is_name(made), made
print(made)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a host name of its own")
@pytest.mark.parametrize("host", HOSTS)
def test_default_name_can_be_shown_whatever_the_host_is_called(host: bytes) -> None:
    made = subprocess.run(
        [sys.executable, "-c", NAMED_AFTER, host.hex()], capture_output=True, text=True, check=True
    )

    assert made.stdout.startswith(HOSTS[host])
