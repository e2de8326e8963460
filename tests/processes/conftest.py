import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import zmq

import handoff_actors as handoff
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.user_key import user_key
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


@pytest.fixture
def mute_seed() -> Iterator[str]:
    """The address of a member that lets others connect, and then says nothing: its event loop stands still."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        Curve(user_key()).protect_server(router)
        yield f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
