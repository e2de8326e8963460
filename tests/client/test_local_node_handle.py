"""The handle of a node in this process: what it says, and what its end leaves."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import handoff_actors as handoff
from tests.client import functions
from tests.daemons import Daemons

pytestmark = pytest.mark.processes

LISTEN = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def _nothing_goes_wrong_in_us(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def square(node: str | None = None) -> handoff.DAG:
    dag = handoff.new()
    dag.call(pow, 3, 2, id="square", node=node)
    return dag


def paths_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def where(session: handoff.Session, dag: handoff.DAG) -> str:
    """The name of the node on which a session runs a function."""
    return (await session.execute_distributed(dag)).allocations["square"]


async def test_handle_says_what_the_node_is() -> None:
    async with handoff.Session(seeds=()) as session:
        node = await session.register_local_node({"cpu": 2, "license": 1}, name="here")

        assert isinstance(node, handoff.LocalNodeHandle)
        assert (node.name, node.address) == ("here", "")
        assert node.capabilities == {"cpu": 2.0, "license": 1.0}
        assert repr(node) == "<LocalNodeHandle 'here': {'cpu': 2.0, 'license': 1.0}>"


async def test_capabilities_are_those_last_declared() -> None:
    async with handoff.Session(seeds=()) as session:
        node = await session.register_local_node({"cpu": 2}, name="here")
        node.capabilities["cpu"] = 64.0

        await session.register_node("here", {"cpu": 1, "gpu": 1})

        assert node.capabilities == {"cpu": 1.0, "gpu": 1.0}


@pytest.mark.parametrize("name", ["name", "address", "capabilities"])
async def test_handle_cannot_be_assigned_to(name: str) -> None:
    async with handoff.Session(seeds=()) as session:
        node = await session.register_local_node({"cpu": 1})

        with pytest.raises(AttributeError):
            setattr(node, name, "other")


async def test_closed_node_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_STORE_DIR", str(tmp_path))
    before = set(psutil.Process().children(recursive=True))
    async with handoff.Session(seeds=()) as session:
        node = await session.register_local_node({"cpu": 1}, listen=LISTEN)
        assert node.address.startswith("tcp://127.0.0.1:")
        await session.execute_distributed(square())
        assert paths_in(tmp_path)

        await node.close()

        assert set(psutil.Process().children(recursive=True)) <= before
        assert paths_in(tmp_path) == []


async def test_session_without_its_node_gets_another_for_the_next_run() -> None:
    async with handoff.Session(seeds=()) as session:
        first = await session.register_local_node({"cpu": 1}, name="first", listen=LISTEN)
        await first.close()
        await first.close()

        assert await where(session, square()) != "first"


async def test_another_node_may_be_registered_after_the_end_of_one() -> None:
    async with handoff.Session(seeds=()) as session:
        first = await session.register_local_node({"cpu": 1}, name="first")
        with pytest.raises(handoff.HandoffError, match="has a node already: 'first'"):
            await session.register_local_node({"cpu": 1})
        await asyncio.gather(first.close(), first.close())

        second = await session.register_local_node({"cpu": 2}, name="second")
        await first.close()

        assert await session.discover_nodes() == {"second": {"cpu": 2.0}}
        assert await where(session, square()) == second.name == "second"


async def test_session_that_is_opened_again_has_another_node() -> None:
    session = handoff.Session(seeds=())
    for _ in range(2):
        async with session:
            assert (await session.execute_distributed(square())).results["square"] == 9


async def test_node_that_cannot_join_its_cluster_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_STORE_DIR", str(tmp_path))
    async with handoff.Session(seeds=()) as session:
        with pytest.raises(handoff.ConnectionFailed):
            await session.register_local_node({"cpu": 1}, listen=LISTEN, seeds=["tcp://127.0.0.1:1"])
        assert paths_in(tmp_path) == []

        second = await session.register_local_node({"cpu": 1}, name="second")

        assert await where(session, square()) == second.name


async def test_node_of_a_closed_session_may_be_closed() -> None:
    async with handoff.Session(seeds=()) as session:
        node = await session.register_local_node({"cpu": 1})

    await node.close()


async def test_session_that_ends_meanwhile_waits_for_the_nodes_end() -> None:
    before = set(psutil.Process().children(recursive=True))
    async with handoff.Session(seeds=()) as session, asyncio.TaskGroup() as tasks:
        node = await session.register_local_node({"cpu": 1})
        tasks.create_task(node.close())
        tasks.create_task(session.close())

    assert set(psutil.Process().children(recursive=True)) <= before


async def test_module_gives_a_handle_too() -> None:
    node = await handoff.register_local_node({"cpu": 1}, name="here")
    try:
        assert await handoff.discover_nodes() == {"here": node.capabilities}
        await node.close()
    finally:
        await handoff.shutdown()


# --- In a cluster -----------------------------------------------------------------------------------------------


class Seen:
    """An `on_event` that notes what becomes of a function, and tells when it has started."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.started = asyncio.Event()

    def __call__(self, event: handoff.RunEvent) -> None:
        if event.function_id == "square":
            self.kinds.append(event.kind)
        if event.kind == "started":
            self.started.set()


async def until_there_are(session: handoff.Session, *names: str) -> None:
    """Wait until a session knows just these nodes."""
    async with asyncio.timeout(10):
        while set(await session.discover_nodes()) != set(names):
            await session._hub._connections._next_change()


async def test_runs_go_on_where_other_nodes_are(daemons: Daemons, tmp_path: Path) -> None:
    other = daemons.start("--name", "other", "--cpu", "2", "--workers", "1")
    goal, seen, dag = tmp_path / "goal", Seen(), handoff.new()
    dag.call(functions.wait_for, str(goal), id="square")
    async with (
        handoff.Session([other.address], modules_by_value=[functions]) as session,
        asyncio.TaskGroup() as tasks,
    ):
        # First by name, and there for the first function.
        node = await session.register_local_node(
            {"cpu": 1}, name="here", listen=LISTEN, seeds=[other.address]
        )
        policy = "first_available"
        running = tasks.create_task(
            session.execute_distributed(dag, allocation_strategy=policy, on_event=seen)
        )
        await seen.started.wait()

        await node.close()
        goal.touch()

        assert (await running).allocations == {"square": "other"}
        assert seen.kinds == ["assigned", "started", "lost", "assigned", "started", "completed"]
        assert list(await session.discover_nodes()) == ["other"]


async def test_other_members_see_it_go_and_the_next_one_come(daemons: Daemons) -> None:
    other = daemons.start("--name", "other", "--cpu", "1")
    async with (
        handoff.Session(seeds=[other.address]) as session,
        handoff.Session([other.address]) as observer,
    ):
        for name in ("first", "second"):
            node = await session.register_local_node(
                {"cpu": 1}, name=name, listen=LISTEN, seeds=[other.address]
            )
            await until_there_are(observer, "other", name)
            assert set(await session.discover_nodes()) == {"other", name}
            assert await where(observer, square(name)) == name
            await node.close()

        await until_there_are(observer, "other")
        assert await where(session, square()) == "other"


async def test_links_to_other_nodes_outlive_it(daemons: Daemons, tmp_path: Path) -> None:
    other = daemons.start("--name", "other", "--cpu", "1")
    goal, seen, dag = tmp_path / "goal", Seen(), handoff.new()
    dag.call(functions.wait_for, str(goal), id="square", node="other")
    async with handoff.Session((), modules_by_value=[functions]) as session, asyncio.TaskGroup() as tasks:
        node = await session.register_local_node({"cpu": 1}, listen=LISTEN, seeds=[other.address])
        running = tasks.create_task(session.execute_distributed(dag, on_event=seen))
        await seen.started.wait()

        await node.close()
        goal.touch()

        await running
        assert seen.kinds == ["assigned", "started", "completed"]


async def test_large_values_come_to_a_node_that_is_registered_later(daemons: Daemons) -> None:
    other = daemons.start("--name", "other", "--cpu", "1")
    async with handoff.Session(seeds=[other.address]) as session:
        await session.register_local_node({"cpu": 1}, name="here")
        dag = handoff.new()
        made = dag.call(bytes, 1_000_000, node="other")
        dag.call(len, made, id="length", node="here")

        run = await session.execute_distributed(dag)

        assert run.results["length"] == 1_000_000
