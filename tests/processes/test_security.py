"""Access to a node: members may do anything, others nothing."""

import asyncio
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import handoff_actors as handoff
from handoff_actors.ids import RunId
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.jobs import Job, Template
from handoff_actors.wire.messages.members import Hello
from handoff_actors.wire.messages.runs import Assign
from handoff_actors.wire.payload import joined_code
from handoff_actors.wire.versions import VERSION
from tests.daemons import Daemon, Daemons

pytestmark = pytest.mark.processes

KEY = ClusterKey.generate()
OTHER_KEY = ClusterKey.generate()
LARGE = 1_000_000
NOBODY, ROOT = 65534, 0
#: Far less than any time limit of ours that a hang would wait for.
SECONDS = 8.0


@pytest.fixture
def keyed_node(daemons: Daemons) -> Daemon:
    return start(daemons, "n1", KEY)


def start(daemons: Daemons, name: str, key: ClusterKey | None, *options: str) -> Daemon:
    variables = {} if key is None else {"HANDOFF_KEY": key.text()}
    return daemons.start("--name", name, "--cpu", "1", *options, variables=variables)


def across_two_nodes() -> handoff.DAG:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("made", [], bytes, extra_args=[LARGE], node="n1"))
    return dag.add_function(handoff.Function("counted", ["made"], len, node="n2"))


@pytest.mark.parametrize("key", [KEY, KEY.text()], ids=["object", "text"])
async def test_cluster_with_a_key_runs_and_moves_values(daemons: Daemons, key: ClusterKey | str) -> None:
    n1 = start(daemons, "n1", KEY)
    start(daemons, "n2", KEY, "--join", n1.address)

    async with handoff.Session(seeds=[n1.address], key=key) as session:
        run = await session.execute_distributed(across_two_nodes(), fetch=["made"])

    assert run.results["counted"] == LARGE
    assert run.results["made"] == bytes(LARGE)
    assert run.report["counted"].moved_nbytes > LARGE


@pytest.mark.parametrize(
    ("theirs", "ours"), [(KEY, OTHER_KEY), (KEY, None), (None, KEY)], ids=["wrong", "none", "theirs is none"]
)
async def test_connecting_with_the_wrong_key_is_an_error_in_seconds(
    daemons: Daemons, theirs: ClusterKey | None, ours: ClusterKey | None
) -> None:
    node = start(daemons, "n1", theirs)
    session = handoff.Session(seeds=(), key=ours)

    async with asyncio.timeout(SECONDS):
        with pytest.raises(handoff.AuthenticationError, match=node.address):
            await session.connect([node.address])

    await session.close()


async def test_executing_with_the_wrong_key_is_an_error_in_seconds(
    keyed_node: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_SEEDS", keyed_node.address)
    monkeypatch.setenv("HANDOFF_KEY", OTHER_KEY.text())
    dag = handoff.DAG().add_function(handoff.Function("one", [], int))

    async with asyncio.timeout(SECONDS):
        with pytest.raises(handoff.AuthenticationError):
            await handoff.execute_distributed(dag)

    await handoff.shutdown()


async def test_node_that_comes_back_with_another_key_is_not_used(daemons: Daemons) -> None:
    before = start(daemons, "n1", KEY)
    dag = handoff.DAG().add_function(handoff.Function("one", [], int))
    async with handoff.Session(seeds=[before.address], key=KEY) as session:
        await session.execute_distributed(dag)
        before.kill()
        start(daemons, "n1", OTHER_KEY, "--listen", before.address)

        async with asyncio.timeout(SECONDS):
            with pytest.raises(handoff.AuthenticationError):
                await session.connect([before.address])


# --- Pickles of strangers ---------------------------------------------------------------------------------------


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkfifo, (str(self._file),)


def hostile_frame(file: Path) -> bytes:
    """A function whose code, constants and argument are each a hostile pickle."""
    bad = pickle.dumps(Hostile(file))
    code = joined_code(bad, ())
    template = Template(
        0, b"digest", by_reference=False, code=code, is_async=False, as_list=False, cost={}, timeout=None
    )
    hello = Hello(PROTOCOL, VERSION, PYTHON, "stranger", None)
    return encode([hello, Assign(RunId(1), [template], [Job(0, 1, 0, [bad], bad)])])


@pytest.fixture
def stranger() -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        yield socket


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["plaintext", "another key"])
def test_hostile_pickle_of_a_stranger_is_never_loaded(
    keyed_node: Daemon, stranger: "zmq.Socket[bytes]", tmp_path: Path, key: ClusterKey | None
) -> None:
    if key is not None:
        Curve(key).protect_client(stranger)

    stranger.connect(keyed_node.address)
    stranger.send(hostile_frame(tmp_path / "loaded"))
    keyed_node.wait_for_log("stranger refused")

    assert not (tmp_path / "loaded").exists()
    assert keyed_node.terminate() == 0
    assert not (tmp_path / "loaded").exists()


def test_the_same_pickle_of_a_member_is_loaded(
    keyed_node: Daemon, stranger: "zmq.Socket[bytes]", tmp_path: Path
) -> None:
    """Otherwise the test above would prove nothing."""
    Curve(KEY).protect_client(stranger)

    stranger.connect(keyed_node.address)
    stranger.send(hostile_frame(tmp_path / "loaded"))

    keyed_node.wait_until((tmp_path / "loaded").exists)


# --- Other users of the machine ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_other_users_can_neither_list_nor_read_the_store(daemons: Daemons) -> None:
    node = start(daemons, "n1", KEY)
    dag = handoff.DAG().add_function(handoff.Function("made", [], bytes, extra_args=[LARGE]))
    dag.add_function(handoff.Function("counted", ["made"], len))
    async with handoff.Session(seeds=[node.address], key=KEY) as session:
        run = await session.execute_distributed(dag)
        [file] = node.stored()
        modes = [path.stat().st_mode & 0o777 for path in (node.store, file)]

        seen = {
            user: [can(user, "ls", str(node.store)), can(user, "cat", str(file))] for user in (NOBODY, ROOT)
        }

    assert run.results["counted"] == LARGE
    assert modes == [0o700, 0o600]
    assert seen == {NOBODY: [False, False], ROOT: [True, True]}


def can(user: int, *command: str) -> bool:
    """True if a command succeeds for a user."""
    done = subprocess.run(command, user=user, group=user, extra_groups=[], capture_output=True, check=False)
    return done.returncode == 0
