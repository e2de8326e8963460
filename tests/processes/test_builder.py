"""The builder runs what it draws."""

from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from tests.processes.app import App
from tests.workers import functions

pytestmark = pytest.mark.processes


async def test_built_dag_runs_with_values_and_results_mixed(app: App) -> None:
    dag = handoff.DAG("built")
    three = dag.call(functions.add, 1, 2)
    ten = dag.call(functions.add, three, 7, id="ten", cost={"cpu": 1})
    same = dag.call(lambda *args, **kwargs: (args, kwargs), "a string", ten, [three.id], kwargs={"key": 1})

    run = await app.run(dag)

    assert run.results[three.id] == 3
    assert run.results["ten"] == 10
    assert run.results[same.id] == (("a string", 10, [three.id]), {"key": 1})


async def test_handles_and_ids_can_be_mixed(app: App) -> None:
    dag = handoff.DAG()
    three = dag.call(functions.add, 1, 2, id="three")
    dag.add_function(handoff.Function("six", ["three", three], functions.add))

    assert (await app.run(dag)).results["six"] == 6


async def test_as_list_gives_one_list(app: App) -> None:
    dag = handoff.DAG()
    numbers = [dag.call(functions.same, number) for number in range(3)]

    def total(values: list[int], *rest: Any) -> tuple[int, tuple[Any, ...]]:
        return sum(values), rest

    dag.call(total, *numbers, argument_inclusion="as_list", extra_args=["more"], id="total")

    assert (await app.run(dag)).results["total"] == (3, ("more",))


async def test_results_are_placed_within_containers_beside_large_constants(app: App) -> None:
    dag = handoff.DAG()
    ones = dag.call(np.ones, 10_000)
    inline = dag.call(functions.same, [ones], type="inline")
    weights = np.full(20_000, 2.0)

    def total(parts: list[Any], more: dict[str, Any]) -> float:
        return float(sum(part.sum() for part in parts) + more["inline"][0].sum())

    takers = [dag.call(total, [ones, weights], kwargs={"more": {"inline": inline}}) for _ in range(3)]
    last = dag.call(sum, takers)

    run = await app.run(dag)

    assert run.results[last.id] == 3 * 60_000


async def test_error_about_an_argument_beside_results_says_where_it_is(app: App) -> None:
    dag = handoff.DAG()
    dag.call(functions.same, [dag.call(functions.same, 1), (number for number in range(3))], id="f")

    with pytest.raises(
        handoff.SerializationError, match=r"function 'f': .* args\[0\]\[1\] is a generator; use a list"
    ):
        await app.run(dag)


async def test_tasks_of_all_kinds_run_with_their_options(app: App) -> None:
    @handoff.task(cost={"cpu": 2}, retry_on=ValueError)
    def add(one: int, other: int) -> int:
        return one + other

    @handoff.task(timeout=20)
    async def answer(value: int) -> int:
        return value

    class Scale:
        @handoff.task(cost={"cpu": 1})
        def scale(self, value: int, *, factor: int) -> int:
            return value * factor

    dag = handoff.DAG()
    three = dag.call(add, 1, 2)
    nine = dag.call(Scale().scale, dag.call(answer, three), factor=3)
    last = dag.call(handoff.task(sum, cost={"cpu": 1}), [three, nine])

    run = await app.run(dag)

    assert run.results[last] == 12
    assert [run.results[handle] for handle in (three, nine)] == [3, 9]


def test_dag_is_drawn_in_three_languages() -> None:
    dag = handoff.DAG("drawn")
    dag.call(functions.add, dag.call(functions.same, 1, id="one"), 2, id="two")

    assert "one --> two;" in dag.to_mermaid()
    assert "f0 -> f1;" in dag.to_dot()
    assert dag._repr_svg_().startswith("<svg")
