"""A web service, made with FastAPI, that has one open run for all requests: each adds its calls to it.

POST   /estimates    waits for the answer; if the client hangs up first, the calls are cancelled and their cores are free
GET    /health       whether the run goes on

Once the run has ended, as the service does, nothing is left. It may be open for months: calls that are done leave nothing
behind.

pip install '.[examples]'
python examples/fastapi_calls.py                            on this machine's cores
uvicorn --app-dir examples fastapi_calls:app                the same; HANDOFF_SEEDS=tcp://HOST:PORT: on a cluster
curl -d '{"samples": 1000000}' -H 'Content-Type: application/json' http://127.0.0.1:8000/estimates
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypedDict

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

import handoff_actors as handoff

#: The most calls that are under way; further requests wait for as long as this, and are then refused.
MOST_PENDING = 1000
BUSY_AFTER_S = 2.0
#: The status that proxies log for a client that has gone. No client sees it.
CLIENT_CLOSED_REQUEST = 499


# --- Functions that run on the nodes


def hits(seed: int, samples: int) -> int:
    """Count the random points of the unit square that are in the circle around its corner."""
    random = Random(seed)
    return sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(samples))


def pi(samples: int, counts: list[int]) -> float:
    return 4 * sum(counts) / samples


class Order(BaseModel):
    samples: int = Field(gt=0)
    parts: int = Field(default=4, gt=0, le=100)


# --- The service


class State(TypedDict):
    run: handoff.OpenRun


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    """One run for all requests. With "continue", a function that fails is the concern of its own request alone."""
    async with (
        handoff.Session() as session,
        session.open_run(
            on_failure="continue", max_retries=1, max_pending=MOST_PENDING, progress=False
        ) as run,
    ):
        yield {"run": run}


app = FastAPI(title="Estimates of pi", lifespan=lifespan)


@app.post("/estimates")
async def answer_estimate(order: Order, request: Request) -> dict[str, float]:
    run: handoff.OpenRun = request.state.run
    try:
        async with asyncio.timeout(BUSY_AFTER_S):
            await run.room()
    except TimeoutError:
        raise HTTPException(503, "too many requests are being answered") from None
    each = max(1, order.samples // order.parts)
    counts = run.call_each(hits, range(order.parts), samples=each, cost={"cpu": 1})
    answer = run.call(pi, each * order.parts, counts)
    watching = asyncio.create_task(cancel_when_client_goes(request, run, *counts, answer))
    try:
        await answer.wait()
        if answer.cancelled():
            raise HTTPException(CLIENT_CLOSED_REQUEST)
        return {"answer": await answer}
    except handoff.HandoffError as error:
        raise HTTPException(500, str(error)) from error
    finally:
        watching.cancel()
        # This does nothing to calls that are done.
        run.cancel(*counts, answer)


async def cancel_when_client_goes(
    request: Request, run: handoff.OpenRun, *handles: handoff.RunHandle[Any]
) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.cancel(*handles)


@app.get("/health")
async def look_at_health(request: Request) -> dict[str, bool]:
    return {"is_open": not request.state.run.is_over}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve estimates of pi.")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port")
    # Requests that still wait for their answer when the service is told to end get this many seconds.
    uvicorn.run(app, port=parser.parse_args().port, timeout_graceful_shutdown=3)
