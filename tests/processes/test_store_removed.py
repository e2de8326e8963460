"""The directories of a running node's store are removed, as systemd and cleaners of temporary directories do."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import handoff_actors as handoff
from handoff_actors.store.directories import MARKER
from tests.daemons import Daemons
from tests.docs.quotes import check_quoted

pytestmark = pytest.mark.processes

LARGE = 200_000


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    daemons = Daemons()
    yield daemons
    daemons.close()


def make(number: int) -> bytes:
    return bytes([number]) * LARGE


def remove(path: str, once: str) -> None:
    """Remove a file or a directory with all that is in it, unless that was done before."""
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if Path(path).is_dir():
        shutil.rmtree(path)
    else:
        Path(path).unlink()


def make_without_store(store: str, once: str, number: int) -> bytes:
    remove(store, once)
    return make(number)


def remove_values(store: str, once: str, *_: object) -> int:
    for path in Path(store).glob("*-*"):
        remove(str(path), once)
    return 1


def remove_store(store: str, once: str, *_: object) -> int:
    remove(store, once)
    return 1


def measure(*values: object) -> int:
    return sum(len(value) for value in values if isinstance(value, bytes))


async def test_store_that_is_removed_between_runs_is_made_anew(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1")
    dag = handoff.new()
    dag.call(measure, *[dag.call(make, number, id=("made", number)) for number in range(3)], id="length")
    async with handoff.Session(seeds=[node.address]) as session:
        for _ in range(2):
            run = await session.execute_distributed(dag, max_retries=0)
            assert run.results["length"] == 3 * LARGE
            shutil.rmtree(node.store)
        node.wait_until(node.store.exists)
        await run.release()

    assert node.store.stat().st_mode & 0o777 == 0o700
    node.wait_for_log("RemoveIPC")
    assert node.terminate() == 0
    assert node.leftovers() == []


async def test_result_is_stored_by_another_attempt_that_costs_no_retry(
    daemons: Daemons, tmp_path: Path
) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1")
    dag = handoff.new()
    made = dag.call(make_without_store, str(node.store), str(tmp_path / "once"), 1)
    dag.call(measure, made, id="length")
    async with handoff.Session(seeds=[node.address]) as session:
        run = await session.execute_distributed(dag, max_retries=0)

        assert run.results["length"] == LARGE
        assert node.log().count("store lost") == 1
        await run.release()


@pytest.mark.parametrize("removal", [remove_store, remove_values])
async def test_values_that_are_removed_are_made_again_and_cost_no_retry(
    daemons: Daemons, tmp_path: Path, removal: Callable[..., int]
) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1")
    dag = handoff.new()
    made = dag.call(make, 1, id="made")
    removed = dag.call(removal, str(node.store), str(tmp_path / "once"), made)
    dag.call(measure, made, removed, id="length")
    async with handoff.Session(seeds=[node.address]) as session:
        run = await session.execute_distributed(dag, max_retries=0)

        assert run.results["length"] == LARGE
        assert run.report["made"].attempts == 2
        await run.release()


async def test_marker_that_a_cleaner_removes_is_put_back(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1")
    (node.store / MARKER).unlink()

    node.wait_until((node.store / MARKER).exists)

    assert node.terminate() == 0
    assert node.leftovers() == []


async def test_spilled_values_that_are_removed_are_made_again(daemons: Daemons, tmp_path: Path) -> None:
    (tmp_path / "spill").mkdir()
    spill = "--store-limit", "0.1", "--spill-dir", str(tmp_path / "spill")
    node = daemons.start("--name", "n1", "--cpu", "1", *spill)
    dag = handoff.new()
    made = [dag.call(make, number, id=("made", number)) for number in range(3)]
    async with handoff.Session(seeds=[node.address]) as session:
        [place] = (tmp_path / "spill").iterdir()
        removed = dag.call(remove_store, str(place), str(tmp_path / "once"), *made)
        dag.call(measure, *made, removed, id="length")

        run = await session.execute_distributed(dag, max_retries=0)

        assert run.results["length"] == 3 * LARGE
        node.wait_for_log("store lost")
        check_quoted("troubleshooting.md", "ERROR store lost", node.log())
        await run.release()
