"""The microseconds of one function by purpose: stacks of the app and its workers, sampled by py-spy.

    pip install py-spy
    python -m benchmarks.where

Each workload runs for some seconds on an embedded node with two workers. A sample of a thread that runs is taken for
the time between two samples. "in turn" is the time of the app's loop and its threads, which take turns; workers run
beside.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import handoff_actors as handoff
from benchmarks import workloads
from benchmarks.contender import WORKERS
from benchmarks.ours import dag_of
from benchmarks.workloads import Workload

SAMPLES_PER_S = 500
LASTS_S = 8.0

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "fanout": workloads.fan_out,
    "layered": lambda: workloads.layered(100),
    "chain": lambda: workloads.chain(300),
    "hops": lambda: workloads.hops(300),
}

#: The purpose of a stack: the first one that matches one of its frames, or its innermost frame.
WITHIN = (
    ("(workers run beside) worker", "run_worker"),
    ("adding functions to the DAG (not timed elsewhere)", "build ("),
    ("the run decides", "handoff_actors/core/run/machine.py"),
    ("the node decides", "handoff_actors/core/node/machine.py"),
    ("the plan is compiled and encoded", "compile ("),
    ("the plan is compiled and encoded", "encode_program ("),
    ("the plan is compiled and encoded", "prepared ("),
)
INNERMOST = (
    ("messages to and from workers", "handoff_actors/workers/"),
    ("actors and messages between them", "handoff_actors/"),
    ("asyncio's loop", "asyncio/"),
    ("asyncio's loop", "selectors.py"),
)


def build(name: str) -> handoff.DAG:
    return dag_of(WORKLOADS[name]())


async def go_on(name: str) -> None:
    """Run a workload for a while, and print the number of functions run."""
    await handoff.register_local_node({"cpu": WORKERS}, workers=WORKERS)
    ends_at = time.perf_counter() + LASTS_S
    functions = 0
    while time.perf_counter() < ends_at:
        run = await handoff.execute_distributed(build(name))
        functions += len(run.results)
        await run.release()
    await handoff.shutdown()
    print(functions)


def sample(name: str) -> tuple[Counter[str], int]:
    """Return the microseconds for all functions by purpose, and the number of functions."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder, "stacks")
        spy = ["py-spy", "record", "--subprocesses", "--format", "raw", "--rate", str(SAMPLES_PER_S)]
        program = [sys.executable, "-m", "benchmarks.where", "--only", name]
        ended = subprocess.run(
            [*spy, "--output", str(stacks), "--", *program], check=True, capture_output=True, text=True
        )
        seen: Counter[str] = Counter()
        for purpose, samples in read(stacks):
            seen[purpose] += samples * 1_000_000 // SAMPLES_PER_S
        # py-spy prints to stdout, too.
        [functions] = [line for line in ended.stdout.splitlines() if line.isdigit()]
        return seen, int(functions)


def read(stacks: Path) -> Iterator[tuple[str, int]]:
    for line in stacks.read_text(encoding="utf-8").splitlines():
        stack, _, samples = line.rpartition(" ")
        if "go_on (" in stack or "_run_once (" in stack or "run_worker (" in stack or "to_thread" in stack:
            yield purpose_of(stack), int(samples)
        elif "compile (handoff_actors" in stack or "prepared (handoff_actors" in stack:
            yield "the plan is compiled and encoded", int(samples)


def purpose_of(stack: str) -> str:
    for purpose, mark in WITHIN:
        if mark in stack:
            return purpose
    innermost = stack.rpartition(";")[2]
    return next((purpose for purpose, mark in INNERMOST if mark in innermost), "the rest")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.where", description=__doc__)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        asyncio.run(go_on(chosen.only))
    else:
        print_table()


def print_table() -> None:
    columns = {}
    for name in WORKLOADS:
        seen, functions = sample(name)
        columns[name] = {purpose: spent / functions for purpose, spent in seen.items()}
    in_turn = dict.fromkeys(purpose for purpose, _ in (*WITHIN[2:], *INNERMOST))
    purposes = [*in_turn, "the rest", WITHIN[1][0], WITHIN[0][0]]
    print("| µs per function |", " | ".join(columns), "|")
    print("| --- |", " ---: |" * len(columns))
    for purpose in purposes:
        print(
            f"| {purpose} |",
            " | ".join(f"{column.get(purpose, 0.0):.1f}" for column in columns.values()),
            "|",
        )


if __name__ == "__main__":
    main()
