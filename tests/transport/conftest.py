import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop

from handoff_actors.transport.zeromq import ZmqNetwork
from tests.transport.recorders import SERVER_SCRIPT, Server


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def zmq_network() -> AsyncIterator[ZmqNetwork]:
    network = ZmqNetwork()
    yield network
    await network.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A process of its own that serves."""
    command = [sys.executable, str(SERVER_SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(SERVER_SCRIPT.parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield Server(address, process)
        process.kill()
