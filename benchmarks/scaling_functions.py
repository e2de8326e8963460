"""The cost of a function for the app, in memory and in time, in graphs of any size: one sample in this fresh process.

    python -m benchmarks.scaling_functions 100000

prints JSON: CPU time of the app's process and bytes of its resident memory, each per function, of functions that all
wait for one and claim a core, on an embedded node with 2 workers.
"""

import asyncio
import gc
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import psutil

from benchmarks import workloads
from benchmarks.measures import checked, timed
from benchmarks.ours import CONTENDER


async def measure(functions: int) -> dict[str, float]:
    arrivals: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "gate"))
        async with (
            await asyncio.start_unix_server(lambda _reader, writer: arrivals.put_nowait(writer), path),
            CONTENDER.embedded() as cluster,
            asyncio.TaskGroup() as tasks,
        ):
            await timed(cluster, workloads.branching())
            workload = workloads.gated(path, functions)
            gc.collect()
            rss_before, began_at = rss(), process_time()
            execute = await cluster.prepare(workload)
            built_at = process_time()
            run = tasks.create_task(checked(execute, workload), name="gated run")
            gate = await arrivals.get()
            pending_at, rss_pending, wall_at = process_time(), rss(), perf_counter()
            gate.write(b"!")
            await run
            done_at, wall_s = process_time(), perf_counter() - wall_at
            gate.close()
    figures = {
        "build_us": 1e6 * (built_at - began_at),
        "start_us": 1e6 * (pending_at - built_at),
        "run_us": 1e6 * (done_at - pending_at),
        "wall_us": 1e6 * wall_s,
        "pending_nbytes": rss_pending - rss_before,
    }
    return {"functions": functions, **{name: figure / functions for name, figure in figures.items()}}


def rss() -> int:
    nbytes: int = psutil.Process().memory_info().rss
    return nbytes


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))
