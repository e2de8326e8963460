"""A program whose run can be killed: `durable.py JOURNAL LOG N` prints the result, and how many functions it reused.

Each function leaves its id in the log when it has done its work. Once N of them are known to be done, stderr says so.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable

import handoff_actors as handoff

WIDTH = 30
LAYERS = 4
#: Values double from layer to layer, plus one.
RESULT = WIDTH * (2**LAYERS - 1)
SIZE = WIDTH * LAYERS + 1


def work(*inputs: int, name: str, log: str) -> int:
    time.sleep(0.01)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{name}\n".encode())
    os.close(descriptor)
    return 1 + sum(inputs)


def name_at(layer: int, place: int) -> str:
    return f"{layer}-{place % WIDTH}"


def build(log: str) -> handoff.DAG:
    dag = handoff.new()
    for layer in range(LAYERS):
        for place in range(WIDTH):
            name = name_at(layer, place)
            args = [name_at(layer - 1, place + step) for step in (0, 1)] if layer else []
            dag.add_function(handoff.Function(name, args, work, kwargs={"name": name, "log": log}))
    last = [name_at(LAYERS - 1, place) for place in range(WIDTH)]
    return dag.add_function(handoff.Function("total", last, sum, argument_inclusion="as_list"))


def report_after(count: int) -> Callable[[handoff.RunEvent], None]:
    numbers = itertools.count(1)

    def on_event(event: handoff.RunEvent) -> None:
        if event.kind == "completed" and next(numbers) == count:
            print("so many are done", file=sys.stderr, flush=True)

    return on_event


if __name__ == "__main__":
    run = handoff.run_sync(build(sys.argv[2]), journal=sys.argv[1], on_event=report_after(int(sys.argv[3])))
    print(run.results["total"], len(run.reused))
