from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.workers.announcement import Announcement
from tests.workers.pool_harness import ASYNC, SYNC, PoolHarness, assert_ended


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[PoolHarness]:
    """A sync and an async worker, ready for jobs; no process or file of them may be left afterwards."""
    made = PoolHarness(tmp_path / "store")
    await made.pool.start()
    made.pool.spawn(SYNC, is_async=False)
    made.pool.spawn(ASYNC, is_async=True)
    yield made
    await made.pool.close()
    assert not made.store.exists()
    for pid in filter(psutil.pid_exists, made.pids.values()):
        assert_ended(psutil.Process(pid))


@pytest.fixture
async def announcement(tmp_path: Path) -> AsyncIterator[Announcement]:
    made = Announcement(tmp_path / "announcement")
    yield made
    made.close()
