"""A model behind a service: requests that come at the same time are answered in batches, by size and by time.

Each request is one `await pipeline.call(...)`. The stage has up to 16 of them at a time, and waits 5 ms at most for more. Here
the clients are tasks of the same program; in a web service, open the pipeline in its lifespan, as fastapi_calls.py opens its run,
and call it in the handlers.

pip install '.[examples]'
python examples/batched_service.py                                     32 clients, 50 requests each
python examples/batched_service.py --clients 200                       more at a time: larger batches
HANDOFF_SEEDS=tcp://HOST:PORT python examples/batched_service.py       on the cluster of that member

Nodes need numpy.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import handoff_actors as handoff

SIZE = 256
MOST_IN_FLIGHT = 64
#: A request that waits for room for as long as this is refused.
BUSY_AFTER_S = 10.0

Weights = NDArray[np.float32]


class Answer(NamedTuple):
    score: float
    #: The number of requests that were answered with it.
    batch: int


class Reply(NamedTuple):
    """A reply as a web service gives it."""

    status: int
    answer: Answer | None = None


# --- Functions that run on the nodes


def load_weights() -> Weights:
    """Load the model, once in each worker."""
    return np.random.default_rng(0).standard_normal((SIZE, SIZE), np.float32)


def score(weights: Weights, requests: list[tuple[int]]) -> tuple[list[Answer], Weights]:
    """Score a batch: one product of matrices takes little longer than one of a matrix and a vector."""
    seeds = [seed for (seed,) in requests]
    if any(seed < 0 for seed in seeds):
        raise ValueError("seeds are not negative")
    features = np.stack([np.random.default_rng(seed).standard_normal(SIZE, np.float32) for seed in seeds])
    scores = np.tanh(features @ weights).mean(axis=1)
    return [Answer(float(each), len(requests)) for each in scores], weights


# --- The service


def stages() -> handoff.DAG:
    dag = handoff.DAG("scores")
    request = dag.call(None, type="input", id="request")
    dag.call(score, request, id="score", init=load_weights, batch_size=16, batch_timeout=0.005)
    return dag


@asynccontextmanager
async def lifespan() -> AsyncIterator[handoff.Pipeline]:
    """One pipeline for all requests: its workers are warm before the first one."""
    async with handoff.stream(stages(), in_flight=MOST_IN_FLIGHT) as pipeline:
        yield pipeline


async def handle(pipeline: handoff.Pipeline, seed: int) -> Reply:
    """Answer one request."""
    if seed < 0:
        # One that is wrong would fail all of its batch, so it is looked at here.
        return Reply(422)
    try:
        async with asyncio.timeout(BUSY_AFTER_S):
            return Reply(200, await pipeline.call(seed))
    except TimeoutError:
        return Reply(503)
    except handoff.ItemError:
        return Reply(500)


# --- Its clients


async def ask(pipeline: handoff.Pipeline, first: int, count: int) -> list[tuple[float, Reply]]:
    """Send requests one after the other. Return how long each took in ms, and its reply."""
    replies = []
    for seed in range(first, first + count):
        began_at = time.perf_counter()
        reply = await handle(pipeline, seed)
        replies.append(((time.perf_counter() - began_at) * 1e3, reply))
    return replies


async def main(clients: int, requests: int) -> None:
    async with lifespan() as pipeline:
        refused = await handle(pipeline, -1)
        began_at = time.perf_counter()
        answers = await asyncio.gather(
            *(ask(pipeline, client * requests, requests) for client in range(clients))
        )
        took_s = time.perf_counter() - began_at
    replies = [each for of_client in answers for each in of_client]
    good = [reply.answer for _, reply in replies if reply.answer is not None]
    times = statistics.quantiles([took_ms for took_ms, _ in replies], n=100)
    print(f"a wrong request: {refused.status}")
    print(f"answered {len(good)} of {len(replies)} requests, {len(replies) / took_s:.0f} requests/s")
    print(f"p50 {times[49]:.1f} ms, p99 {times[98]:.1f} ms")
    print(f"requests per batch: {statistics.mean(answer.batch for answer in good):.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Answer requests in batches.")
    parser.add_argument("--clients", type=int, default=32, help="clients at a time")
    parser.add_argument("--requests", type=int, default=50, help="requests of each, one after the other")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.clients, arguments.requests))
