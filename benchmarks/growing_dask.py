"""Dask's futures. The app's thread waits for each answer, which is the least that it can take."""
# mypy: allow-untyped-calls

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributed import Client, worker_client

from benchmarks import with_dask
from benchmarks.growing_shapes import LEAF_SHARE, divide, join, nothing


class DaskCalls:
    """The calls of one client. Functions are not pure: otherwise results of earlier calls would be used again."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, number: int) -> int:
        """See Calls."""
        return int(self._client.submit(nothing, number, pure=False).result())

    async def gather(self, count: int) -> list[int]:
        """See Calls."""
        futures = [self._client.submit(nothing, number, pure=False) for number in range(count)]
        return list(self._client.gather(futures))

    async def map(self, count: int) -> int:
        """See Calls."""
        return sum(self._client.gather(self._client.map(nothing, range(count), pure=False)))

    async def quicksort(self, numbers: list[float]) -> list[float]:
        """See Calls."""
        leaf = len(numbers) // LEAF_SHARE
        return list(self._client.submit(quicksort, numbers, leaf, pure=False).result())

    async def tree(self, count: int) -> int:
        """See Calls. A task that submits others waits in a thread of its own: too many for a tree."""
        raise NotImplementedError


def quicksort(numbers: list[float], leaf: int) -> list[float]:
    if len(numbers) <= leaf:
        return sorted(numbers)
    with worker_client() as client:
        futures = [client.submit(quicksort, part, leaf, pure=False) for part in divide(numbers)]
        return join(*client.gather(futures))


@asynccontextmanager
async def embedded() -> AsyncIterator[DaskCalls]:
    async with with_dask.embedded() as cluster:
        yield DaskCalls(cluster.client)
