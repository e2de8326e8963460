"""One app of `benchmarks.bursts`: a session that sends runs of one function at the times it is told.

`python -m benchmarks.bursts_app NODES SEED...` prints a line once it is connected. Each line of its input is an `Order`;
it answers with a line of `Outcome`s, in the order of the sends.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

import handoff_actors as handoff
from benchmarks.ours import wait_for_nodes


class Send(NamedTuple):
    """One run: when it is sent, on the machine's monotonic clock, and how long its function sleeps."""

    at: float
    duration_s: float


class Order(NamedTuple):
    """The runs to send, and the claim of each of their functions."""

    sends: list[Send]
    cost: dict[str, float]


class Outcome(NamedTuple):
    """A run that has ended."""

    sent_at: float
    ended_at: float
    node: str


def single(duration_s: float, cost: Mapping[str, float] | None, node: str | None = None) -> handoff.DAG:
    """Make a DAG of one function that sleeps."""
    function = handoff.Function("nap", [], time.sleep, extra_args=[duration_s], cost=cost or None, node=node)
    return handoff.DAG().add_function(function)


async def execute(session: handoff.Session, send: Send, cost: Mapping[str, float]) -> Outcome:
    dag = single(send.duration_s, cost)
    await asyncio.sleep(send.at - time.monotonic())
    sent_at = time.monotonic()
    run = await session.execute_distributed(dag)
    return Outcome(sent_at, time.monotonic(), run.allocations["nap"])


async def serve(nodes: int, seeds: list[str]) -> None:
    async with handoff.Session(seeds=seeds, progress=False) as session:
        # The first runs of a process import, connect and compile.
        for node in await wait_for_nodes(session, nodes):
            await session.execute_distributed(single(0.0, {"cpu": 1}, node))
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = msgspec.json.decode(line, type=Order)
            outcomes = await asyncio.gather(*(execute(session, send, order.cost) for send in order.sends))
            print(msgspec.json.encode(outcomes).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
