"""Our calls, maps and functions that return graphs. Each function claims a core."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import handoff_actors as handoff
from benchmarks import ours
from benchmarks.growing_shapes import LEAF_SHARE, below, count_all, divide, join, nothing

CORE = {"cpu": 1}


class OurCalls:
    """The calls of the default session."""

    async def call(self, number: int) -> int:
        """See Calls."""
        return await handoff.call(nothing, number, cost=CORE)

    async def gather(self, count: int) -> list[int]:
        """See Calls."""
        return await asyncio.gather(*(self.call(number) for number in range(count)))

    async def map(self, count: int) -> int:
        """See Calls."""
        total = 0
        async for number in handoff.map(nothing, range(count), cost=CORE):
            total += number
        return total

    async def quicksort(self, numbers: list[float]) -> list[float]:
        """See Calls."""
        leaf = len(numbers) // LEAF_SHARE
        # What it returns may be a graph, whose result is a list.
        result: object = await handoff.call(quicksort, numbers, leaf, cost=CORE)
        assert isinstance(result, list)
        return result

    async def tree(self, count: int) -> int:
        """See Calls."""
        result: object = await handoff.call(grow, 0, count, cost=CORE)
        assert isinstance(result, int)
        return result


def quicksort(numbers: list[float], leaf: int) -> "list[float] | handoff.Subgraph[list[float]]":
    if len(numbers) <= leaf:
        return sorted(numbers)
    dag = handoff.new()
    parts = [dag.call(quicksort, part, leaf, cost=CORE) for part in divide(numbers)]
    return handoff.Subgraph(dag, result=dag.call(join, *parts, cost=CORE))


def grow(place: int, count: int) -> "int | handoff.Subgraph[int]":
    """Spawn two functions, and one more that adds up the functions of the tree; those that add up are not counted."""
    places = below(place, count)
    if not places:
        return 1
    dag = handoff.new()
    parts = [dag.call(grow, each, count, cost=CORE) for each in places]
    return handoff.Subgraph(dag, result=dag.call(count_all, *parts, cost=CORE))


@asynccontextmanager
async def embedded() -> AsyncIterator[OurCalls]:
    async with ours.embedded():
        yield OurCalls()


@asynccontextmanager
async def daemon() -> AsyncIterator[OurCalls]:
    async with ours.daemons():
        yield OurCalls()
