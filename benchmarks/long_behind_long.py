"""Long functions after many short ones of the same code: 200 of 1 ms, then four of 1 s, on four daemons of one core.

    python -m benchmarks.long_behind_long --rounds 8

Whatever the run has learned of the code tells it that the long ones are short, so that it may send one behind another.
Prints the seconds of each round and the nodes of the long functions, then the same under simulated time.
"""

import argparse
import asyncio
import statistics
import time
from random import Random

import handoff_actors as handoff
from benchmarks.ours import wait_for_nodes
from benchmarks.schedules_graphs import Task
from benchmarks.schedules_simulation import Cluster, run

NODES = 4
SHORT_S = 0.001
SHORT = 200
LONG_S = 1.0
BEST_S = SHORT * SHORT_S / NODES + LONG_S
MOST = 1.2
PAUSE_S = 0.6
LATENCIES_S = (0.0001, 0.0003, 0.001, 0.003, 0.01)
SEEDS = 10
DURATIONS_S = [SHORT_S] * SHORT + [LONG_S] * NODES


async def measure(rounds: int) -> list[float]:
    """Measure rounds of one session, and print each."""
    took_s = []
    async with (
        handoff.LocalCluster(nodes=NODES, cpu=1) as cluster,
        handoff.Session(seeds=cluster.seeds, progress=False) as session,
    ):
        await wait_for_nodes(session, NODES)
        for _ in range(rounds):
            await asyncio.sleep(PAUSE_S)
            dag = handoff.DAG().add_functions(
                handoff.Function(number, [], time.sleep, extra_args=[duration_s], cost={"cpu": 1})
                for number, duration_s in enumerate(DURATIONS_S)
            )
            began_at = time.perf_counter()
            ended = await session.execute_distributed(dag)
            took_s.append(time.perf_counter() - began_at)
            nodes = sorted(ended.allocations[number] for number in range(SHORT, SHORT + NODES))
            print(f"{took_s[-1]:.2f} s, long ones on {', '.join(nodes)}", flush=True)
            await ended.release()
    return took_s


def simulated(seed: int, latency_s: float) -> float:
    """Simulate a run whose short functions take up to 1.6 ms; return its seconds over the best."""
    random = Random(seed)
    short_s = [random.uniform(SHORT_S, 1.6 * SHORT_S) for _ in range(SHORT)]
    graph = tuple(Task("nap", duration_s, 0, ()) for duration_s in [*short_s, *[LONG_S] * NODES])
    took_s = run(graph, Cluster([1] * NODES, latency_s, bandwidth=125_000_000))
    return took_s / (sum(short_s) / NODES + LONG_S)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_behind_long",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=8, help="rounds (8); 0: only simulated ones")
    rounds = parser.parse_args().rounds
    if took_s := asyncio.run(measure(rounds)) if rounds else []:
        within = sum(seconds <= MOST * BEST_S for seconds in took_s)
        print(
            f"median {statistics.median(took_s):.2f} s of {rounds} rounds, best {BEST_S:.2f},"
            f" ratio {statistics.median(took_s) / BEST_S:.2f}; {within} of {rounds} within {MOST:g}"
        )
    for latency_s in LATENCIES_S:
        ratios = [simulated(seed, latency_s) for seed in range(SEEDS)]
        within = sum(ratio <= MOST for ratio in ratios)
        print(
            f"simulated, {latency_s * 1e3:g} ms each way: ratio {min(ratios):.2f} to {max(ratios):.2f},"
            f" {within} of {SEEDS} within {MOST:g}"
        )


if __name__ == "__main__":
    main()
