"""A Dask cluster as `on_dask` uses it, through the client that its user has.

A client lives on a loop of its own thread, or on one of the user's. Everything is done there, whichever it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from handoff_actors.errors import HandoffError

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

#: Before other tasks, as they only start a process and then leave their thread to others.
_PRIORITY: Final = 1_000_000
_CONNECTED: Final = "running"
_USABLE: Final = frozenset({_CONNECTED, "connecting"})


class DaskClientClosed(HandoffError):
    """A client that can't be used any more."""


class DaskTaskFailed(HandoffError):
    """A task that has raised, or whose workers have died."""


class DaskWorker(Struct, frozen=True):
    """A worker of a Dask cluster as its scheduler knows it."""

    address: str
    #: As its user has named it, or its address.
    name: str
    resources: Mapping[str, float]

    @property
    def host(self) -> str:
        """The IP address or name at which others reach its machine; "" if it is a thread of this process."""
        parts = urlsplit(self.address)
        return "" if parts.scheme == "inproc" else parts.hostname or ""

    @property
    def label(self) -> str:
        """The name without what all addresses have."""
        return self.name.rpartition("://")[2]

    def __str__(self) -> str:
        return self.address if self.name == self.address else f"{self.name} ({self.address})"


class DaskCluster:
    """The workers of a cluster, functions and tasks on them."""

    def __init__(self, client: "Client") -> None:
        # Its types allow for a client that is not connected.
        self._client: Any = client

    def check(self) -> None:
        """Raise HandoffError unless the client is connected."""
        status = str(self._client.status)
        if status == "newly-created":
            raise HandoffError(
                "the Dask client is not connected yet: await it first, or use it with `async with Client(..., asynchronous=True)`"
            )
        if status not in _USABLE:
            raise DaskClientClosed(f"the Dask client is {status}, so it can't be used any more")

    def is_connected(self) -> bool:
        """True unless the client is looking for its scheduler. Raises HandoffError if it has given that up."""
        self.check()
        return str(self._client.status) == _CONNECTED

    async def addresses(self) -> frozenset[str]:
        """Return the addresses of all workers. Raises OSError if the scheduler doesn't answer."""

        async def ask() -> Any:
            return await self._client.scheduler.ncores()

        return frozenset(await self._there(ask))

    async def workers(self) -> list[DaskWorker]:
        """Return the facts that the scheduler has about its workers. Raises OSError if it doesn't answer."""

        async def ask() -> Any:
            return await self._client.scheduler.identity()

        identity = await self._there(ask)
        return [
            DaskWorker(address, str(facts.get("name", address)), dict(facts.get("resources") or {}))
            for address, facts in identity["workers"].items()
        ]

    async def call(
        self, workers: Sequence[str], function: Callable[..., object], *arguments: object
    ) -> dict[str, Any]:
        """Call a function in workers, outside of their tasks. Returns the result, or the error, by worker. Raises OSError."""
        results: dict[str, Any] = await self._there(
            lambda: self._client.run(function, *arguments, workers=list(workers), on_error="return")
        )
        return results

    async def submit(
        self,
        key: str,
        worker: str | None,
        function: Callable[..., object],
        *arguments: object,
        claims: Mapping[str, float],
        into: "list[Future[Any]]",
    ) -> None:
        """Submit a task for one worker, or for any, and append its future to a list. `cancel` finds it there in any case."""

        async def submit() -> None:
            submitted: Future[Any] = self._client.submit(
                function,
                *arguments,
                key=key,
                pure=False,
                workers=None if worker is None else [worker],
                allow_other_workers=False,
                resources=dict(claims) or None,
                priority=_PRIORITY,
                retries=0,
            )
            # Here, as a caller that is cancelled meanwhile would never see it.
            into.append(submitted)

        await self._there(submit)

    async def result(self, future: "Future[Any]") -> Any:
        """Wait for the result of a task; None if the task has been cancelled. Raises HandoffError if it failed."""
        return await self._there(lambda: _settled(future))

    async def cancel(self, submitted: "Sequence[list[Future[Any]]]") -> None:
        """Have the tasks of these lists not run, or not wanted any more, and empty the lists."""

        async def cancel() -> None:
            futures = [future for some in submitted for future in some]
            for some in submitted:
                some.clear()
            if futures:
                await self._client.cancel(futures)

        await self._there(cancel)

    async def _there(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await on the client's loop. Raises HandoffError if that is no more."""
        self.check()
        loop = self._client.loop.asyncio_loop
        if loop is asyncio.get_running_loop():
            return await work()

        async def there() -> T:
            return await work()

        coroutine = there()
        try:
            working = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError as error:
            coroutine.close()
            raise DaskClientClosed("the loop of the Dask client is closed") from error
        return await asyncio.wrap_future(working)


async def _settled(future: Any) -> Any:
    error = await future.exception()
    if error is not None:
        raise DaskTaskFailed(f"a task for a node failed: {type(error).__name__}: {error}") from error
    return None if future.cancelled() else await future
