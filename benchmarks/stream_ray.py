"""Ray: actors that are chained by references, and the same actors in a compiled graph. The app's thread waits for each answer."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import ray
from ray.dag import InputNode

from benchmarks.stream_shapes import STAGES, Flow, Kind, code_of, of_kind, window_of
from benchmarks.with_ray import ray_cluster

#: Of executions of a compiled graph, which has as many slots in each channel.
MOST_COMPILED = 64


class RayStage:
    """One stage."""

    def __init__(self, code: Callable[[Any], Any]) -> None:
        self._code = code

    def run(self, value: Any) -> Any:
        """Run the code for one item."""
        return self._code(value)


class RayFlow:
    """Submits an item, and waits for what was submitted first once there are too many."""

    def __init__(self, submit: Callable[[Any], Any], window: int) -> None:
        self._submit = submit
        self._window = window

    async def one(self, value: Any) -> Any:
        """See Flow."""
        return ray.get(self._submit(value))

    async def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        submitted: deque[Any] = deque()
        for value in values:
            if len(submitted) == self._window:
                yield ray.get(submitted.popleft())
            submitted.append(self._submit(value))
        while submitted:
            yield ray.get(submitted.popleft())


def _stages(kind: Kind) -> list[Any]:
    actor: Any = ray.remote(RayStage)
    return [actor.remote(code_of(kind)) for _ in range(STAGES)]


@asynccontextmanager
async def actors(kind: Kind) -> AsyncIterator[Flow]:
    with ray_cluster():
        stages = _stages(kind)

        def submit(value: Any) -> Any:
            for stage in stages:
                value = stage.run.remote(value)
            return value

        yield of_kind(kind, RayFlow(submit, window_of(kind)))


@asynccontextmanager
async def compiled(kind: Kind) -> AsyncIterator[Flow]:
    with ray_cluster():
        stages = _stages(kind)
        with InputNode() as node:
            out: Any = node
            for stage in stages:
                out = stage.run.bind(out)
        window = min(window_of(kind), MOST_COMPILED)
        graph = out.experimental_compile(_max_inflight_executions=window)
        try:
            yield of_kind(kind, RayFlow(graph.execute, window))
        finally:
            graph.teardown()
