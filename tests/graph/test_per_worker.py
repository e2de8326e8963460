"""Stand-ins for objects that workers make, as arguments of functions."""

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, CallSpec, Constant, Function, Plan, per_worker


def load(*_: object, **__: object) -> None: ...


async def load_soon() -> None: ...


def items() -> Iterator[int]:
    yield 1


def predict(*_: object, **__: object) -> None: ...


def plan_of(*functions: Function) -> Plan:
    return Plan.compile(DAG().add_functions(functions))


def test_it_is_called_as_the_call_that_makes_it() -> None:
    assert per_worker(load, "w.pt", size=3).name == "load('w.pt', size=3)"
    assert per_worker(partial(load, "w.pt")).name == "load()"
    assert repr(per_worker(load)) == "<per_worker load()>"
    assert len(per_worker(load, *(["x" * 1000] * 10)).name) <= 48
    assert per_worker(load, "\x1b[31mä").name == r"load('\x1b[31m\xe4')"


def test_it_becomes_a_call_without_a_result_of_its_own() -> None:
    model = per_worker(load, "w.pt", cost={"gpu": 1}, idle=5, size=3)

    plan = plan_of(Function(0, [model, Constant(1), model], predict), Function(1, [0, model], predict))

    made = CallSpec(0, (), 0)
    assert plan.args == [(made, -1, made), (0, made)]
    assert plan.producers == [(), (0,)]
    assert plan.constants == [(("w.pt",), {"size": 3})]
    spec = plan.templates[0]
    assert (spec.code, spec.cost, spec.is_async) == (load, {"gpu": 1.0}, False)
    assert spec.warm is not None
    assert (spec.warm.name, spec.warm.idle_s) == (model.name, 5.0)
    assert [template.warm for template in plan.templates[1:]] == [None]


def test_without_arguments_and_as_a_coroutine_function() -> None:
    plan = plan_of(Function(0, [per_worker(load_soon)], predict))

    assert plan.args == [(CallSpec(0, (), -1),)]
    assert plan.templates[0].is_async


def test_handles_and_objects_are_found_within_containers() -> None:
    model = per_worker(load)
    dag = DAG()
    first = dag.call(predict, {"best": [model]}, model, other=(model,))
    dag.call(predict, [first, model])

    plan = Plan.compile(dag)

    assert [len(args) for args in plan.args] == [1, 2]
    assert plan.producers == [(), (0,)]


def test_handles_and_objects_are_found_in_a_partial() -> None:
    model = per_worker(load)
    dag = DAG()
    first = dag.call(predict)
    dag.call(partial(predict, model, x=first, y=1), 2, y=3, cost={"cpu": 1})

    plan = Plan.compile(dag)

    assert dag.functions["predict-2"].code is predict
    assert plan.producers == [(), (0,)]
    assert len(plan.args[1]) == 3
    [(_, kwargs)] = [constants for constants in plan.constants if constants[1]]
    assert kwargs["y"] == 3


def test_locally_it_claims_nothing() -> None:
    dag = DAG()
    dag.call(predict, per_worker(load, cost={"gpu": 1}))

    assert Plan.compile(dag, local=True).templates[0].cost == {}


def test_functions_with_environments_of_their_own_have_objects_of_their_own() -> None:
    model = per_worker(load)
    functions = [
        Function(number, [model], predict, env_vars=variables)
        for number, variables in enumerate((None, {"A": "1"}, {"A": "1"}, {"A": "2"}))
    ]

    plan = plan_of(*functions)

    assert [args[0].template for args in plan.args if isinstance(args[0], CallSpec)] == [0, 1, 1, 2]


def test_inline_functions_take_them() -> None:
    model = per_worker(load)

    plan = plan_of(Function("i", [model], predict, type="inline"), Function(0, ["i", model], predict))

    [(inline, direct)] = plan.args
    assert isinstance(inline, CallSpec)
    assert inline.args == (direct,)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((3,), {}, TypeError, "load must be a callable, not 3"),
        ((items,), {}, TypeError, "load is a generator function"),
        ((load,), {"cost": {"gpu": -1}}, ValueError, "cost must be .*not {'gpu': -1}"),
        ((load,), {"idle": -1}, ValueError, "idle must be .*not -1"),
        ((load,), {"idle": "soon"}, ValueError, "idle must be .*not 'soon'"),
        ((load,), {"idle": float("inf")}, ValueError, "idle must be .*not inf"),
        ((load,), {"idle": True}, ValueError, "idle must be .*not True"),
        ((load, [per_worker(load)]), {}, ValueError, "not handles or other per_worker objects"),
        ((load,), {"x": DAG().call(load)}, ValueError, "not handles"),
    ],
)
def test_what_can_not_be_made_is_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        per_worker(*arguments, **options)


@pytest.mark.parametrize("where", [set, lambda found: dict.fromkeys(found, 1)])
def test_where_it_could_not_be_put_in_place_it_is_refused(where: Callable[[list[object]], object]) -> None:
    with pytest.raises(InvalidFunctionError, match=r"in a set|a key"):
        DAG().call(predict, where([per_worker(load)]))


def test_it_is_not_sent_itself() -> None:
    model = per_worker(load)

    assert copy.copy(model) is copy.deepcopy(model) is model
    with pytest.raises(TypeError, match="pass it as an argument"):
        pickle.dumps(model)
