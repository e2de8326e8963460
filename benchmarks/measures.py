"""The measurements of each workload."""

import asyncio
import gc
import resource
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks import workloads
from benchmarks.contender import WORKERS, Cluster, Contender
from benchmarks.workloads import Workload

ROUNDS = 3
BRANCHING_WARM_SHARE = 10
TICK_S = 0.001

#: Figures by the name of their metric.
Figures = Mapping[str, float]


class Metric(NamedTuple):
    """The name and unit of a figure, and which direction is better."""

    label: str
    unit: str
    higher_is_better: bool = False


METRICS: dict[str, Metric] = {
    "fanout": Metric("independent no-ops", "functions/s", higher_is_better=True),
    "layered": Metric("layered random DAG, 100 wide, 3 inputs each", "functions/s", higher_is_better=True),
    "chain": Metric("chain, per hop", "µs"),
    "hops": Metric("chain with time limits, which is sent hop by hop, per hop", "µs"),
    "branching": Metric("branching DAG of 4, warm, p50", "ms"),
    "large": Metric("100 MB array to 8 consumers", "ms"),
    "cpu": Metric("functions of 50 ms CPU: share of two cores", "%", higher_is_better=True),
    "cold": Metric("fresh interpreter: import, cluster, first DAG, exit", "ms"),
    "memory": Metric("Python objects in the app per pending function", "bytes"),
    "resident": Metric("resident memory of the app per pending function", "bytes"),
    "loop_many": Metric("longest hold of the app's event loop, 10,000 functions", "ms"),
    "loop_large": Metric("longest hold of the app's event loop, 100 MB result", "ms"),
    "daemon_fanout": Metric("independent no-ops, through daemons", "functions/s", higher_is_better=True),
    "daemon_chain": Metric("chain through daemons, per hop", "µs"),
}


class WrongResult(Exception):
    """A contender returned other results than the workload's functions do."""


class LoopWatch:
    """Measures how late the running event loop makes its calls, one tick after another."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._due_at = self._loop.time() + TICK_S
        self._timer = self._loop.call_at(self._due_at, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self.longest_s = max(self.longest_s, now - self._due_at)
        self._due_at = now + TICK_S
        self._timer = self._loop.call_at(self._due_at, self._tick)

    def stop(self) -> float:
        """Stop, and return the longest time that the loop was held, in seconds."""
        self._timer.cancel()
        return max(self.longest_s, self._loop.time() - self._due_at)


async def timed(cluster: Cluster, workload: Workload, *, collect: bool = True) -> float:
    """Measure the seconds from the framework's own graph to checked results in the app."""
    execute = await cluster.prepare(workload)
    if collect:
        # The garbage of the round before must not be collected in this one's time.
        gc.collect()
    started_at = time.perf_counter()
    results = await execute()
    took_s = time.perf_counter() - started_at
    check(workload, results)
    return took_s


def check(workload: Workload, results: Mapping[str, object]) -> None:
    for key, value in workload.expected.items():
        if not (value == results[key]):
            raise WrongResult(f"{key} should be {value!r} but is {results[key]!r}")


async def median_s(cluster: Cluster, workload: Workload, rounds: int = ROUNDS, warm_rounds: int = 1) -> float:
    """Measure the median seconds of some rounds, after others that do not count."""
    # Half of a round of a millisecond would go into refilling the caches after a collection.
    collect = rounds <= ROUNDS
    for _ in range(warm_rounds):
        await timed(cluster, workload, collect=collect)
    return statistics.median([await timed(cluster, workload, collect=collect) for _ in range(rounds)])


async def measure_fanout(contender: Contender) -> Figures:
    functions = contender.sizes.fan_out
    async with contender.embedded() as cluster:
        return {"fanout": functions / await median_s(cluster, workloads.fan_out(functions))}


async def measure_layered(contender: Contender) -> Figures:
    workload = workloads.layered(contender.sizes.layers)
    async with contender.embedded() as cluster:
        return {"layered": len(workload.steps) / await median_s(cluster, workload)}


async def measure_chain(contender: Contender) -> Figures:
    hops = contender.sizes.hops
    async with contender.embedded() as cluster:
        return {"chain": await median_s(cluster, workloads.chain(hops)) / hops * 1e6}


async def measure_hops(contender: Contender) -> Figures:
    hops = contender.sizes.hops
    async with contender.embedded() as cluster:
        return {"hops": await median_s(cluster, workloads.hops(hops)) / hops * 1e6}


async def measure_branching(contender: Contender) -> Figures:
    rounds = contender.sizes.branching_rounds
    async with contender.embedded() as cluster:
        took_s = await median_s(cluster, workloads.branching(), rounds, rounds // BRANCHING_WARM_SHARE)
        return {"branching": took_s * 1e3}


async def measure_large(contender: Contender) -> Figures:
    async with contender.embedded() as cluster:
        return {"large": await median_s(cluster, workloads.large()) * 1e3}


async def measure_cpu(contender: Contender) -> Figures:
    burned_s = workloads.SPIN_FUNCTIONS * workloads.SPIN_S
    async with contender.embedded() as cluster:
        took_s = await median_s(cluster, workloads.cpu_bound())
        return {"cpu": 100 * burned_s / (took_s * WORKERS)}


async def measure_memory(contender: Contender) -> Figures:
    """Measure the memory that building and starting a graph adds, while its first function holds up all others."""
    pending = contender.sizes.pending
    async with contender.embedded() as cluster:
        await timed(cluster, workloads.branching())
        resident = await growth_while_gated(cluster, pending, resident_bytes)
        tracemalloc.start()
        traced = await growth_while_gated(cluster, pending, lambda: tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        return {"memory": traced / pending, "resident": resident / pending}


def resident_bytes() -> int:
    """Return the resident memory of this process, which includes memory outside of Python, and freed but kept memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


async def growth_while_gated(cluster: Cluster, pending: int, read: Callable[[], int]) -> int:
    """Measure the growth of a reading from before a graph is built until all of it waits for its first function."""
    arrivals: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "gate"))
        workload = workloads.gated(path, pending)
        async with (
            await asyncio.start_unix_server(lambda _reader, writer: arrivals.put_nowait(writer), path),
            asyncio.TaskGroup() as tasks,
        ):
            gc.collect()
            before = read()
            execute = await cluster.prepare(workload)
            run = tasks.create_task(checked(execute, workload), name="gated run")
            gate = await arrivals.get()
            gc.collect()
            growth = read() - before
            gate.write(b"!")
            await run
            gate.close()
    return growth


async def checked(execute: Callable[[], Awaitable[Mapping[str, object]]], workload: Workload) -> None:
    check(workload, await execute())


async def measure_loop(contender: Contender) -> Figures:
    async with contender.embedded() as cluster:
        return {
            "loop_many": await longest_hold_s(cluster, workloads.fan_out()) * 1e3,
            "loop_large": await longest_hold_s(cluster, workloads.large_result()) * 1e3,
        }


async def longest_hold_s(cluster: Cluster, workload: Workload) -> float:
    """Measure the longest hold of the loop, in seconds, in a run that another one has warmed up."""
    await timed(cluster, workload)
    execute = await cluster.prepare(workload)
    gc.collect()
    watch = LoopWatch()
    results = await execute()
    longest_s = watch.stop()
    check(workload, results)
    return longest_s


async def measure_daemons(contender: Contender) -> Figures:
    assert contender.daemons is not None
    functions, hops = contender.sizes.fan_out, contender.sizes.hops
    async with contender.daemons() as cluster:
        return {
            "daemon_fanout": functions / await median_s(cluster, workloads.fan_out(functions)),
            "daemon_chain": await median_s(cluster, workloads.chain(hops)) / hops * 1e6,
        }


#: By workload; "cold" is missing, because a program's whole life is timed from outside of it.
MEASURES: dict[str, Callable[[Contender], Awaitable[Figures]]] = {
    "fanout": measure_fanout,
    "layered": measure_layered,
    "chain": measure_chain,
    "hops": measure_hops,
    "branching": measure_branching,
    "large": measure_large,
    "cpu": measure_cpu,
    "memory": measure_memory,
    "loop": measure_loop,
    "daemons": measure_daemons,
}
