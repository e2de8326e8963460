"""The speed of a value from node to node, against a bare ZeroMQ transfer of the same chunks, in turn, in one run.

    python -m benchmarks.transfer --repeat 9

Prints the medians and their ratio, then the times of a small function's messages to the fetching node and back, with
nothing else going on and while a gigabyte comes in, eight times.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import zmq

import handoff_actors as handoff
from benchmarks.ours import start_daemon
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES, WINDOW_CHUNKS

VALUE_NBYTES = 256 << 20
BUSY_VALUES = 4
#: One gigabyte takes the time of a hundred small functions or so, too few for the slowest one in a hundred.
BUSY_ROUNDS = 8
IDLE_ROUND_TRIPS = 300


class Ways(NamedTuple):
    """The times of a small function's way to the worker and back to the app."""

    sent_at: float
    there_s: float
    back_s: float


# --- Ours ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_daemons() -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(start_daemon("one", workers=2))
        second = await stack.enter_async_context(start_daemon("two", "--join", first, workers=2))
        await handoff.connect([second])
        stack.push_async_callback(handoff.shutdown)
        yield


def now(_value: object = None) -> float:
    return time.time()


def now_if_mapped(value: memoryview, *_others: float) -> float:
    return time.time() if value.readonly else 0.0


def make_view(nbytes: int) -> memoryview:
    """Make a value that is a view, so that taking it costs nothing."""
    return memoryview(bytearray(nbytes))


def transfers(count: int) -> handoff.DAG:
    """Make a DAG of values of node one, each taken there and, once all are made, on node two, which has to fetch it."""
    dag = handoff.DAG()
    here = [f"here-{number}" for number in range(count)]
    for number in range(count):
        value = f"value-{number}"
        dag.add_function(handoff.Function(value, [], make_view, extra_args=[VALUE_NBYTES], node="one"))
        dag.add_function(handoff.Function(here[number], [value], now_if_mapped, node="one"))
        dag.add_function(handoff.Function(f"there-{number}", [value, *here], now_if_mapped, node="two"))
    return dag


async def fetched_in_s() -> float:
    """Measure the seconds from when the node that made a value could use it to when the other node can."""
    run = await handoff.execute_distributed(transfers(1))
    took_s = run.results["there-0"] - run.results["here-0"]
    await run.release()
    return float(took_s)


async def small_function() -> Ways:
    """Run a small function on the node that fetches."""
    dag = handoff.DAG().add_function(handoff.Function("now", [], now, node="two"))
    sent_at = time.time()
    run = await handoff.execute_distributed(dag)
    there_at, back_at = run.results["now"], time.time()
    return Ways(sent_at, there_at - sent_at, back_at - there_at)


async def small_functions() -> tuple[list[Ways], list[Ways]]:
    """Run small functions with nothing else going on, and while values come in."""
    idle = [await small_function() for _ in range(IDLE_ROUND_TRIPS)]
    # As in all measurements here, once for memory that this machine has never had from its host.
    await while_values_come_in()
    rounds = [await while_values_come_in() for _ in range(BUSY_ROUNDS)]
    return idle, [ways for round_ in rounds for ways in round_]


async def while_values_come_in() -> list[Ways]:
    """Run small functions one after the other for as long as values are being transferred."""
    moving = asyncio.ensure_future(handoff.execute_distributed(transfers(BUSY_VALUES)))
    busy = []
    while not moving.done():
        busy.append(await small_function())
    run = await moving
    starts = [run.results[f"here-{number}"] for number in range(BUSY_VALUES)]
    ends = [run.results[f"there-{number}"] for number in range(BUSY_VALUES)]
    await run.release()
    return [ways for ways in busy if max(starts) < ways.sent_at < max(ends)]


def described(times_s: Iterable[float]) -> str:
    ordered = sorted(took_s * 1e3 for took_s in times_s)
    middle, high = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"p50 {middle:.2f}, p99 {high:.2f}, max {ordered[-1]:.2f} ms"


# --- Bare ---------------------------------------------------------------------------------------------------------


def send_bare() -> None:
    """Be the other process: answer each request with a chunk, until there are no more requests."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        print(port, flush=True)
        value = memoryview(bytearray(VALUE_NBYTES))
        while (request := router.recv_multipart())[1]:
            offset = int(request[1])
            router.send_multipart([request[0], value[offset : offset + CHUNK_NBYTES]], copy=False)


def bare_s(*, keep: bool) -> float:
    """Measure the seconds to receive a value in chunks, a window of them requested ahead; `keep`: none is dropped."""
    with (
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.transfer", "--send"], stdout=subprocess.PIPE, text=True
        ) as sender,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        assert sender.stdout is not None
        dealer.connect(f"tcp://127.0.0.1:{int(sender.stdout.readline())}")
        offsets = iter(range(0, VALUE_NBYTES, CHUNK_NBYTES))
        dealer.send(b"%d" % next(offsets))
        dealer.recv()
        started_at = time.perf_counter()
        asked = [
            dealer.send(b"%d" % offset) for _, offset in zip(range(WINDOW_CHUNKS), offsets, strict=False)
        ]
        under_way = len(asked)
        kept = []
        while under_way:
            chunk = dealer.recv(copy=False)
            if keep:
                kept.append(chunk)
            under_way -= 1
            for offset in offsets:
                dealer.send(b"%d" % offset)
                under_way += 1
                break
        took_s = time.perf_counter() - started_at
        dealer.send(b"")
    return took_s


# --- Both ---------------------------------------------------------------------------------------------------------


async def compare(repeat: int) -> None:
    ours, kept, dropped = [], [], []
    async with two_daemons():
        await fetched_in_s()
        for _ in range(repeat):
            kept.append(await asyncio.to_thread(bare_s, keep=True))
            dropped.append(await asyncio.to_thread(bare_s, keep=False))
            ours.append(await fetched_in_s())
        idle, busy = await small_functions()
    rate, *bare_rates = [VALUE_NBYTES / 1e6 / statistics.median(seen) for seen in (ours, kept, dropped)]
    print(f"{VALUE_NBYTES >> 20} MiB from node to node: {rate:,.0f} MB/s")
    for what, bare_rate in zip(("kept", "dropped"), bare_rates, strict=True):
        print(f"bare ZeroMQ, same chunks, {what}: {bare_rate:,.0f} MB/s, ratio {rate / bare_rate:.2f}")
    for name, seen in (("idle", idle), ("while 1 GiB comes in", busy)):
        print(f"small function, {name}, {len(seen)} times")
        print(f"    from the app to the worker: {described(ways.there_s for ways in seen)}")
        print(f"    from the worker to the app: {described(ways.back_s for ways in seen)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--repeat", type=int, default=9, help="turns of each (9)")
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.send:
        send_bare()
    else:
        asyncio.run(compare(chosen.repeat))


if __name__ == "__main__":
    main()
