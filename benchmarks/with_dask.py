"""Dask, set up for its best: native graphs, no dashboard, no log, workers that are never kept short of work.

The app waits in a thread for its blocking client. The asynchronous one shares the app's event loop with the scheduler:
it ran fewer independent functions per second where nothing else used the machine, and holds that loop up.
"""
# mypy: allow-untyped-calls

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import dask
from dask.task_spec import Task, TaskRef
from distributed import Client, LocalCluster
from distributed.deploy.subprocess import SubprocessCluster

from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import SMALL, Step, Workload

SATURATION = "inf"
graph_numbers = itertools.count()


class DaskCluster:
    """Two worker processes of one thread each."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def prepare(self, workload: Workload) -> Execute:
        """Make keys that no graph had before: Dask need not run what it already has under the same key."""
        suffix = f"-{next(graph_numbers)}"
        graph = {step.key + suffix: task_of(step, suffix) for step in workload.steps}
        keys = [key + suffix for key in workload.expected]

        async def execute() -> Mapping[str, object]:
            results = await asyncio.to_thread(self.client.get, graph, keys)
            return dict(zip(workload.expected, results, strict=True))

        return execute


def task_of(step: Step, suffix: str) -> Task:
    return Task(step.key + suffix, step.code, *(TaskRef(key + suffix) for key in step.takes))


@asynccontextmanager
async def embedded() -> AsyncIterator[DaskCluster]:
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": SATURATION}),
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield DaskCluster(client)


@asynccontextmanager
async def daemons() -> AsyncIterator[DaskCluster]:
    os.environ["DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION"] = SATURATION
    with (
        SubprocessCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            scheduler_kwargs={"dashboard": False, "dashboard_address": None},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(WORKERS)
        yield DaskCluster(client)


CONTENDER = Contender(embedded, daemons, SMALL)
