"""A program whose run grows and can be killed: `durable_growth.py JOURNAL LOG N` prints the result, and what was reused.

A tree of functions that return graphs of further ones, and a map over a list whose length is known only later. Each leaves its
name in the log when it has done its work. Once N of them are known to be done, stderr says so.
"""

import operator
import os
import sys
import time

import handoff_actors as handoff
from tests.processes.durable import report_after

DEPTH = 6
ITEMS = 200
#: Leaves count one each, items two.
RESULT = 2**DEPTH, 2 * sum(range(ITEMS))
#: The functions that do the work, and those that only add others.
LEAVES, EXPANDERS = 2**DEPTH, 2**DEPTH - 1


def note(name: str, log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{name}\n".encode())
    os.close(descriptor)


def work(name: str, value: int, log: str) -> int:
    time.sleep(0.01)
    note(name, log)
    return value


def add(name: str, left: int, right: int, log: str) -> int:
    note(f"add-{name}", log)
    return left + right


def tree(name: str, depth: int, log: str) -> "int | handoff.Subgraph[int]":
    if depth == 0:
        return work(f"leaf-{name}", 1, log)
    note(f"tree-{name}", log)
    dag = handoff.new()
    left, right = (dag.call(tree, name + side, depth - 1, log) for side in "lr")
    return handoff.Subgraph(dag, result=dag.call(add, name, left, right, log))


def items(log: str) -> list[int]:
    return [work("items", number, log) if number == 0 else number for number in range(ITEMS)]


def doubled(item: int, log: str) -> int:
    return work(f"item-{item}", 2 * item, log)


def build(log: str) -> handoff.DAG:
    dag = handoff.new()
    dag.call(tree, "", DEPTH, log, id="tree")
    mapped = dag.map(doubled, over=dag.call(items, log, id="items"), log=log)
    mapped.reduce(operator.add, id="total")
    return dag


def name_in_log(function_id: str) -> str | None:
    """Return what a function writes to the log when it has worked; None if it only adds others, or adds up."""
    parent, *numbers = function_id.split("/")
    if function_id == "items":
        return "items"
    if parent == "total" and numbers and int(numbers[0]) < ITEMS:
        return f"item-{numbers[0]}"
    if parent == "tree" and len(numbers) == DEPTH:
        return f"leaf-{''.join('lr'[int(number)] for number in numbers)}"
    return None


if __name__ == "__main__":
    run = handoff.run_sync(build(sys.argv[2]), journal=sys.argv[1], on_event=report_after(int(sys.argv[3])))
    print(run.results["tree"], run.results["total"], *run.reused)
