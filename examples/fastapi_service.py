"""A web service, made with FastAPI, that runs a DAG for each request.

POST   /estimates    waits for the answer; if the client hangs up first, the run is cancelled and its cores are free
POST   /jobs         answers at once with the job's id; the run goes on, whatever the client does
GET    /jobs/{id}    the state of the job, and its answer
DELETE /jobs/{id}    cancels the job
GET    /nodes        all nodes, and the idle ones among them

pip install '.[examples]'
python examples/fastapi_service.py                          on this machine's cores
uvicorn --app-dir examples fastapi_service:app              the same; HANDOFF_SEEDS=tcp://HOST:PORT: on a cluster
curl -d '{"samples": 1000000}' -H 'Content-Type: application/json' http://127.0.0.1:8000/estimates
"""

import argparse
import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypedDict, TypeVar

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

import handoff_actors as handoff

T = TypeVar("T")

#: The most jobs that are kept, finished ones included.
MOST_JOBS = 100
#: The status that proxies log for a client that has gone. No client sees it.
CLIENT_CLOSED_REQUEST = 499


# --- Functions that run on the nodes


def hits(samples: int, seed: int) -> int:
    """Count the random points of the unit square that are in the circle around its corner."""
    random = Random(seed)
    return sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(samples))


def pi(samples: int, *counts: int) -> float:
    return 4 * sum(counts) / samples


class Order(BaseModel):
    samples: int = Field(gt=0)
    parts: int = Field(default=8, gt=0, le=1000)

    def dag(self) -> handoff.DAG:
        dag = handoff.new()
        each = max(1, self.samples // self.parts)
        counts = [dag.call(hits, each, seed, cost={"cpu": 1}) for seed in range(self.parts)]
        dag.call(pi, each * self.parts, *counts, id="pi")
        return dag


async def estimate(session: handoff.Session, order: Order, job: "Job | None" = None) -> float:
    run = await session.execute_distributed(order.dag(), on_result=job.count if job else None)
    answer: float = run.results["pi"]
    return answer


# --- Jobs, which belong to the service and not to a request


class Job:
    def __init__(self, session: handoff.Session, order: Order) -> None:
        self._done, self._functions = 0, order.parts + 1
        self._task = asyncio.create_task(estimate(session, order, self))

    def count(self, _function_id: object, _value: object) -> None:
        self._done += 1

    @property
    def is_over(self) -> bool:
        return self._task.done()

    async def cancel(self) -> None:
        """Cancel the job, and return once the nodes have confirmed that none of its functions runs any more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def status(self) -> dict[str, object]:
        if not self.is_over:
            return {"state": "running", "done": self._done, "of": self._functions}
        if self._task.cancelled():
            return {"state": "cancelled"}
        error = self._task.exception()
        if error is not None:
            return {"state": "failed", "error": str(error)}
        return {"state": "done", "answer": self._task.result()}


Jobs = dict[str, Job]


def make_room(jobs: Jobs) -> None:
    """Forget the oldest finished job if there are too many. Raises HTTPException if all of them run."""
    if len(jobs) < MOST_JOBS:
        return
    over = next((job_id for job_id, job in jobs.items() if job.is_over), None)
    if over is None:
        raise HTTPException(503, "too many jobs are running")
    del jobs[over]


# --- The service


class State(TypedDict):
    session: handoff.Session
    jobs: Jobs


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    """One session for all requests: their runs share its nodes fairly."""
    async with handoff.Session() as session:
        jobs: Jobs = {}
        yield {"session": session, "jobs": jobs}
        await asyncio.gather(*(job.cancel() for job in jobs.values()))


app = FastAPI(title="Estimates of pi", lifespan=lifespan)


async def unless_client_goes(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. If the client hangs up, cancel `work`, and return once it has ended."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(until_client_goes(request))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        working.cancel()  # This does nothing to a task that is done.
        await asyncio.wait([working, watching])
    if working.cancelled():
        raise HTTPException(CLIENT_CLOSED_REQUEST)
    return working.result()


async def until_client_goes(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@app.post("/estimates")
async def answer_estimate(order: Order, request: Request) -> dict[str, float]:
    return {"answer": await unless_client_goes(request, estimate(request.state.session, order))}


@app.post("/jobs", status_code=202)
async def start_job(order: Order, request: Request) -> dict[str, str]:
    jobs: Jobs = request.state.jobs
    make_room(jobs)
    job_id = secrets.token_urlsafe()
    jobs[job_id] = Job(request.state.session, order)
    return {"id": job_id}


def known_job(jobs: Jobs, job_id: str) -> Job:
    if job_id not in jobs:
        raise HTTPException(404, "there is no such job, or not any more")
    return jobs[job_id]


@app.get("/jobs/{job_id}")
async def look_at_job(job_id: str, request: Request) -> dict[str, object]:
    return known_job(request.state.jobs, job_id).status()


@app.delete("/jobs/{job_id}", status_code=204)
async def cancel_job(job_id: str, request: Request) -> None:
    await known_job(request.state.jobs, job_id).cancel()


@app.get("/nodes")
async def look_at_nodes(request: Request) -> dict[str, dict[str, object]]:
    session: handoff.Session = request.state.session
    return {
        name: {"cpu": offer["cpu"], "is_idle": await session.resources_available(name, {"cpu": offer["cpu"]})}
        for name, offer in (await session.discover_nodes()).items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve estimates of pi.")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port")
    # Requests that still wait for their answer when the service is told to end get this many seconds.
    uvicorn.run(app, port=parser.parse_args().port, timeout_graceful_shutdown=3)
