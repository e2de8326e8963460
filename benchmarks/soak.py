"""Load on a web service with one open run, for minutes or days, and the memory that app, node and workers take meanwhile.

    pip install '.[examples]'
    python -m benchmarks.soak --minutes 10 --clients 8

The service is examples/fastapi_calls.py, the node a daemon with two workers. Every tenth request hangs up before its answer.
Prints resident megabytes over time, and by how much each has grown over the last 80 % of the time.
"""

import argparse
import asyncio
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import httpx
import psutil

from benchmarks.ours import start_daemon
from benchmarks.peers import ROOT

ORDER = {"samples": 2_000, "parts": 4}
HANGS_UP_EVERY = 10
HANGS_UP_AFTER_S = 0.001
UP_WITHIN_S = 30.0
#: The share of the time at the beginning in which memory may grow.
WARM_UP_SHARE = 5


class Reading(NamedTuple):
    """The memory at one moment."""

    at_s: float
    answered: int
    app_mb: float
    node_mb: float
    workers_mb: float


class Load:
    """Clients that go on asking."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.answered = 0
        self.hung_up = 0
        self.failed = 0

    async def ask(self, seconds: float) -> None:
        """Send one request after the other for so many seconds."""
        ends_at = time.monotonic() + seconds
        number = 0
        while time.monotonic() < ends_at:
            number += 1
            hangs_up = number % HANGS_UP_EVERY == 0
            limit = HANGS_UP_AFTER_S if hangs_up else None
            try:
                answer = await self._client.post("/estimates", json=ORDER, timeout=limit)
            except httpx.TimeoutException:
                self.hung_up += 1
                continue
            self.answered += answer.status_code == httpx.codes.OK
            self.failed += answer.status_code != httpx.codes.OK


@asynccontextmanager
async def start_app(seed: str) -> AsyncIterator[tuple[int, str]]:
    """Start the service; yields its process id and its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ("-m", "uvicorn", "--app-dir", "examples", "--port", str(port), "--log-level", "warning")
    app = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "fastapi_calls:app"), cwd=ROOT, env={**os.environ, "HANDOFF_SEEDS": seed}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        await until_up(address)
        yield app.pid, address
    finally:
        if app.returncode is None:
            app.terminate()
        await app.wait()


async def until_up(address: str) -> None:
    async with asyncio.timeout(UP_WITHIN_S), httpx.AsyncClient(base_url=address) as client:
        while True:
            with suppress(httpx.TransportError):
                await client.get("/health")
                return
            await asyncio.sleep(0.1)


def children() -> set[psutil.Process]:
    """The processes that this one has started."""
    return set(psutil.Process().children())


def read(began_at: float, answered: int, app_pid: int, node: psutil.Process) -> Reading:
    """Read the resident memory of the app, and of the node and its workers."""
    workers = 0
    for process in node.children(recursive=True):
        # Workers come and go.
        with suppress(psutil.NoSuchProcess):
            workers += process.memory_info().rss
    app = psutil.Process(app_pid).memory_info().rss
    megabytes = (nbytes / 1e6 for nbytes in (app, node.memory_info().rss, workers))
    return Reading(time.monotonic() - began_at, answered, *megabytes)


def growth(readings: Sequence[Reading]) -> dict[str, float]:
    """Megabytes by which each has grown over the last 80 % of the time: medians of the first and the last tenth of that."""
    late = [reading for reading in readings if reading.at_s >= readings[-1].at_s / WARM_UP_SHARE]
    part = max(1, len(late) // 10)
    return {
        field: statistics.median(getattr(reading, field) for reading in late[-part:])
        - statistics.median(getattr(reading, field) for reading in late[:part])
        for field in ("app_mb", "node_mb", "workers_mb")
    }


async def soak(seconds: float, clients: int, every_s: float) -> list[Reading]:
    """Put load on the service; print and return the readings."""
    readings: list[Reading] = []
    others = children()
    async with start_daemon("soak") as seed, start_app(seed) as (app_pid, address):
        [node] = [child for child in children() - others if child.pid != app_pid]
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, limits=limits) as client, asyncio.TaskGroup() as tasks:
            load = Load(client)
            asking = [tasks.create_task(load.ask(seconds)) for _ in range(clients)]
            began_at = time.monotonic()
            print("| s | requests | app, MB | node, MB | workers, MB |\n| ---: | ---: | ---: | ---: | ---: |")
            while not all(task.done() for task in asking):
                await asyncio.wait(asking, timeout=every_s)
                readings.append(read(began_at, load.answered, app_pid, node))
                at_s, answered, *megabytes = readings[-1]
                cells = [f"{at_s:.0f}", f"{answered:,}", *(f"{each:.1f}" for each in megabytes)]
                print(f"| {' | '.join(cells)} |", flush=True)
    rate = load.answered / readings[-1].at_s
    print(f"\n{rate:.0f} answers a second; {load.hung_up} hung up, {load.failed} failed")
    return readings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--clients", type=int, default=8, help="requests at a time (8)")
    parser.add_argument("--every", type=float, default=10, help="seconds from one reading to the next (10)")
    chosen = parser.parse_args(arguments)
    readings = asyncio.run(soak(60 * chosen.minutes, chosen.clients, chosen.every))
    grown = ", ".join(
        f"{field.removesuffix('_mb')} {megabytes:+.1f} MB" for field, megabytes in growth(readings).items()
    )
    print(f"growth over the last 80 %: {grown}")


if __name__ == "__main__":
    main()
