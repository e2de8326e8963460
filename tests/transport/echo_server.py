"""Serves in a process of its own until it is killed. Prints its address."""

import asyncio

import uvloop

from handoff_actors.transport.zeromq import ZmqNetwork
from tests.transport.recorders import EchoService


async def serve() -> None:
    echo = EchoService()
    echo.service = ZmqNetwork().serve("tcp://127.0.0.1:0", echo)
    print(echo.service.address, flush=True)
    await asyncio.Event().wait()


uvloop.run(serve())
