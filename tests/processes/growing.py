"""Functions that go on as graphs. Importable, since every worker imports them."""

from pathlib import Path
from typing import Any

import numpy as np

from handoff_actors import DAG, Parts, Subgraph
from tests.faults.functions import make, measure, wait_for


def add(*numbers: int) -> int:
    return sum(numbers)


def numbers(count: int) -> list[int]:
    return list(range(count))


def square(number: int) -> int:
    return number * number


def plus_length(number: int, of: Any) -> int:
    return number + len(of)


def quicksort(values: "np.ndarray[Any, Any]") -> Any:
    """Sort by two functions for the smaller and the larger ones."""
    if len(values) < 20_000:
        return np.sort(values)
    pivot = values[len(values) // 2]
    dag = DAG()
    smaller, larger = (dag.call(quicksort, part) for part in (values[values < pivot], values[values > pivot]))
    return Subgraph(dag, result=dag.call(joined, smaller, values[values == pivot], larger))


def joined(*parts: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return np.concatenate(parts)


def fibonacci(number: int) -> Any:
    if number < 2:
        return number
    dag = DAG()
    total = dag.call(add, dag.call(fibonacci, number - 1), dag.call(fibonacci, number - 2))
    return Subgraph(dag, result=total)


def count_down(number: int) -> Any:
    if number == 0:
        return "done"
    dag = DAG()
    return Subgraph(dag, result=dag.call(count_down, number - 1))


async def count_down_later(number: int) -> Any:
    return count_down(number)


def without_end(number: int) -> Any:
    dag = DAG()
    return Subgraph(dag, result=dag.call(add, dag.call(without_end, number + 1), 1))


def ends_in_a_failure() -> Any:
    dag = DAG()
    return Subgraph(dag, result=dag.call(int, "seven", id="the-leaf"))


def not_nine(number: int) -> int:
    if number == 9:
        raise ValueError(number)
    return number


def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(".")


def with_a_child_that_fails(path: str, times: int) -> Any:
    note(path)
    dag = DAG()
    return Subgraph(dag, result=dag.call(add, dag.call(fail_first, f"{path}.child", times), 1))


def fail_first(path: str, times: int) -> int:
    note(path)
    if Path(path).stat().st_size <= times:
        raise ValueError("not yet")
    return 41


def with_large_arguments(noted: str, gate: str) -> Any:
    """Large arguments, which functions take once there is such a file."""
    note(noted)
    dag = DAG()
    opened = dag.call(wait_for, gate, node="survivor", cost={"cpu": 1})
    return Subgraph(dag, result=dag.call(measure, make(1), make(2), opened))


def frames(count: int, length: int) -> Parts["np.ndarray[Any, Any]"]:
    return Parts(np.full(length, number) for number in range(count))


def first(values: "np.ndarray[Any, Any]") -> int:
    return int(values[0])


def how_many(items: list[Any]) -> int:
    return len(items)


def all_of(count: int) -> Any:
    dag = DAG()
    return Subgraph(dag, result=dag.map(square, over=range(count)))
