"""The least possible cost: the standard library's executors, driven by twenty lines that track dependencies.

There are no claims, no retries, no report and no second machine, and every value passes through the app.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from queue import SimpleQueue

from benchmarks.contender import WORKERS, Contender, Execute
from benchmarks.workloads import Workload


class FloorCluster:
    """An executor with two workers."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def prepare(self, workload: Workload) -> Execute:
        """Return the workload as it is: executors have no graphs of their own."""

        async def execute() -> Mapping[str, object]:
            return run_graph(self._executor, workload)

        return execute


def run_graph(executor: Executor, workload: Workload) -> dict[str, object]:
    """Submit each step once all its inputs are there; blocks until all steps are done."""
    steps = {step.key: step for step in workload.steps}
    missing = {step.key: len(step.takes) for step in workload.steps}
    takers: defaultdict[str, list[str]] = defaultdict(list)
    for step in workload.steps:
        for key in step.takes:
            takers[key].append(step.key)
    results: dict[str, object] = {}
    done: SimpleQueue[tuple[str, Future[object]]] = SimpleQueue()

    def submit(key: str) -> None:
        step = steps[key]
        future = executor.submit(step.code, *(results[taken] for taken in step.takes))
        future.add_done_callback(lambda future: done.put((key, future)))

    for key in [key for key, count in missing.items() if count == 0]:
        submit(key)
    while len(results) < len(steps):
        key, future = done.get()
        results[key] = future.result()
        for taker in takers[key]:
            missing[taker] -= 1
            if missing[taker] == 0:
                submit(taker)
    return results


def floor(open_executor: Callable[[int], Executor]) -> Contender:
    @asynccontextmanager
    async def embedded() -> AsyncIterator[FloorCluster]:
        with open_executor(WORKERS) as executor:
            yield FloorCluster(executor)

    return Contender(embedded)


POOL = floor(ProcessPoolExecutor)
#: Threads share the app's memory, and numpy lets the others run while it sums: the bound for large values.
LOCAL = floor(ThreadPoolExecutor)
