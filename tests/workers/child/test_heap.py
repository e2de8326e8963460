"""Memory that a worker's jobs free is kept for the next jobs, and given back in time."""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from handoff_actors.workers.child import heap
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness

#: More than glibc itself would ever keep of a block, and less than we do.
NBYTES = 100_000_000
PAGE_NBYTES = resource.getpagesize()

pytestmark = pytest.mark.processes


def _faults_of_a_block() -> int:
    """Fill a block, free it, and give the number of pages that the kernel provided for it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert len(b"1" * NBYTES) == NBYTES
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _own_nbytes() -> int:
    return _own_nbytes_of(psutil.Process())


def _own_nbytes_of(process: psutil.Process) -> int:
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


async def _run(harness: PoolHarness, code: Callable[[], int], *, claims_memory: bool = False) -> Any:
    return await harness.call_with(SYNC, code, (), (), {}, cost={"memory": 1.0} if claims_memory else None)


async def test_next_job_gets_the_block_that_the_last_one_has_freed(harness: PoolHarness) -> None:
    first = await _run(harness, _faults_of_a_block)
    second = await _run(harness, _faults_of_a_block)

    # With huge pages it takes fewer.
    assert first > 10 * second
    assert second < NBYTES // PAGE_NBYTES // 100


async def test_idle_worker_gives_back_the_memory_that_its_jobs_have_freed(harness: PoolHarness) -> None:
    before = await _run(harness, _own_nbytes)
    await _run(harness, _faults_of_a_block)
    process = psutil.Process(harness.pids[SYNC])
    kept = _own_nbytes_of(process)

    async with asyncio.timeout(20):
        while _own_nbytes_of(process) > before + NBYTES // 10:
            await harness.call(ASYNC, len, b"")

    assert kept > before + NBYTES // 2


def test_busy_worker_tidies_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[None] = []
    monkeypatch.setattr(heap, "take_blocks_from_heap", lambda *_limits: None)
    monkeypatch.setattr(heap, "trim_heap", lambda: trimmed.append(None))
    kept = heap.Heap(100.0)
    kept.keep(keeps=True)

    counts = []
    for now in (100.0, 100.1, 100.0 + heap.TIDIED_S, 100.1 + heap.TIDIED_S):
        kept.tidy(now)
        counts.append(len(trimmed))

    assert counts == [0, 0, 1, 1]


async def test_job_that_claims_memory_gives_a_block_back_when_it_frees_it(harness: PoolHarness) -> None:
    await _run(harness, _faults_of_a_block, claims_memory=True)

    assert await _run(harness, _faults_of_a_block, claims_memory=True) > 10


async def test_job_that_claims_memory_finds_no_memory_that_others_have_freed(harness: PoolHarness) -> None:
    before = await _run(harness, _own_nbytes)
    await _run(harness, _faults_of_a_block)

    assert await _run(harness, _own_nbytes, claims_memory=True) < before + NBYTES // 10
