"""Values beyond the store's limit: on disk and back, refused where nothing has room, and gone with their run."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons
from tests.processes import functions
from tests.processes.app import App
from tests.small_file_system import small_file_system
from tests.stored import values_in

pytestmark = pytest.mark.processes

MB = 1_000_000


def _producers(count: int, megabytes: int) -> handoff.DAG:
    """Values, then a sum of each."""
    dag = handoff.DAG()
    for number in range(count):
        dag.add_function(handoff.Function(number, [], functions.array, extra_args=[megabytes]))
        dag.add_function(handoff.Function(f"sum {number}", [number], functions.total))
    return dag


def _start(daemons: Daemons, *options: str) -> Daemon:
    """A node that can import what these tests have it run, and that checks itself."""
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    return daemons.start(*options, variables=variables)


def _bytes_in(directory: Path) -> int:
    """The bytes of a directory's files; links take none."""
    return sum(path.lstat().st_size for path in directory.iterdir() if not path.is_symlink())


@pytest.fixture
async def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """A node that keeps 50 MB in memory."""
    monkeypatch.setenv("HANDOFF_STORE_LIMIT", "50")
    monkeypatch.setenv("HANDOFF_SPILL_DIR", str(tmp_path))
    async with handoff.Session(seeds=()) as session:
        await session.register_local_node({"cpu": 2, "memory": 8000})
        app = App(session)
        yield app
    assert values_in(tmp_path) == []
    assert not app.node._store.directory.exists()


async def test_values_beyond_the_limit_are_on_disk_and_can_be_used(limited: App) -> None:
    store = limited.node._store

    run = await limited.run(_producers(10, 20))
    again = await run.fetch(0)

    assert [run.results[f"sum {number}"] for number in range(10)] == [20 * MB] * 10
    assert again.sum() == 20 * MB
    assert _bytes_in(store.disk) > 100 * MB
    assert _bytes_in(store.directory) < 100 * MB
    assert store.disk.stat().st_mode & 0o777 == 0o700
    await run.release()
    await limited.until_idle()


async def test_run_that_ends_while_its_values_are_written_leaves_nothing(
    daemons: Daemons, tmp_path: Path
) -> None:
    node = _start(daemons, "--cpu", "2", "--store-limit", "50", "--spill-dir", str(tmp_path))
    dag = handoff.DAG().add_function(handoff.Function("large", [], functions.array, extra_args=[200]))
    dag.add_function(handoff.Function("end", ["large"], lambda _: 1))

    async with handoff.Session(seeds=[node.address]) as session:
        for _ in range(5):
            run = await session.execute_distributed(dag)
            await run.release()

    node.wait_until(lambda: node.stored() == values_in(tmp_path, "*/*") == [])


async def test_full_disk_fails_the_function_with_sizes_and_later_ones_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_STORE_LIMIT", "50")
    monkeypatch.setenv("HANDOFF_SPILL_DIR", str(tmp_path))
    with small_file_system(tmp_path, "30m"):
        async with handoff.Session(seeds=()) as session:
            await session.register_local_node({"cpu": 1, "memory": 8000})
            app = App(session)
            with pytest.raises(handoff.FunctionFailed, match="there is no room for it") as caught:
                await app.run(_producers(10, 20))
            assert caught.value.run is not None
            await caught.value.run.release()
            await app.until_idle()
            run = await app.run(_producers(2, 20))
            sums = [run.results["sum 0"], run.results["sum 1"]]

    assert caught.value.kind == "store"
    assert "its result of 20.0 MB can't be stored" in caught.value.reason
    assert sums == [20 * MB, 20 * MB]


async def test_values_of_a_failed_run_give_way_to_those_of_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_STORE_LIMIT", "50")
    monkeypatch.setenv("HANDOFF_SPILL_DIR", str(tmp_path))
    with small_file_system(tmp_path, "30m"):
        async with handoff.Session(seeds=()) as session:
            await session.register_local_node({"cpu": 1, "memory": 8000})
            failing = _producers(3, 20)
            failing.add_function(handoff.Function("bad", [0, 1, 2], int, max_retries=0))
            with pytest.raises(handoff.FunctionFailed) as caught:
                await session.execute_distributed(failing)
            run = await session.execute_distributed(_producers(3, 20), retry_backoff=(0.2, 1, 0.2))
            sums = [run.results[f"sum {number}"] for number in range(3)]
            assert caught.value.run is not None
            with pytest.raises(handoff.NodeLost, match="result of function 0 is gone"):
                await caught.value.run.fetch(0)

    assert sums == [20 * MB] * 3


async def test_inputs_from_other_nodes_spill_too(daemons: Daemons, tmp_path: Path) -> None:
    first = _start(daemons, "--name", "n1", "--cpu", "1")
    _start(
        daemons,
        "--name",
        "n2",
        "--cpu",
        "1",
        "--join",
        first.address,
        "--store-limit",
        "30",
        "--spill-dir",
        str(tmp_path),
    )
    dag = handoff.DAG()
    for number in range(5):
        dag.add_function(handoff.Function(number, [], functions.array, extra_args=[20], node="n1"))
        dag.add_function(handoff.Function(f"sum {number}", [number], functions.total, node="n2"))

    async with handoff.Session(seeds=[first.address]) as session:
        run = await session.execute_distributed(dag)
        spilled = values_in(tmp_path, "*/*")

    assert [run.results[f"sum {number}"] for number in range(5)] == [20 * MB] * 5
    assert len(spilled) >= 3


async def test_killed_node_leaves_nothing_on_disk(daemons: Daemons, tmp_path: Path) -> None:
    node = _start(daemons, "--cpu", "1", "--store-limit", "10", "--spill-dir", str(tmp_path))
    async with handoff.Session(seeds=[node.address]) as session:
        run = await session.execute_distributed(_producers(3, 20))
        assert values_in(tmp_path, "*/*") != []
        node.kill()
        del run

    assert values_in(tmp_path) == []


@pytest.mark.timeout(120)
async def test_fifty_runs_of_much_data_leave_memory_as_it_was(daemons: Daemons) -> None:
    node = _start(daemons, "--cpu", "2")
    process = psutil.Process(node.process.pid)
    dag = _producers(1, 100)
    async with handoff.Session(seeds=[node.address]) as session:
        await (await session.execute_distributed(dag)).release()
        before = process.memory_info().rss
        for _ in range(50):
            run = await session.execute_distributed(dag)
            assert run.results["sum 0"] == 100 * MB
            await run.release()
        node.wait_until(lambda: node.stored() == [])
        after = process.memory_info().rss

    assert after < before + 20 * MB
