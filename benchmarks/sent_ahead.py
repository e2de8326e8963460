"""Work that is sent ahead to nodes far away: three nodes of one core, on a network that takes its time.

    python -m benchmarks.sent_ahead                      # real daemons in network namespaces, as root; and simulated
    python -m benchmarks.sent_ahead --rounds 0           # only simulated
    python -m benchmarks.sent_ahead short --delay 0.01 --rounds 1

    short      functions of 1 ms: the share of the time that the cores were busy
    no-ops     functions that do nothing: how many a second
    bimodal    95 % of 1 ms and 5 % of 1 s, of the same code, in random order: the ratio to three servers that take them in
               that order

The network is `tests.hosts.hub`, which also works with kernels that have no netem.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from random import Random

import handoff_actors as handoff
from benchmarks.ideal_queue import ends_of
from benchmarks.ours import wait_for_nodes
from benchmarks.schedules_graphs import Task
from benchmarks.schedules_simulation import Cluster, run
from tests.daemons import Daemons
from tests.hosts.hub import Conditions, Hub
from tests.hosts.network import Host

NODES = 3
SHORT_S = 0.001
LONG_S = 1.0
DELAYS_S = (0.0, 0.01)
#: Without a key, so that a link stands after as few messages as it can.
VARIABLES = {"HANDOFF_INSECURE": "1"}


def short() -> list[float]:
    return [SHORT_S] * 3_000


def no_ops() -> list[float]:
    return [0.0] * 20_000


def bimodal() -> list[float]:
    durations_s = [SHORT_S] * 285 + [LONG_S] * 15
    Random(1).shuffle(durations_s)
    return durations_s


LOADS: Mapping[str, Callable[[], list[float]]] = {"short": short, "no-ops": no_ops, "bimodal": bimodal}


def figure(load: str, took_s: float) -> str:
    """Return what a load is measured by."""
    durations_s = LOADS[load]()
    match load:
        case "short":
            return f"{sum(durations_s) / (took_s * NODES):.0%} busy"
        case "no-ops":
            return f"{len(durations_s) / took_s:,.0f} a second"
        case _:
            best_s = max(ends_of([(0.0, duration_s) for duration_s in durations_s], NODES))
            return f"ratio {took_s / best_s:.2f}"


# --- Real ---------------------------------------------------------------------------------------------------------


async def measure(seed: str, load: str, rounds: int) -> list[float]:
    """Measure the seconds of some rounds, after one of short functions from which the session may learn."""
    async with handoff.Session(seeds=[seed], progress=False) as session:
        await wait_for_nodes(session, NODES)
        await timed(session, [SHORT_S] * 100)
        return [await timed(session, LOADS[load]()) for _ in range(rounds)]


async def timed(session: handoff.Session, durations_s: Sequence[float]) -> float:
    dag = handoff.DAG().add_functions(
        handoff.Function(number, [], time.sleep, extra_args=[duration_s], cost={"cpu": 1})
        if duration_s
        else handoff.Function(number, [], int, cost={"cpu": 1})
        for number, duration_s in enumerate(durations_s)
    )
    began_at = time.perf_counter()
    ended = await session.execute_distributed(dag)
    took_s = time.perf_counter() - began_at
    await ended.release()
    return took_s


@contextmanager
def distant_nodes(delay_s: float) -> Iterator[tuple[Host, str]]:
    """Start three nodes, each on a host of its own; yields the app's host and the address of a node."""
    with ExitStack() as stack:
        # The hub sends each frame on; the way from one host to another takes the delay once.
        hosts = stack.enter_context(Hub(NODES + 1, Conditions(delay_s, 0.0, 0.0, 0.0), net="10.80.0")).hosts
        daemons = Daemons()
        stack.callback(daemons.close)
        seeds: list[str] = []
        for number, host in enumerate(hosts[:NODES], start=1):
            options = ("--name", f"n{number}", "--cpu", "1", "--listen", f"tcp://{host.address}:7070")
            join = ("--join", seeds[0]) if seeds else ()
            seeds.append(daemons.start(*options, *join, prefix=host.prefix, variables=VARIABLES).address)
        yield hosts[-1], seeds[0]


def real(loads: Sequence[str], delay_s: float, rounds: int) -> Iterator[tuple[str, list[float]]]:
    """Yield each load and the seconds of its rounds, measured by an app on a host of its own."""
    with distant_nodes(delay_s) as (host, seed):
        for load in loads:
            command = [*host.prefix, sys.executable, "-m", "benchmarks.sent_ahead", load, "--app", seed]
            done = subprocess.run(
                [*command, "--rounds", str(rounds)],
                env=os.environ | VARIABLES,
                check=True,
                stdout=subprocess.PIPE,
            )
            yield load, json.loads(done.stdout)


# --- Simulated ----------------------------------------------------------------------------------------------------


def simulated(load: str, delay_s: float) -> float:
    """Return the seconds of a run under simulated time, in which nothing but functions and the network takes any."""
    graph = tuple(Task("nap", duration_s, 0, ()) for duration_s in LOADS[load]())
    return run(graph, Cluster([1] * NODES, delay_s, bandwidth=125_000_000))


# --- Command line -------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sent_ahead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("loads", nargs="*", metavar="load", help=f"any of {', '.join(LOADS)}; all")
    parser.add_argument("--delay", type=float, nargs="+", default=DELAYS_S, help="seconds each way (0 0.01)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (3); 0: only simulated ones")
    parser.add_argument("--app", metavar="SEED", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    loads = chosen.loads or list(LOADS)
    if unknown := set(loads) - set(LOADS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if chosen.app:
        print(json.dumps(asyncio.run(measure(chosen.app, loads[0], chosen.rounds))))
        return
    print(
        "| ms each way | load | seconds | figure | least to most | simulated |\n| --- | --- | --- | --- | --- | --- |"
    )
    for delay_s in chosen.delay:
        measured = real(loads, delay_s, chosen.rounds) if chosen.rounds else ((load, []) for load in loads)
        for load, took_s in measured:
            cells = ["", "", ""]
            if took_s:
                median_s = statistics.median(took_s)
                cells = [f"{median_s:.2f}", figure(load, median_s), f"{min(took_s):.2f} to {max(took_s):.2f}"]
            # Nothing takes time that does nothing where the network takes none.
            ideal = "" if load == "no-ops" else figure(load, simulated(load, delay_s))
            print(f"| {delay_s * 1e3:g} | {load} | {' | '.join(cells)} | {ideal} |", flush=True)


if __name__ == "__main__":
    main()
