"""The cost of encryption on the loopback: the same work through daemons, insecure and with the user's own key, in turn.

    python -m benchmarks.encryption --repeat 3

Prints medians, and the ratio of the keyed ones to the insecure ones.
"""

import argparse
import asyncio
import os
import statistics
import time
from collections import defaultdict

import handoff_actors as handoff
from benchmarks import workloads
from benchmarks.contender import Contender
from benchmarks.measures import measure_daemons
from benchmarks.ours import CONTENDER, start_daemon

VALUE_BYTES = 250_000_000
VALUES = 4
SESSIONS = 20

Figures = dict[str, float]


async def measure_transfer(contender: Contender) -> Figures:
    """Measure the seconds to fetch a gigabyte to the app, values made already."""
    assert contender.daemons is not None
    async with contender.daemons():
        dag = handoff.DAG()
        for number in range(VALUES):
            dag.add_function(handoff.Function(number, [], bytes, extra_args=[VALUE_BYTES]))
            # This takes the value, which so is no sink, and stays on its node until it is fetched.
            dag.add_function(handoff.Function(f"{number} taken", [number], len))
        run = await handoff.execute_distributed(dag)
        started_at = time.perf_counter()
        for number in range(VALUES):
            assert len(await run.fetch(number)) == VALUE_BYTES
        took_s = time.perf_counter() - started_at
    return {"s per GB": took_s * 1e9 / (VALUES * VALUE_BYTES)}


async def measure_sessions() -> Figures:
    """Measure the milliseconds from a new session to the result of its first function, through a running daemon."""
    took_s: list[float] = []
    async with start_daemon("daemon") as address:
        for _ in range(SESSIONS):
            started_at = time.perf_counter()
            async with handoff.Session(seeds=[address]) as session:
                await session.execute_distributed(
                    handoff.DAG().add_function(handoff.Function("one", [], int))
                )
                took_s.append(time.perf_counter() - started_at)
    return {"ms to the first result of a session": statistics.median(took_s) * 1e3}


async def sample(*, insecure: bool) -> Figures:
    """Take one turn. Daemons and the default session of this process take `insecure` from the environment."""
    os.environ["HANDOFF_INSECURE"] = str(int(insecure))
    through_daemon = await measure_daemons(CONTENDER)
    return {
        "µs per independent function": 1e6 / through_daemon["daemon_fanout"],
        "µs per hop of a chain": through_daemon["daemon_chain"],
        **await measure_transfer(CONTENDER),
        **await measure_sessions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encryption", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="turns of each (3)")
    repeat = parser.parse_args().repeat
    plain: defaultdict[str, list[float]] = defaultdict(list)
    keyed: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(repeat):
        for figures, insecure in ((plain, True), (keyed, False)):
            for name, figure in asyncio.run(sample(insecure=insecure)).items():
                figures[name].append(figure)
    print(
        f"| figure ({workloads.FAN_OUT:,} functions) | insecure | with a key | ratio |\n| --- | --- | --- | --- |"
    )
    for name, seen in plain.items():
        before, after = statistics.median(seen), statistics.median(keyed[name])
        print(f"| {name} | {before:.3g} | {after:.3g} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
