"""Parsl's executor for many short functions: no scaling, no encryption, no log, and workers that prefetch."""

import asyncio
import inspect
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from parsl import Config, DataFlowKernel, HighThroughputExecutor, python_app
from parsl.providers import LocalProvider

from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import SMALL, Workload

#: Parsl's guide sets it to 0 only where functions are few or long.
PREFETCH = 64
#: Seconds between looks at the workers; the default of 5 delays the start.
LOOK_AFTER_S = 0.5


class ParslCluster:
    """Two worker processes of one manager, behind an interchange."""

    def __init__(self, kernel: DataFlowKernel) -> None:
        self._kernel = kernel
        self._apps: dict[Callable[..., object], Callable[..., Future[object]]] = {}

    async def prepare(self, workload: Workload) -> Execute:
        """Prepare nothing: Parsl's graph is the futures that submitting returns."""

        async def execute() -> Mapping[str, object]:
            results = await asyncio.to_thread(results_of, self.submit(workload))
            return dict(zip(workload.expected, results, strict=True))

        return execute

    def submit(self, workload: Workload) -> list[Future[object]]:
        """Submit all steps; return the futures of the results that the app wants."""
        futures: dict[str, Future[object]] = {}
        for step in workload.steps:
            app = self._apps.get(step.code) or self._remember(step.code)
            futures[step.key] = app(*[futures[key] for key in step.takes])
        return [futures[key] for key in workload.expected]

    def _remember(self, code: Callable[..., object]) -> Callable[..., Future[object]]:
        # Only a function can be an app by itself.
        is_function = inspect.isfunction(code)
        app = python_app(code if is_function else call, data_flow_kernel=self._kernel)
        self._apps[code] = app if is_function else partial(app, code)
        return self._apps[code]


def call(code: Callable[..., object], *values: object) -> object:
    return code(*values)


def results_of(futures: list[Future[object]]) -> list[object]:
    return [future.result() for future in futures]


@contextmanager
def parsl_cluster() -> Iterator[ParslCluster]:
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=WORKERS,
        prefetch_capacity=PREFETCH,
        encrypted=False,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config = Config(
            executors=[executor],
            strategy="none",
            strategy_period=LOOK_AFTER_S,
            run_dir=folder,
            initialize_logging=False,
        )
        with DataFlowKernel(config) as kernel:
            yield ParslCluster(kernel)


@asynccontextmanager
async def embedded() -> AsyncIterator[ParslCluster]:
    with parsl_cluster() as cluster:
        yield cluster


CONTENDER = Contender(embedded, sizes=SMALL)
