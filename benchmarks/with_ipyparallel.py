"""ipyparallel with a load-balanced view and the scheduler built into ZeroMQ, its fastest one.

Its dependencies order functions but pass no results on, so the app chains them, as with the standard library's pool.
"""

import logging
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import ipyparallel

from benchmarks.contender import WORKERS, Contender
from benchmarks.floor import FloorCluster
from benchmarks.workloads import TINY

START_LIMIT_S = 60
SCHEDULER = ["--TaskScheduler.scheme_name=pure"]


@contextmanager
def engines() -> Iterator[ipyparallel.client.view.ViewExecutor]:
    """Two engines and a controller, and an executor that submits to them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cluster = ipyparallel.Cluster(
            n=WORKERS, profile_dir=folder, controller_args=SCHEDULER, log_level=logging.ERROR
        )
        # With this scheduler a client that sees the second engine before the first takes the first for gone, warns and
        # submits no more. One that connects when all are there does not.
        warnings.filterwarnings("ignore", message="An engine has been unregistered", category=RuntimeWarning)
        with cluster, cluster.connect_client_sync() as client:
            client.wait_for_engines(WORKERS, timeout=START_LIMIT_S, interactive=False)
            yield client.executor()


@asynccontextmanager
async def embedded() -> AsyncIterator[FloorCluster]:
    with engines() as executor:
        yield FloorCluster(executor)


CONTENDER = Contender(embedded, sizes=TINY)
