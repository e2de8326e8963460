"""Large values: written once to the store, mapped from there, and a full store is an error like others."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handoff_actors.wire.messages.jobs import Job, Ref
from tests.docs.quotes import check_quoted
from tests.small_file_system import small_file_system
from tests.stored import values_in
from tests.workers.pool_harness import RUN, SYNC, JobFailed, PoolHarness, job, template

pytestmark = pytest.mark.processes


def _accept(harness: PoolHarness, index: int) -> Path:
    """Do what the node does with a stored result."""
    accepted = harness.store / f"{RUN:016x}-{index}"
    Path(f"{accepted}.1").rename(accepted)
    return accepted


def _halves(nbytes: int) -> Any:
    import numpy  # noqa: ICN001, PLC0415 - it travels by value

    return {"one": numpy.arange(nbytes // 16), "two": numpy.ones(nbytes // 16)}


def _sum_of_ones(halves: Any) -> int:
    return int(halves["two"].sum())


def _describe(value: Any) -> Any:
    arrays = (value["one"], value["two"])
    return [(int(array.sum()), array.flags.writeable, array.ctypes.data % 64) for array in arrays]


async def test_large_result_is_stored_and_mapped_by_its_consumer(harness: PoolHarness) -> None:
    nbytes = 200_000_000
    templates = {0: template(_halves), 1: template(_describe, 1)}
    harness.pool.give(SYNC, RUN, templates, [job(1, nbytes)], None)
    await harness.end_of(1)
    stored = _accept(harness, 1)

    harness.pool.give(
        SYNC, RUN, templates, [Job(2, 1, 1, [Ref(1, harness.stored_nbytes(1), [""])], None)], None
    )
    await harness.end_of(2)

    count = nbytes // 16
    assert harness.stored_nbytes(1) == stored.stat().st_size > nbytes
    assert stored.stat().st_mode & 0o777 == 0o600
    assert harness.result(2) == [(count * (count - 1) // 2, False, 0), (count, False, 0)]


async def test_result_at_the_limit_is_inline_and_one_above_is_stored(harness: PoolHarness) -> None:
    overhead = len(b"\x80\x05\x95" + bytes(8) + b"B" + bytes(4) + b"\x94.")
    limit = 64 * 1024

    assert await harness.call(SYNC, bytes, limit - overhead) == bytes(limit - overhead)
    assert await harness.call(SYNC, bytes, limit - overhead + 1) == limit + 1


async def test_missing_input_is_an_input_failure(harness: PoolHarness) -> None:
    with pytest.raises(JobFailed, match=f"the value of function 77 is not in {harness.store}") as caught:
        await harness.call_with(SYNC, np.sum, [Ref(77, 100, [""])], (), {})

    assert caught.value.kind == "input"


async def test_attempts_never_write_over_one_another(harness: PoolHarness) -> None:
    (harness.store / f"{RUN:016x}-1.1").write_bytes(b"another's")

    harness.pool.give(SYNC, RUN, {0: template(_halves)}, [job(1, 1_000_000)], None)
    await harness.end_of(1)

    assert harness.failed[1][0] == "store"
    assert (harness.store / f"{RUN:016x}-1.1").read_bytes() == b"another's"


@pytest.fixture(params=[False, True], ids=["without a disk", "with a full disk"])
async def small_store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[PoolHarness]:
    """A harness whose store is on a file system of 1 MB, and whose disk, if it has one, is on the same."""
    with small_file_system(tmp_path, "1m"):
        harness = PoolHarness(tmp_path / "store", disk=tmp_path / "disk" if request.param else None)
        await harness.pool.start()
        harness.pool.spawn(SYNC, is_async=False)
        yield harness
        await harness.pool.close()


async def test_full_store_is_a_failure_that_names_sizes_and_leaves_nothing(small_store: PoolHarness) -> None:
    with pytest.raises(JobFailed) as caught:
        await small_store.call(SYNC, bytes, 2_000_000)

    assert caught.value.kind == "store"
    check_quoted("troubleshooting.md", "a result of 20.0 MB: there is no room for it", caught.value.reason)
    assert "1.0 MB of 1.0 MB are free" in caught.value.reason
    assert values_in(small_store.store) == []
    assert await small_store.call(SYNC, bytes, 500_000) > 500_000


async def test_value_that_memory_has_no_room_for_goes_to_disk_and_is_found_by_its_name(
    tmp_path: Path,
) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    with small_file_system(memory, "1m"):
        harness = PoolHarness(memory / "store", disk=disk)
        await harness.pool.start()
        harness.pool.spawn(SYNC, is_async=False)
        templates = {0: template(_halves), 1: template(_sum_of_ones, 1)}
        harness.pool.give(SYNC, RUN, templates, [job(1, 2_000_000)], None)
        await harness.end_of(1)
        _accept(harness, 1)
        nbytes = harness.stored_nbytes(1)
        files = [path.stat().st_size for path in values_in(disk)]
        harness.pool.give(SYNC, RUN, templates, [Job(2, 1, 1, [Ref(1, nbytes, [""])], None)], None)
        await harness.end_of(2)
        await harness.pool.close()

    assert files == [nbytes]
    assert harness.result(2) == 125_000
    assert not disk.exists()
