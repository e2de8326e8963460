"""Values that are in a store under several names."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import ValueStore
from handoff_actors.store.recycling import LEAST_NBYTES

EARLIER, LATER = RunId(1), RunId(2)
INDEX = Index(0)
CONTENT = b"x" * LEAST_NBYTES


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ValueStore]:
    # One thread does one thing after another.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    store = ValueStore("links", tmp_path, store_dir=tmp_path)
    yield store
    store.close()


@pytest.fixture
async def linked(store: ValueStore) -> ValueStore:
    """A store with a value of one run that another one takes, too."""
    landing = store.land(EARLIER, INDEX, 1, len(CONTENT))
    landing.write(0, memoryview(CONTENT))
    landing.finish()
    assert store.link((EARLIER, INDEX), LATER, Index(5)) == len(CONTENT)
    return store


def content(store: ValueStore, run: RunId, index: Index) -> bytes:
    view = store.view(run, index)
    assert view is not None
    return bytes(view)


async def forget(store: ValueStore, run: RunId) -> None:
    store.forget(run)
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def spill(store: ValueStore, run: RunId, index: Index) -> str:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    store.spill(run, index, done.set_result)
    return await done


async def test_a_linked_value_is_the_same_file(linked: ValueStore) -> None:
    assert linked.path(EARLIER, INDEX).samefile(linked.path(LATER, Index(5)))
    assert content(linked, LATER, Index(5)) == CONTENT


async def test_a_linked_value_stays_without_its_first_name_and_is_not_written_over(
    linked: ValueStore,
) -> None:
    await forget(linked, EARLIER)

    assert not linked.path(EARLIER, INDEX).exists()
    assert content(linked, LATER, Index(5)) == CONTENT
    assert [path for path in linked.directory.iterdir() if path.name.startswith("spare-")] == []


async def test_a_linked_value_goes_to_disk_under_all_names(linked: ValueStore) -> None:
    assert content(linked, LATER, Index(5)) == CONTENT

    assert await spill(linked, EARLIER, INDEX) == ""

    assert linked.is_on_disk(EARLIER, INDEX)
    assert linked.is_on_disk(LATER, Index(5))
    assert linked.path(EARLIER, INDEX).samefile(linked.path(LATER, Index(5)))
    await forget(linked, EARLIER)
    assert content(linked, LATER, Index(5)) == CONTENT


async def test_a_value_on_disk_is_linked_there(linked: ValueStore) -> None:
    await spill(linked, EARLIER, INDEX)

    linked.link((EARLIER, INDEX), LATER, Index(6))

    assert linked.is_on_disk(LATER, Index(6))
    await forget(linked, EARLIER)
    assert content(linked, LATER, Index(6)) == CONTENT
    await forget(linked, LATER)
    assert [path for path in linked.disk.iterdir() if "spilled" in path.name] == []


async def test_a_value_that_is_gone_has_no_second_name(store: ValueStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.link((EARLIER, INDEX), LATER, Index(5))
