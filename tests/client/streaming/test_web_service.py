"""A pipeline behind a FastAPI service, with a real server and clients that hang up."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain
from tests.processes.app import App


def service_of(pipeline: handoff.Pipeline) -> FastAPI:
    service = FastAPI()

    @service.get("/{number}")
    async def answer(number: int, request: Request) -> int:
        calling = asyncio.ensure_future(pipeline.call(number))
        watching = asyncio.ensure_future(cancel_when_client_goes(request, calling))
        try:
            return int(await calling)
        finally:
            watching.cancel()

    return service


async def cancel_when_client_goes(request: Request, calling: "asyncio.Future[object]") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    calling.cancel()


@asynccontextmanager
async def served(service: FastAPI) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(service, log_level="critical", lifespan="off"))
        serving = asyncio.ensure_future(server.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def test_requests_get_their_own_results_and_leave_nothing_when_clients_hang_up(app: App) -> None:
    async with (
        app.session.stream(chain(stages.slow, stages.double), in_flight=4) as pipeline,
        served(service_of(pipeline)) as address,
        httpx.AsyncClient(base_url=address, timeout=20) as client,
    ):

        async def ask(number: int) -> int | None:
            try:
                return int((await client.get(f"/{number}", timeout=0.03 if number % 2 else 20)).text)
            except httpx.TimeoutException:
                return None

        for _ in range(2):
            answers = await asyncio.gather(*map(ask, range(20)))
            assert answers[::2] == [2 * number for number in range(0, 20, 2)]
            assert None in answers[1::2]
        assert await pipeline.call(100) == 200
        await pipeline.drain()
        assert pipeline.report.in_flight == 0
    await app.until_idle()
