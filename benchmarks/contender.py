"""What a framework must offer to be measured: run a workload on two workers, from an asyncio app."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from benchmarks.workloads import FULL, Sizes, Workload

WORKERS = 2

#: Runs what was prepared, once, and returns the results that are wanted at home.
Execute = Callable[[], Awaitable[Mapping[str, object]]]


class Cluster(Protocol):
    """Two workers that wait for work."""

    async def prepare(self, workload: Workload) -> Execute:
        """Put the workload into the framework's own terms; this is not timed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One framework, in the ways that it can be set up."""

    #: Workers below the app, whatever else there is within the app's own process.
    embedded: Callable[[], AbstractAsyncContextManager[Cluster]]
    #: Everything but the app in processes of their own, reached over tcp on the loopback.
    daemons: Callable[[], AbstractAsyncContextManager[Cluster]] | None = None
    sizes: Sizes = FULL
