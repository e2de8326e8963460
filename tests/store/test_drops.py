"""Single values are dropped from a node's store, whose names the next values of these indices take."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import ValueStore
from handoff_actors.store.recycling import LEAST_NBYTES
from tests.stored import values_in

RUN = RunId(7)
SMALL, LARGE = b"small", bytes(LEAST_NBYTES)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ValueStore]:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr("handoff_actors.store.files.memory_directory", lambda: memory)
    store = ValueStore("store", disk)
    yield store
    store.close()


def put(store: ValueStore, content: bytes, attempt: int = 1, index: int = 5) -> None:
    """Have a worker make a value, and accept it."""
    (store.directory / f"{RUN:016x}-{index}.{attempt}").write_bytes(content)
    store.keep(RUN, Index(index), attempt)


def content_of(store: ValueStore, index: int = 5) -> bytes | None:
    view = store.view(RUN, Index(index))
    return None if view is None else bytes(view)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.to_thread(time.sleep, 0)


async def spill(store: ValueStore) -> str:
    spilled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    store.spill(RUN, Index(5), spilled.set_result)
    return await spilled


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_next_value_of_a_dropped_ones_name_stays(store: ValueStore, content: bytes) -> None:
    put(store, content)
    assert content_of(store) == content

    store.drop(RUN, [Index(5)])
    gone = content_of(store)
    put(store, b"next", attempt=2)
    # What a thread removes later must not be this one.
    await until(lambda: not values_in(store.directory, f"{RUN:016x}-*dropped*"))

    assert gone is None
    assert content_of(store) == b"next"


async def test_nothing_of_dropped_values_is_left(store: ValueStore) -> None:
    for index in range(20):
        put(store, LARGE if index % 2 else SMALL, index=index)
    put(store, LARGE, index=50)
    kept = values_in(store.directory, "*-50")

    store.drop(RUN, [Index(index) for index in range(21)])
    await until(lambda: not values_in(store.directory, f"{RUN:016x}-*dropped*"))
    store.give_up_spares()

    assert values_in(store.directory) == kept
    assert not store._views


async def test_pages_of_a_large_value_are_kept_for_the_next_one(store: ValueStore) -> None:
    put(store, LARGE)

    store.drop(RUN, [Index(5)])
    await until(lambda: bool(values_in(store.directory, "spare-*")))

    assert [path.stat().st_size for path in values_in(store.directory)] == [LEAST_NBYTES]


async def test_spilled_value_is_dropped_with_its_link(store: ValueStore) -> None:
    put(store, LARGE)
    assert await spill(store) == ""
    assert store.is_on_disk(RUN, Index(5))

    store.drop(RUN, [Index(5)])
    await until(lambda: not values_in(store.disk))

    assert values_in(store.directory) == []


async def test_file_that_a_link_of_a_functions_own_leads_to_stays(store: ValueStore, tmp_path: Path) -> None:
    (tmp_path / "own").write_bytes(b"own")
    (store.directory / f"{RUN:016x}-5").symlink_to(tmp_path / "own")

    store.drop(RUN, [Index(5)])

    assert (tmp_path / "own").exists()
    assert values_in(store.directory) == []


async def test_value_that_is_dropped_while_it_is_being_spilled_is_not_taken_for_the_next_one(
    store: ValueStore,
) -> None:
    """Both may even have the same inode: a dropped file's pages are used again."""
    told: list[str] = []
    put(store, LARGE)
    store.spill(RUN, Index(5), told.append)

    store.drop(RUN, [Index(5)])
    put(store, bytes([1]) * LEAST_NBYTES, attempt=2)
    assert await spill(store) == ""

    assert told == []
    assert content_of(store) == bytes([1]) * LEAST_NBYTES
    await until(lambda: len(values_in(store.disk)) == 1)


async def test_unpacked_package_is_removed_with_its_value(store: ValueStore) -> None:
    put(store, SMALL)
    unpacked = store.disk / f"{RUN:016x}-5.unpacked"
    (unpacked / "inside").mkdir(parents=True)

    store.drop(RUN, [Index(5)])
    is_free = not unpacked.exists()
    await until(lambda: not values_in(store.disk))

    assert is_free


async def test_run_that_ends_meanwhile_takes_the_rest_along(store: ValueStore) -> None:
    put(store, LARGE)

    store.drop(RUN, [Index(5)])
    store.forget(RUN)
    await until(lambda: not values_in(store.directory, f"{RUN:016x}*"))
    store.give_up_spares()

    assert values_in(store.directory) == []


def test_what_an_attempt_has_left_of_some_indices_is_discarded(store: ValueStore) -> None:
    put(store, SMALL, index=7)
    for name in ("6.1", "7.1", "8.1", "9.1", "7.2", "7.11", "7.1.spare"):
        (store.directory / f"{RUN:016x}-{name}").write_bytes(SMALL)

    store.discard_all(RUN, range(7, 9), 1)

    left = {path.name.partition("-")[2] for path in store.directory.glob(f"{RUN:016x}-*")}
    assert left == {"7", "6.1", "9.1", "7.2", "7.11", "7.1.spare"}
