"""The interfaces of other libraries on three daemons of one core: 90 calls that sleep for 30 ms, without a cost and with one.

    python -m benchmarks.interfaces --rounds 3
    python -m benchmarks.interfaces joblib --cost none

Prints, per interface, the median seconds, the ratio to three servers without any cost of their own, and the share of each
node. Needs joblib and Dask.
"""

import argparse
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from joblib import Parallel, delayed, parallel_config

import handoff_actors as handoff
from benchmarks.ideal_queue import ends_of
from handoff_actors.integrations.background import BackgroundSession
from handoff_actors.integrations.dask import get
from handoff_actors.integrations.joblib import register

NODES = 3
CALLS = 90
SLEEP_S = 0.03
MOST = 1.2
#: Adverts of the round before have gone round by then.
PAUSE_S = 0.6

Cost = Mapping[str, float] | None


def napped_on(_number: int) -> int:
    """Sleep; return the process id of the zygote, of which each node has one."""
    time.sleep(SLEEP_S)
    return os.getppid()


def submit(session: BackgroundSession, cost: Cost) -> list[int]:
    with handoff.Executor(session=session, cost=cost) as executor:
        return [call.result() for call in [executor.submit(napped_on, number) for number in range(CALLS)]]


def map_all(session: BackgroundSession, cost: Cost) -> list[int]:
    with handoff.Executor(session=session, cost=cost) as executor:
        return list(executor.map(napped_on, range(CALLS)))


def parallel(session: BackgroundSession, cost: Cost) -> list[int]:
    register()
    with parallel_config("handoff", session=session, cost=cost):
        answers: list[int] = Parallel(n_jobs=-1)(delayed(napped_on)(number) for number in range(CALLS))
    return answers


def graph_of_all(session: BackgroundSession, cost: Cost) -> list[int]:
    graph: dict[Any, Any] = {("nap", number): (napped_on, number) for number in range(CALLS)}
    return list(get(graph, list(graph), session=session, cost=cost))


def graph_of_each(session: BackgroundSession, cost: Cost) -> list[int]:
    """Compute a graph for each call, from a thread for each, as a server with many users does."""

    def one(number: int) -> int:
        answer: int = get({"nap": (napped_on, number)}, "nap", session=session, cost=cost)
        return answer

    with ThreadPoolExecutor(CALLS) as threads:
        return list(threads.map(one, range(CALLS)))


INTERFACES: Mapping[str, Callable[[BackgroundSession, Cost], list[int]]] = {
    "submit": submit,
    "map": map_all,
    "joblib": parallel,
    "dask": graph_of_all,
    "dask-graphs": graph_of_each,
}


def measure(name: str, cost: Cost, rounds: int, session: BackgroundSession) -> str:
    """Measure one interface after a round that does not count; return its row."""
    took_s: list[float] = []
    shares: Counter[int] = Counter()
    for number in range(rounds + 1):
        time.sleep(PAUSE_S)
        began_at = time.perf_counter()
        nodes = INTERFACES[name](session, cost)
        if number > 0:
            took_s.append(time.perf_counter() - began_at)
            shares.update(nodes)
    best_s = max(ends_of([(0.0, SLEEP_S)] * CALLS, NODES))
    median_s = statistics.median(took_s)
    parts = [f"{shares[node] / shares.total():.0%}" for node in sorted(shares, key=shares.__getitem__)]
    cells = (
        *(name, "1 cpu" if cost else "none", f"{best_s:.2f}", f"{median_s:.2f}"),
        *(
            f"{min(took_s):.2f} to {max(took_s):.2f}",
            f"{median_s / best_s:.2f}",
            f"{MOST:g}",
            ", ".join(parts),
        ),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interfaces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="interface", help=f"any of {', '.join(INTERFACES)}; all")
    parser.add_argument("--cost", choices=("both", "cpu", "none"), default="both", help="claims (both)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (3)")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(INTERFACES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    costs: Mapping[str, Sequence[Cost]] = {"both": (None, {"cpu": 1}), "cpu": ({"cpu": 1},), "none": (None,)}
    print("| interface | cost | best, s | median, s | least to most | ratio | at most | per node |")
    print(f"|{' --- |' * 8}")
    with handoff.LocalCluster(nodes=NODES, cpu=1) as cluster, BackgroundSession(cluster.seeds) as session:
        for name in chosen.names or INTERFACES:
            for cost in costs[chosen.cost]:
                print(measure(name, cost, chosen.rounds, session), flush=True)


if __name__ == "__main__":
    main()
