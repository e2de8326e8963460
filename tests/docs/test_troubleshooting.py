"""The page "When something is wrong": each line that it quotes is what is printed when that is provoked.

Some are checked where other tests provoke the same; all by `check_quoted`.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.daemons import HANDOFF, Daemon, Daemons, environment
from tests.docs.quotes import check_quoted, quoted
from tests.processes import functions
from tests.small_file_system import small_file_system

pytestmark = pytest.mark.processes

PAGE = "troubleshooting.md"
TESTS = Path(__file__).parents[1]
CHECKS = re.compile(r'check_quoted\(\s*(?:PAGE|"troubleshooting\.md"),\s*"([^"]+)"')


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return new_key(tmp_path / "cluster.key")


def new_key(path: Path) -> Path:
    path.write_text(handoff.ClusterKey.generate().text(), encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def node(daemons: Daemons, key_file: Path) -> Daemon:
    return daemons.start("--name", "n1", "--cpu", "1", "--memory", "1000", "--key-file", str(key_file))


def printed_by(*commands: tuple[str, ...]) -> list[str]:
    """All that each of these commands of `handoff`, which have to fail, writes to stderr. They run at the same time."""
    running = [
        subprocess.Popen([*HANDOFF, *words], stderr=subprocess.PIPE, text=True, env=environment())
        for words in commands
    ]
    printed = [each.communicate()[1] for each in running]
    assert all(each.returncode for each in running)
    return printed


def test_every_quote_is_checked() -> None:
    sources = [path for path in TESTS.rglob("test_*.py") if "troubleshooting.md" in path.read_text("utf-8")]
    checked = [text for path in sources for text in CHECKS.findall(path.read_text("utf-8"))]

    assert [line for line in quoted(PAGE) if not line.startswith(tuple(checked))] == []


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which something listens that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_no_node_answers(silent: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refusing = f"tcp://127.0.0.1:{free.getsockname()[1]}"

        refused, unanswered, unknown = printed_by(
            *(("ping", "--timeout", "0.5", each) for each in (refusing, silent, "tcp://nowhere.invalid:7070"))
        )

    check_quoted(PAGE, "no node answered at tcp://10.0.0.1:7070: connection refused", refused)
    check_quoted(PAGE, "no node answered at tcp://10.0.0.1:7070: no answer", unanswered)
    check_quoted(PAGE, "no node answered at tcp://nowhere.invalid:7070", unknown)


def test_keys(node: Daemon, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other.key")

    readable = new_key(tmp_path / "readable.key")
    readable.chmod(0o644)

    wrong, refused = printed_by(
        ("ping", "--timeout", "20", node.address, "--key-file", str(other)),
        ("nodes", "--join", node.address, "--key-file", str(readable)),
    )

    node.wait_for_log("stranger refused")
    check_quoted(PAGE, "the node at tcp://10.0.0.1:7070 and this process don't hold", wrong)
    check_quoted(PAGE, "WARNING stranger refused", node.log())
    check_quoted(PAGE, "the key file readable.key has mode 0644", refused)


def test_nodes_that_can_not_start(node: Daemon, key_file: Path) -> None:
    key = ("--key-file", str(key_file))

    port, name, loopback, nowhere = printed_by(
        ("node", *key, "--listen", node.address),
        ("node", *key, "--name", "n1", "--listen", "tcp://127.0.0.1:0", "--join", node.address),
        ("node", *key, "--join", "tcp://10.0.0.1:7070"),
        ("node", *key, "--listen", "tcp://0.0.0.0:7070"),
    )

    check_quoted(PAGE, "Error: tcp://127.0.0.1:7070 is in use", port)
    check_quoted(PAGE, "Error: name n1 is in use", name)
    check_quoted(PAGE, "WARNING member refused", node.log())
    check_quoted(PAGE, "Error: the members at tcp://10.0.0.1:7070 can't reach", loopback)
    check_quoted(PAGE, "Error: --advertise: 'tcp://0.0.0.0:7070' is no address", nowhere)


async def test_functions_that_wait_or_fail(node: Daemon, key_file: Path) -> None:
    key = handoff.ClusterKey.from_file(key_file)
    failing = [handoff.new() for _ in range(3)]
    failing[0].call(needs_a_module, id="module", max_retries=0)
    failing[1].call(functions.grow_and_wait, 300, id="grow", cost={"memory": 100}, max_retries=0)
    failing[2].call(os._exit, 3, id="gone")
    waiting = handoff.DAG("waiting")
    waiting.call(time.sleep, 0.5, id="first", cost={"cpu": 1})
    for number in range(8):
        waiting.call(time.sleep, 0.0, id=number, cost={"cpu": 1})
    waiting.call(int, id="big", cost={"gpu": 1})
    async with handoff.Session([node.address], key=key) as session:
        begun = asyncio.Event()
        running = asyncio.ensure_future(
            session.execute_distributed(waiting, allocation_timeout=0.2, on_event=lambda _: begun.set())
        )
        await begun.wait()
        reasons = [reason for each in session.explain("waiting") for reason in each.nodes.values()]
        with pytest.raises(handoff.AllocationError) as none:
            await running
        errors = [await error_of(session, dag) for dag in failing]

    check_quoted(PAGE, "offers {'cpu': 1.0, 'memory': 1000.0}, which is less", "\n".join(reasons))
    check_quoted(PAGE, "has {'cpu': 0.0, 'memory': 1000.0}", "\n".join(reasons))
    check_quoted(PAGE, "function 'big' needs {'gpu': 1.0}, which no node offers", str(none.value))
    check_quoted(PAGE, "ModuleNotFoundError: No module named 'shapes'", errors[0])
    check_quoted(PAGE, "function 'grow' failed on node 'n1' after 1 attempt(s): it claims", errors[1])
    check_quoted(PAGE, "WARNING worker killed", node.log())
    check_quoted(PAGE, "function 'gone' failed on node 'n1' after 3 attempt(s): the worker", errors[2])


async def test_values_that_do_not_fit(daemons: Daemons, tmp_path: Path) -> None:
    with small_file_system(tmp_path, "1m"):
        node = daemons.start("--name", "n1", "--cpu", "1", "--store-limit", "1", "--spill-dir", str(tmp_path))
        dag = handoff.new()
        # The disk is found full while the next ones are made.
        for number in range(20):
            dag.call(make_a_value, 800_000, id=number, max_retries=0)
        async with handoff.Session([node.address]) as session:
            with pytest.raises(handoff.FunctionFailed) as caught:
                await session.execute_distributed(dag, fetch=[])
        node.terminate()

    check_quoted(PAGE, "its result of 20.0 MB can't be stored", caught.value.reason)
    check_quoted(PAGE, "ERROR disk takes no more values", node.log())


def make_a_value(nbytes: int) -> bytes:
    time.sleep(0.02)
    return bytes(nbytes)


def needs_a_module() -> None:
    import shapes  # type: ignore[import-not-found]  # noqa: F401, PLC0415


async def error_of(session: handoff.Session, dag: handoff.DAG) -> str:
    with pytest.raises(handoff.HandoffError) as caught:
        await session.execute_distributed(dag)
    return str(caught.value)


async def test_a_node_that_is_killed_while_it_drains(daemons: Daemons) -> None:
    first = daemons.start("--name", "n1", "--cpu", "1")
    killed = daemons.start("--name", "n2", "--cpu", "1", "--join", first.address)
    dag = handoff.new()
    dag.add_function(handoff.Function("long", [], time.sleep, extra_args=[60.0], node="n2"))
    begun, lost = asyncio.Event(), list[str]()

    def notice(event: handoff.events.RunEvent) -> None:
        match event:
            case handoff.events.Started():
                begun.set()
            case handoff.events.Lost(reason=reason):
                lost.append(reason)

    async with handoff.Session([first.address]) as session:
        running = asyncio.ensure_future(
            session.execute_distributed(dag, allocation_timeout=0.1, on_event=notice)
        )
        await begun.wait()
        killed.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(killed.wait_for_log, "draining")
        killed.kill()
        with pytest.raises(handoff.NodeLost):
            await running

    check_quoted(PAGE, "INFO draining", killed.log())
    check_quoted(PAGE, "node 'n2' was lost: the connection", "\n".join(lost))
