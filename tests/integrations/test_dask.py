"""Dask's collections are computed by our scheduler."""

import operator
from typing import Any

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask._task_spec import Alias, DataNode, Task, TaskRef
from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed
from dask.utils_test import GetFunctionTestMixin

import handoff_actors as handoff
from handoff_actors.integrations.background import BackgroundSession
from handoff_actors.integrations.dask import Key, get
from tests.integrations.functions import meet

pytestmark = pytest.mark.processes


class TestAsDaskSaysThatGetShouldBe(GetFunctionTestMixin):
    get = staticmethod(get)

    def test_get_stack_limit(self) -> None:
        # A tenth of Dask's: in this suite each event has the whole DAG checked.
        chain: dict[Key, Any] = {f"x{n + 1}": (operator.add, 1, f"x{n}") for n in range(1000)}

        assert get({"x0": 0, **chain}, "x1000") == 1000


def test_an_array() -> None:
    array = da.ones((100, 100), chunks=50)

    assert (array + array.T).sum().compute(scheduler=get) == 2 * 100 * 100


def test_a_bag() -> None:
    bag = db.from_sequence(range(100), npartitions=4)

    assert bag.filter(lambda n: n % 2).map(lambda n: n + 1).sum().compute(scheduler=get) == 2550


def test_a_dataframe() -> None:
    frame = pd.DataFrame({"key": [n % 3 for n in range(99)], "value": range(99)})

    sums = dd.from_pandas(frame, npartitions=3).groupby("key").value.sum().compute(scheduler=get)

    assert sums.to_dict() == {key: sum(range(key, 99, 3)) for key in range(3)}


def test_delayed_calls_in_the_structure_asked_for() -> None:
    one = delayed(int)(1)
    two = one + one

    assert compute([one, {"two": two}], two, scheduler=get) == ([1, {"two": 2}], 2)


@pytest.mark.parametrize(
    "graph",
    [
        {"x": 1, "y": (operator.add, "x", 2), "z": (sum, ["y", "x"]), "w": "z"},
        {
            "x": DataNode("x", 1),
            "y": Task("y", operator.add, TaskRef("x"), 2),
            "z": Task("z", operator.add, TaskRef("y"), TaskRef("x")),
            "w": Alias("w", "z"),
        },
    ],
    ids=["legacy", "tasks"],
)
def test_both_kinds_of_graphs(graph: dict[Key, Any]) -> None:
    assert get(graph, [["w"], "x", ["y", "z"]]) == ((4,), 1, (3, 4))


def test_coroutine_functions_are_awaited_and_run_at_the_same_time() -> None:
    ends = [delayed(meet)(number, 20) for number in range(20)]

    assert compute(*ends, delayed(sum)(ends), scheduler=get) == (*range(20), sum(range(20)))


def test_an_exception_is_the_users_own() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        delayed(operator.truediv)(1, 0).compute(scheduler=get)

    assert isinstance(raised.value.__cause__, handoff.RemoteTraceback)


def test_an_unknown_key_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        get({"x": 1}, "y")


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_results_may_be_written_to(size: int) -> None:
    ones = da.ones(size, chunks=size)
    first, second = compute(ones, ones + 1, scheduler=get)
    first += second

    assert first.sum() == 3 * size


def test_data_in_the_graph_is_sent_once() -> None:
    data = np.ones(1_000_000)
    graph: dict[Key, Any] = {"data": DataNode("data", data)}
    graph |= {f"sum-{n}": Task(f"sum-{n}", np.sum, TaskRef("data")) for n in range(5)}

    assert get(graph, [f"sum-{n}" for n in range(5)]) == (1_000_000,) * 5


def test_callbacks_hear_of_each_task() -> None:
    before, after, ends = [], [], []
    callbacks = Callback(
        pretask=lambda key, *_: before.append(key),
        posttask=lambda key, *_: after.append(key),
        finish=lambda *arguments: ends.append(arguments[2]),
    )
    with callbacks:
        get({"x": (int, "1"), "y": (abs, "x")}, "y")

    assert before == after == ["x", "y"]
    assert ends == [False]


def test_another_session() -> None:
    with BackgroundSession((), {"cpu": 1, "licence": 1}, workers=1) as session:
        value = delayed(int)(1).compute(scheduler=get, session=session, cost={"licence": 1})

    assert value == 1
