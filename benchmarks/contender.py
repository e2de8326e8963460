"""The interface of a framework that is measured: it runs a workload on two workers, from an asyncio app."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from benchmarks.workloads import FULL, Sizes, Workload

WORKERS = 2

#: Runs the prepared workload, once, and returns the results that the app wants.
Execute = Callable[[], Awaitable[Mapping[str, object]]]


class Cluster(Protocol):
    """Two idle workers."""

    async def prepare(self, workload: Workload) -> Execute:
        """Put the workload into the framework's own terms; this is not timed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One framework, in each way in which it can be set up."""

    #: Workers as children of the app, everything else within the app's own process.
    embedded: Callable[[], AbstractAsyncContextManager[Cluster]]
    #: Everything but the app in processes of their own, reached over tcp on the loopback.
    daemons: Callable[[], AbstractAsyncContextManager[Cluster]] | None = None
    sizes: Sizes = FULL
