"""The cost of the shell: CPU time of app and daemon for functions that do nothing, which calibrates `scaling_world`.

    python -m benchmarks.scaling_costs

`fan-out` has many functions in each message. In `chain` each function is a message to the daemon and one back: with
this strategy no message carries two.
"""

import asyncio
from time import process_time

import psutil

import handoff_actors as handoff
from benchmarks.ours import CONTENDER
from benchmarks.workloads import nothing

ROUNDS = 4
FAN_OUT = 10_000
HOPS = 1_000


async def main() -> None:
    assert CONTENDER.daemons is not None
    print("us of CPU per function: app, daemon")
    async with CONTENDER.daemons():
        [daemon] = psutil.Process().children()
        for name, dag in (("fan-out", fan_out()), ("chain", chain())):
            for _ in range(ROUNDS):
                app_s, daemon_s = process_time(), cpu_s(daemon)
                run = await handoff.execute_distributed(dag, allocation_strategy="load_balanced")
                spent = (process_time() - app_s, cpu_s(daemon) - daemon_s)
                await run.release()
                print(name, *(f"{1e6 * each / len(dag):.1f}" for each in spent))


def fan_out() -> handoff.DAG:
    return handoff.DAG().add_functions(
        handoff.Function(index, [], nothing, cost={"cpu": 1}) for index in range(FAN_OUT)
    )


def chain() -> handoff.DAG:
    return handoff.DAG().add_functions(
        handoff.Function(index, [index - 1] if index else [], nothing, cost={"cpu": 1})
        for index in range(HOPS)
    )


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    asyncio.run(main())
