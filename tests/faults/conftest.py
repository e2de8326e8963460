import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons
from tests.faults.watchdog import Watchdog

StartNode = Callable[..., Daemon]
OpenSession = Callable[[Daemon], AbstractAsyncContextManager[handoff.Session]]


@pytest.fixture
def start_node(daemons: Daemons) -> StartNode:
    """Starts a node of two cores that can import what these tests have it run."""

    def start(name: str, *options: str) -> Daemon:
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
        return daemons.start("--name", name, "--cpu", "2", *options, variables=paths)

    return start


@asynccontextmanager
async def watched_session(member: Daemon) -> AsyncIterator[handoff.Session]:
    """A session whose runs may never stand still without a reason."""
    async with handoff.Session(seeds=[member.address]) as session:
        watchdog = Watchdog(session)
        try:
            yield session
        finally:
            watchdog.close()
        assert watchdog.complaints == []


@pytest.fixture
def open_session() -> OpenSession:
    return watched_session
