"""Whether nodes can hold all workers of a stream at once."""

import pytest

from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.core.stream.stages.capacity import WorkerNeed, check_capacity, needs_of
from handoff_actors.errors import AllocationError
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.streams.stream_plan import StreamPlan
from tests.core.stream.builders import async_code, code

OFFERS = {"n1": {"cpu": 2.0, "memory": 1000.0}, "n2": {"cpu": 1.0}}


def need(cpu: float, node: str | None = None, name: str = "f") -> WorkerNeed:
    return WorkerNeed(name, {"cpu": cpu}, node)


@pytest.mark.parametrize(
    "needs",
    [
        [],
        [need(1), need(1), need(1)],
        [need(0.5), need(2), need(0.5)],
        [need(1), need(2, "n1")],
        [WorkerNeed("f", {"memory": 1000.0}, None), need(2)],
    ],
)
def test_what_fits_is_not_refused(needs: list[WorkerNeed]) -> None:
    check_capacity(needs, OFFERS)


@pytest.mark.parametrize(
    "needs",
    [
        [need(2), need(1.5, name="late")],
        [need(1, "n2"), need(0.5, "n2", "late")],
        [need(1, "n2"), need(2), need(0.5, name="late")],
        [WorkerNeed("late", {"gpu": 1.0}, None)],
    ],
)
def test_first_that_does_not_fit_is_named(needs: list[WorkerNeed]) -> None:
    with pytest.raises(AllocationError, match=r"late.*for each of its workers") as caught:
        check_capacity(needs, OFFERS)

    assert caught.value.offers == OFFERS


def test_each_worker_of_a_stage_claims_its_cost_if_it_has_one() -> None:
    dag = DAG()
    number = dag.call(None, type="input", id="in")
    first = dag.call(code, number, id="first", cost={"cpu": 1}, parallelism=(2, 5), node="n1")
    free = dag.call(code, first, id="free", parallelism=3)
    dag.call(async_code, free, id="last", cost={"cpu": 2}, parallelism=8)

    needs = needs_of(StreamMachine(StreamPlan.compile(dag), StreamOptions()).stages)

    assert needs == [WorkerNeed("first", {"cpu": 1.0}, "n1")] * 2 + [WorkerNeed("last", {"cpu": 2.0}, None)]
