"""Dask's futures, three for each item. The app's thread waits for each answer."""
# mypy: allow-untyped-calls

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from distributed import Client

from benchmarks import with_dask
from benchmarks.stream_shapes import STAGES, Flow, Kind, code_of, of_kind, window_of


class DaskFlow:
    """The futures of one client. Functions are not pure: otherwise results of equal items would be used again."""

    def __init__(self, client: Client, kind: Kind) -> None:
        self._client = client
        self._code = code_of(kind)
        self._window = window_of(kind)

    def _submit(self, value: Any) -> Any:
        for _ in range(STAGES):
            value = self._client.submit(self._code, value, pure=False)
        return value

    async def one(self, value: Any) -> Any:
        """See Flow."""
        return self._submit(value).result()

    async def many(self, values: Iterable[Any]) -> AsyncIterator[Any]:
        """See Flow."""
        submitted: deque[Any] = deque()
        for value in values:
            if len(submitted) == self._window:
                yield submitted.popleft().result()
            submitted.append(self._submit(value))
        while submitted:
            yield submitted.popleft().result()


@asynccontextmanager
async def embedded(kind: Kind) -> AsyncIterator[Flow]:
    async with with_dask.embedded() as cluster:
        yield of_kind(kind, DaskFlow(cluster.client, kind))
