"""Start-up times, each figure beside the least possible one, in turn.

    python -m benchmarks.start --repeat 15

Modules are compiled before, as they are where a package is installed. Prints milliseconds: the median and the least,
and of whole processes the least CPU time, with that of their children, which other processes disturb least.
"""

import argparse
import asyncio
import compileall
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import handoff_actors as handoff
from handoff_actors.ids import WorkerId

ROOT = Path(__file__).parent.parent
WORKERS = 2
SAMPLE_LIMIT_S = 60

#: Whole processes, timed from outside, each after the one that it is to be compared with.
PROGRAMS = {
    "floor: python that does nothing": ["-c", "pass"],
    "import handoff_actors": ["-c", "import handoff_actors"],
    "floor: import asyncio, msgspec, msgpack": ["-c", "import asyncio, msgspec, msgpack"],
    "import, and look execute_distributed up": ["-c", "import handoff_actors as h; h.execute_distributed"],
    "floor: import asyncio, msgspec, msgpack, zmq": ["-c", "import asyncio, msgspec, msgpack, zmq"],
    "import, embedded node, first DAG, exit": ["-m", "benchmarks.cold_ours"],
    "floor: python that imports msgpack, cloudpickle": ["-c", "import msgpack, cloudpickle"],
}


def time_program(arguments: list[str]) -> tuple[float, float]:
    """Measure the milliseconds that a process takes, and its CPU time."""
    used_before, started_at = cpu_used_by_children(), time.perf_counter()
    # With a time limit, subprocess would not wait but poll, at intervals that grow to 50 ms.
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)
    return since(started_at), cpu_used_by_children() - used_before


def cpu_used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e3


def take_sample() -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.start", "--sample"]
    sample = subprocess.run(command, cwd=ROOT, check=True, timeout=SAMPLE_LIMIT_S, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(sample.stdout)
    return figures


async def watch_node() -> dict[str, float]:
    """Measure the start of an app's first node."""
    arrivals: asyncio.Queue[int] = asyncio.Queue()
    # Looking it up imports nearly everything, which has a figure of its own.
    register_local_node = handoff.register_local_node
    started_at = time.perf_counter()
    await register_local_node({"cpu": WORKERS}, workers=WORKERS)
    from handoff_actors.client import api  # noqa: PLC0415 - see above

    node = api._session()._hub.node  # noqa: SLF001 - nothing tells of workers otherwise
    assert node is not None
    listener = node._listener  # noqa: SLF001 - as above
    came_up = listener.worker_up

    def worker_up(worker: WorkerId, pid: int) -> None:
        came_up(worker, pid)
        arrivals.put_nowait(pid)

    listener.worker_up = worker_up  # type: ignore[method-assign]
    workers = [await arrivals.get() for _ in range(WORKERS)]
    figures = {f"embedded node with {WORKERS} workers up": since(started_at)}
    killed_at = time.perf_counter()
    os.kill(workers[0], signal.SIGKILL)
    await arrivals.get()
    figures["a killed worker's successor up"] = since(killed_at)
    closed_at = time.perf_counter()
    await handoff.shutdown()
    figures["shutdown"] = since(closed_at)
    return figures


def time_fork() -> float:
    started_at = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return since(started_at)


def since(started_at: float) -> float:
    return (time.perf_counter() - started_at) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="turns (15)")
    parser.add_argument("--sample", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        forked = {"floor: a fork that ends at once": time_fork()}
        print(json.dumps(asyncio.run(watch_node()) | forked))
        return
    for package in (Path(handoff.__file__).parent, ROOT / "benchmarks"):
        compileall.compile_dir(package, quiet=1)
    figures: defaultdict[str, list[float]] = defaultdict(list)
    cpu: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(options.repeat):
        for name, arguments in PROGRAMS.items():
            took, used = time_program(arguments)
            figures[name].append(took)
            cpu[name].append(used)
        for name, figure in take_sample().items():
            figures[name].append(figure)
    print("| what | median | least | least CPU |\n| --- | ---: | ---: | ---: |")
    for name, seen in figures.items():
        least_cpu = f"{min(cpu[name]):.0f}" if name in cpu else ""
        print(f"| {name} | {statistics.median(seen):.1f} | {min(seen):.1f} | {least_cpu} |")


if __name__ == "__main__":
    main()
