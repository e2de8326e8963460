"""Ray's tasks. The app's thread waits for each answer, which is the least that it can take."""
# mypy: allow-untyped-decorators

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ray

from benchmarks.growing_shapes import LEAF_SHARE, below, divide, join, nothing
from benchmarks.with_ray import ray_cluster


class RayCalls:
    """The calls of this process's cluster."""

    def __init__(self) -> None:
        self._nothing = ray.remote(nothing)

    async def call(self, number: int) -> int:
        """See Calls."""
        return int(ray.get(self._nothing.remote(number)))

    async def gather(self, count: int) -> list[int]:
        """See Calls."""
        return list(ray.get([self._nothing.remote(number) for number in range(count)]))

    async def map(self, count: int) -> int:
        """See Calls."""
        return sum(await self.gather(count))

    async def quicksort(self, numbers: list[float]) -> list[float]:
        """See Calls. A task that waits for others has a worker."""
        return list(ray.get(quicksort.remote(numbers, len(numbers) // LEAF_SHARE)))

    async def tree(self, count: int) -> int:
        """See Calls. Tasks return references of those that they have submitted; the app asks level by level."""
        seen, level = 1, [grow.remote(0, count)]
        while level:
            level = [each for pair in ray.get(level) for each in pair]
            seen += len(level)
        return seen


@ray.remote
def quicksort(numbers: list[float], leaf: int) -> list[float]:
    if len(numbers) <= leaf:
        return sorted(numbers)
    return join(*ray.get([quicksort.remote(part, leaf) for part in divide(numbers)]))


@ray.remote
def grow(place: int, count: int) -> list[ray.ObjectRef]:
    return [grow.remote(each, count) for each in below(place, count)]


@asynccontextmanager
async def embedded() -> AsyncIterator[RayCalls]:
    with ray_cluster():
        yield RayCalls()
