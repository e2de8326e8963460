import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.processes.app import App, descendants
from tests.workers.announcement import Announcement


@pytest.fixture
async def app(caplog: pytest.LogCaptureFixture) -> AsyncIterator[App]:
    """Two cores. Afterwards no process, claim, value or file of it may be left, and nothing may have gone wrong in us."""
    before = set(descendants())
    async with handoff.Session(seeds=()) as session:
        await session.register_local_node({"cpu": 2, "memory": 8000})
        app = App(session)
        yield app
    assert not app.node._store.directory.exists()
    assert set(descendants()) <= before
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture
async def announcement(tmp_path: Path) -> AsyncIterator[Announcement]:
    made = Announcement(tmp_path / "announcement")
    yield made
    made.close()
