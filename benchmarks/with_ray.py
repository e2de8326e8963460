"""Ray, on this machine alone: plain remote functions, and object references for the results that they take."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import ray

from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import SMALL, Workload


class RayCluster:
    """Two worker processes, which run one function at a time."""

    def __init__(self) -> None:
        self._remotes: dict[Callable[..., object], Callable[..., ray.ObjectRef]] = {}

    async def prepare(self, workload: Workload) -> Execute:
        """Prepare nothing: Ray's graph is the references that submitting returns."""

        async def execute() -> Mapping[str, object]:
            results = await asyncio.to_thread(ray.get, self.submit(workload))
            return dict(zip(workload.expected, results, strict=True))

        return execute

    def submit(self, workload: Workload) -> list[ray.ObjectRef]:
        """Submit all steps; return the references of the results that the app wants."""
        references: dict[str, ray.ObjectRef] = {}
        for step in workload.steps:
            remote = self._remotes.get(step.code) or self._remember(step.code)
            references[step.key] = remote(*[references[key] for key in step.takes])
        return [references[key] for key in workload.expected]

    def _remember(self, code: Callable[..., object]) -> Callable[..., ray.ObjectRef]:
        # Only a function can be remote by itself.
        remote = (
            ray.remote(code).remote if inspect.isfunction(code) else partial(ray.remote(call).remote, code)
        )
        self._remotes[code] = remote
        return remote


def call(code: Callable[..., object], *values: object) -> object:
    return code(*values)


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    ray.init(
        address="local",
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


@asynccontextmanager
async def embedded() -> AsyncIterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


CONTENDER = Contender(embedded, sizes=SMALL)
