"""Nodes, apps and commands that find one another by a directory, with real processes."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from handoff_actors.transport.keys import ClusterKey
from tests.cli.command import handoff, handoff_started
from tests.daemons import Daemon, Daemons, environment

pytestmark = pytest.mark.processes

APP = "import handoff_actors as h; d = h.new(); d.call(sum, [1, 2]); print(list(h.run_sync(d).results.values()))"
LOCAL_NODE = """
import asyncio, sys, handoff_actors as h
async def main():
    async with h.Session(join_file=sys.argv[1], local_node={"cpu": 1}, name="app") as session:
        while len(nodes := await session.discover_nodes()) < 2:
            await asyncio.sleep(0.02)
        print(sorted(nodes))
asyncio.run(main())
"""
CONNECTED = """
import asyncio, sys, handoff_actors as h
async def main():
    await h.connect(join_file=sys.argv[1])
    print(sorted(await h.discover_nodes()))
asyncio.run(main())
"""
NONE: Mapping[str, str] = {}
WAIT = ("--join-wait", "30")


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "join")


def node_files(directory: str) -> list[str]:
    return [path.name for path in Path(directory).glob("*.node")]


def start(daemons: Daemons, directory: str, name: str, **variables: str) -> Daemon:
    return daemons.start("--name", name, "--cpu", "1", "--join-file", directory, variables=variables)


def members(directory: str, variables: Mapping[str, str] = NONE) -> list[str]:
    listed = handoff("nodes", "--json", "--join-file", directory, cwd=None, **variables)
    assert listed.returncode == 0, listed.stderr
    return [member["name"] for member in json.loads(listed.stdout)]


def app(*arguments: str, source: str = APP, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_nodes_apps_and_commands_need_neither_address_nor_key(daemons: Daemons, directory: str) -> None:
    # The user's own key would do on one machine.
    others = {"XDG_STATE_HOME": "/nonexistent"}
    first, second = (start(daemons, directory, name, **others) for name in ("j1", "j2"))

    assert members(directory, others) == ["j1", "j2"]
    assert app(HANDOFF_JOIN_FILE=directory, **others).communicate(timeout=30) == ("[3]\n", "")
    assert app(directory, source=CONNECTED, **others).communicate(timeout=30) == ("['j1', 'j2']\n", "")
    assert first.terminate() == 0
    assert members(directory, others) == ["j2"]
    assert second.terminate() == 0
    assert node_files(directory) == []


def test_apps_and_commands_may_start_before_any_node_and_before_the_directory(
    daemons: Daemons, directory: str
) -> None:
    waiting = app(HANDOFF_JOIN_FILE=directory, HANDOFF_JOIN_WAIT="30")
    with handoff_started("nodes", "--join-file", directory, *WAIT) as looking:
        start(daemons, directory, "late")

        assert "late" in looking.communicate(timeout=30)[0]
    assert waiting.communicate(timeout=30) == ("[3]\n", "")


def test_a_command_that_finds_no_member_says_where_it_has_looked(directory: str) -> None:
    alone = handoff("nodes", "--join-file", directory)

    assert alone.returncode == 1
    assert directory in alone.stderr
    assert "no member has kept a file there lately" in alone.stderr


def test_members_that_each_believed_to_be_alone_find_one_another(daemons: Daemons, directory: str) -> None:
    first = start(daemons, directory, "j1")
    # As if the file server showed its file late.
    first.process.send_signal(signal.SIGSTOP)
    [file] = node_files(directory)
    (Path(directory) / file).unlink()
    second = start(daemons, directory, "j2")
    first.process.send_signal(signal.SIGCONT)

    for node, other in ((first, "j2"), (second, "j1")):
        node.wait_for_log(f"member up member='{other}'")


def test_killed_members_are_in_nobodys_way(daemons: Daemons, directory: str) -> None:
    start(daemons, directory, "j1").kill()

    second = start(daemons, directory, "j2")
    third = start(daemons, directory, "j3")

    assert len(node_files(directory)) == 3
    assert members(directory) == ["j2", "j3"]
    assert (second.terminate(), third.terminate()) == (0, 0)
    silent = handoff("nodes", "--join-file", directory)
    assert "as if they had been killed" in silent.stderr


def test_two_clusters_with_keys_of_their_own_may_share_a_directory(daemons: Daemons, directory: str) -> None:
    ours, theirs = ({"HANDOFF_KEY": ClusterKey.generate().text()} for _ in range(2))
    node, other = start(daemons, directory, "n1", **ours), start(daemons, directory, "n1", **theirs)

    assert members(directory, ours) == members(directory, theirs) == ["n1"]
    assert not (Path(directory) / "cluster.key").exists()
    assert "refused" not in node.log() + other.log()


def test_a_node_does_not_take_the_name_of_one_that_lives(daemons: Daemons, directory: str) -> None:
    start(daemons, directory, "n1")

    second = handoff("node", "--name", "n1", "--join-file", directory)

    assert second.returncode == 1
    assert "name n1 is in use" in second.stderr
    assert len(node_files(directory)) == 1


def test_a_node_within_an_app_joins_too(daemons: Daemons, directory: str) -> None:
    start(daemons, directory, "n1")

    assert app(directory, source=LOCAL_NODE).communicate(timeout=30) == ("['app', 'n1']\n", "")
    assert len(node_files(directory)) == 1


def test_a_directory_that_can_not_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refused = handoff("node", "--join-file", str(tmp_path / "file"))

    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert f"the join directory {tmp_path / 'file'} can't be used" in refused.stderr


def test_a_node_that_listens_where_it_likes_can_be_reached_from_other_machines(
    daemons: Daemons, directory: str
) -> None:
    node = daemons.start("--join-file", directory, "--listen", "tcp://*:0")

    assert "*" not in node.address
    assert members(directory) == [node.name]
