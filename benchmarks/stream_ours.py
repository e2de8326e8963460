"""Our streams. Each worker of a stage claims a core."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import handoff_actors as handoff
from benchmarks import ours
from benchmarks.stream_shapes import BATCH, STAGES, WINDOW, Flow, Kind, copied, key_of, nothing, window_of

CORE = {"cpu": 1}
#: The most workers of a flow: its middle stage may have two.
STAGE_WORKERS = STAGES + 1


class OurFlow:
    """One pipeline."""

    def __init__(self, pipeline: handoff.Pipeline) -> None:
        self._pipeline = pipeline

    async def one(self, value: Any) -> Any:
        """See Flow."""
        return await self._pipeline.call(value)

    def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        return self._pipeline.map(values)


def nothing_of_all(batch: list[tuple[Any]]) -> list[Any]:
    return [value for (value,) in batch]


def stages(kind: Kind) -> handoff.DAG:
    dag = handoff.new()
    item = dag.call(None, type="input", id="item")
    for number in range(STAGES):
        name = f"stage-{number}"
        if kind == "batched":
            item = dag.call(nothing_of_all, item, id=name, cost=CORE, batch_size=BATCH, batch_timeout=0.01)
        elif kind == "large":
            item = dag.call(copied, item, id=name, cost=CORE)
        elif kind == "keyed" and number == 1:
            item = dag.call(nothing, item, id=name, cost=CORE, parallelism=2, key=key_of)
        else:
            item = dag.call(nothing, item, id=name, cost=CORE)
    return dag


@asynccontextmanager
async def _pipeline(kind: Kind) -> AsyncIterator[Flow]:
    in_flight = window_of(kind) if kind == "large" else WINDOW
    try:
        async with handoff.stream(stages(kind), in_flight=in_flight, errors="raise") as pipeline:
            yield OurFlow(pipeline)
    finally:
        await handoff.shutdown()


@asynccontextmanager
async def embedded(kind: Kind) -> AsyncIterator[Flow]:
    await handoff.register_local_node({"cpu": STAGE_WORKERS}, workers=STAGE_WORKERS)
    async with _pipeline(kind) as flow:
        yield flow


@asynccontextmanager
async def daemon(kind: Kind) -> AsyncIterator[Flow]:
    async with ours.start_daemon("daemon", workers=STAGE_WORKERS) as address:
        await handoff.connect([address])
        async with _pipeline(kind) as flow:
            yield flow
