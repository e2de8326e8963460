"""A process pool, as an asyncio app uses it. It has no nested calls: quicksort is cut by hand, and the tree is flat calls."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager

from benchmarks.contender import WORKERS
from benchmarks.growing_shapes import LEAF_SHARE, divide, nothing


class PoolCalls:
    """The calls of one pool."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()

    async def call(self, number: int) -> int:
        """See Calls."""
        return await self._loop.run_in_executor(self._pool, nothing, number)

    async def gather(self, count: int) -> list[int]:
        """See Calls."""
        return await asyncio.gather(*(self.call(number) for number in range(count)))

    async def map(self, count: int) -> int:
        """See Calls."""
        return sum(self._pool.map(nothing, range(count)))

    async def quicksort(self, numbers: list[float]) -> list[float]:
        """See Calls. The app divides the numbers, the workers sort the parts."""
        parts = [numbers]
        while any(len(part) > len(numbers) // LEAF_SHARE for part in parts):
            parts = [
                each
                for part in parts
                for each in (divide(part) if len(part) > len(numbers) // LEAF_SHARE else (part,))
            ]
        return [each for part in self._pool.map(sorted, parts) for each in part]

    async def tree(self, count: int) -> int:
        """See Calls. Nothing spawns anything."""
        futures = [self._pool.submit(nothing, number) for number in range(count)]
        return len([future.result() for future in futures])


@asynccontextmanager
async def embedded() -> AsyncIterator[PoolCalls]:
    with ProcessPoolExecutor(WORKERS) as pool:
        yield PoolCalls(pool)
