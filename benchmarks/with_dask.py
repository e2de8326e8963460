"""Dask, set up for its best: native graphs, no dashboard, no log, workers that are never kept short of work.

It runs in an asyncio app: `asynchronous=True`, so that the app's own event loop drives the client.
"""
# mypy: allow-untyped-calls

import itertools
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import dask
from dask.task_spec import Task, TaskRef
from distributed import Client, LocalCluster
from distributed.deploy.subprocess import SubprocessCluster

from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import SMALL, Step, Workload

ROOT = Path(__file__).parent.parent
SATURATION = "inf"
graph_numbers = itertools.count()


class DaskCluster:
    """Two worker processes of one thread each."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def prepare(self, workload: Workload) -> Execute:
        """Make keys that no graph had before: Dask need not run what it already has under the same key."""
        suffix = f"-{next(graph_numbers)}"
        graph = {step.key + suffix: task_of(step, suffix) for step in workload.steps}
        keys = [key + suffix for key in workload.expected]

        async def execute() -> Mapping[str, object]:
            # Not `await client.get(graph, keys)`: with an asynchronous client that lets go of the futures
            # before their results are there.
            futures = self._client.get(graph, keys, sync=False)
            results = await self._client.gather(futures)
            return dict(zip(workload.expected, results, strict=True))

        return execute


def task_of(step: Step, suffix: str) -> Task:
    return Task(step.key + suffix, step.code, *(TaskRef(key + suffix) for key in step.takes))


@asynccontextmanager
async def embedded() -> AsyncIterator[DaskCluster]:
    with dask.config.set({"distributed.scheduler.worker-saturation": SATURATION}):
        async with (
            LocalCluster(
                n_workers=WORKERS,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                asynchronous=True,
            ) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            yield DaskCluster(client)


@asynccontextmanager
async def daemons() -> AsyncIterator[DaskCluster]:
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION"] = SATURATION
    async with (
        SubprocessCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            scheduler_kwargs={"dashboard": False, "dashboard_address": None},
            silence_logs=logging.CRITICAL,
            asynchronous=True,
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        await client.wait_for_workers(WORKERS)
        yield DaskCluster(client)


CONTENDER = Contender(embedded, daemons, SMALL)
