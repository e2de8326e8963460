"""Mappings are kept from one job to the next that takes the same values, and never longer."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from handoff_actors.ids import WorkerId
from handoff_actors.store.mappings import KEPT_COUNT, KEPT_FROM_NBYTES, Mappings
from handoff_actors.wire.messages.jobs import Job, Ref
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template

NBYTES = KEPT_FROM_NBYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "value"
    path.write_bytes(b"1" * NBYTES)
    return path


def test_next_job_gets_the_mapping_of_the_last(path: Path) -> None:
    mappings = Mappings()
    first = mappings.map(path)
    mappings.settle()

    assert mappings.map(path) is first


def test_value_made_again_under_the_same_name_is_mapped_again(path: Path) -> None:
    mappings = Mappings()
    before = mappings.map(path)
    mappings.settle()
    again = path.with_name("again")
    again.write_bytes(b"2" * NBYTES)
    again.rename(path)

    after = mappings.map(path)

    assert (bytes(before[:1]), bytes(after[:1])) == (b"1", b"2")


def test_value_that_has_gone_to_disk_is_mapped_from_there(path: Path) -> None:
    mappings = Mappings()
    before = mappings.map(path)
    mappings.settle()
    spilled = path.with_name("spilled")
    spilled.write_bytes(path.read_bytes())
    link = path.with_name("link")
    link.symlink_to(spilled)
    link.rename(path)

    after = mappings.map(path)

    assert after is not before
    assert after[:] == before[:]


def test_job_that_does_not_take_a_value_ends_its_mapping(path: Path) -> None:
    mappings = Mappings()
    mappings.map(path)
    mappings.settle()

    mappings.settle()

    assert not mappings
    assert _mapped(os.getpid(), path.parent) == []


def test_small_value_is_not_kept(path: Path) -> None:
    path.write_bytes(b"1" * (NBYTES - 1))
    mappings = Mappings()
    mappings.map(path)

    assert not mappings


def test_job_of_many_values_keeps_only_so_many_mappings(tmp_path: Path) -> None:
    mappings = Mappings()
    for number in range(KEPT_COUNT + 1):
        (tmp_path / str(number)).write_bytes(b"1" * NBYTES)
        mappings.map(tmp_path / str(number))
    mappings.settle()

    assert len(_mapped(os.getpid(), tmp_path)) == KEPT_COUNT


def _ones() -> Any:
    import numpy  # noqa: ICN001, PLC0415 - it travels by value

    return numpy.ones(NBYTES // 8)


def _where(array: Any) -> int:
    return int(array.ctypes.data)


async def _where_later(array: Any) -> int:
    return int(array.ctypes.data)


def _accept(harness: PoolHarness, index: int) -> None:
    """Do what the node does with a stored result."""
    accepted = harness.store / f"{RUN:016x}-{index}"
    Path(f"{accepted}.1").rename(accepted)


async def _take_twice(harness: PoolHarness, worker: WorkerId, code: Any) -> list[int]:
    """Run two jobs in a row that take the same value; gives the address at which each has seen it."""
    templates = {0: template(_ones), 1: template(code, 1)}
    harness.pool.give(SYNC, RUN, templates, [job(1)], None)
    await harness.end_of(1)
    _accept(harness, 1)
    takers = [Job(index, 1, 1, [Ref(1, NBYTES, [""])], None) for index in (2, 3)]
    harness.pool.give(worker, RUN, templates, takers, None)
    await harness.end_of(2)
    await harness.end_of(3)
    return [harness.result(index) for index in (2, 3)]


@pytest.mark.processes
@pytest.mark.parametrize(("worker", "code"), [(SYNC, _where), (ASYNC, _where_later)])
async def test_idle_worker_maps_nothing(harness: PoolHarness, worker: WorkerId, code: Any) -> None:
    first, second = await _take_twice(harness, worker, code)

    assert first == second
    await _until_unmapped(harness, worker)


@pytest.mark.processes
async def test_worker_maps_nothing_of_a_run_that_is_forgotten(harness: PoolHarness) -> None:
    await _take_twice(harness, SYNC, _where)
    harness.pool.forget(RUN)

    await _until_unmapped(harness, SYNC)


async def _until_unmapped(harness: PoolHarness, worker: WorkerId) -> None:
    async with asyncio.timeout(10):
        while _mapped(harness.pids[worker], harness.store):
            await harness.call(SYNC if worker == ASYNC else ASYNC, len, b"")


def _mapped(pid: int, directory: Path) -> list[str]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if str(directory) in line]
