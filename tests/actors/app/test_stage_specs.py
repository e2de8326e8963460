"""What workers of stages are told to do."""

import pickle
from typing import Any

import cloudpickle

from handoff_actors.actors.app.stage_specs import stage_call, stage_spec
from handoff_actors.graph import DAG, Constant, Function, per_worker
from handoff_actors.graph.argument import PerWorker, RunValue
from handoff_actors.graph.fold import MAX_INLINE_DEPTH
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.workers.stage_spec import FromProducer, Given, InlineCall, Recipe, StageSpec


def collect(*values: Any, **named: Any) -> Any:
    return values, named


def of_input(function_id: str) -> Function:
    return Function(function_id, [], None, type="input")


def compiled(*functions: Function) -> StreamPlan:
    return StreamPlan.compile(DAG().add_functions(functions))


def evaluated(recipe: Recipe, values: list[Any]) -> Any:
    match recipe:
        case FromProducer(position):
            return values[position]
        case Given(value):
            return value
        case InlineCall():
            args = [evaluated(arg, values) for arg in recipe.args]
            return recipe.code(*([args] if recipe.as_list else args), *recipe.extra_args, **recipe.kwargs)


def test_spec_has_what_the_function_says() -> None:
    plan = compiled(
        of_input("x"),
        Function(
            "f",
            ["x", Constant(1), "x"],
            collect,
            init=dict,
            finish=list,
            close=len,
            batch_size=4,
            retry_on=ValueError,
        ),
        Function("g", ["f"], collect, key=len),
        Function("h", ["f"], collect),
        Function("i", ["f"], collect, key=repr),
    )

    assert stage_spec(plan, 1, 3) == StageSpec(
        stage=1,
        lane=3,
        name="'f'",
        code=collect,
        args=(FromProducer(0), Given(1), FromProducer(0)),
        init=dict,
        finish=list,
        close=len,
        is_batched=True,
        keys=(len, repr),
        retry_on=ValueError,
    )


def test_coroutine_functions_have_many_items_at_once() -> None:
    async def wait(value: Any) -> Any:
        return value

    plan = compiled(of_input("x"), Function("f", ["x"], wait, parallelism=(1, 8)))

    assert stage_spec(plan, 1, 0).concurrency == 8


def test_generators_and_lists_are_marked() -> None:
    def spread(values: Any) -> Any:
        yield from values

    plan = compiled(
        of_input("x"), of_input("y"), Function("f", ["y", "x"], spread, argument_inclusion="as_list")
    )

    spec = stage_spec(plan, 2, 0)

    assert (spec.is_generator, spec.as_list) == (True, True)
    assert spec.args == (FromProducer(0), FromProducer(1))


def test_arguments_that_stay_the_same_go_beside_it() -> None:
    dag, value = DAG(), RunValue()
    model: PerWorker[dict[str, int]] = per_worker(dict)
    dag.call(collect, dag.call(None, type="input", id="x"), value, 5, model=model)
    plan = StreamPlan.compile(dag)

    spec, extra_args, kwargs = stage_call(plan, 1, 0)

    assert spec == stage_spec(plan, 1, 0)
    assert spec.args == (FromProducer(0),)
    assert extra_args == (value, 5)
    assert kwargs == {"model": model}


def test_results_by_name_are_passed_behind_those_by_position_and_taken_out_again() -> None:
    dag = DAG()
    x, y = dag.call(None, type="input", id="x"), dag.call(None, type="input", id="y")
    inner = dag.call(collect, 1, named=y, other=[x], type="inline")
    dag.call(collect, x, 5, id="f", named=y, inner=inner, init=dict, constant=6)
    plan = StreamPlan.compile(dag)

    spec, extra_args, kwargs = pickle.loads(cloudpickle.dumps(stage_call(plan, 2, 0)))

    values = [evaluated(recipe, [10, 20]) for recipe in spec.args]
    made = ((1,), {"named": 20, "other": [10]})
    assert spec.code("state", *values, *extra_args, **kwargs) == (
        ("state", 10, 5),
        {"named": 20, "inner": made, "constant": 6},
    )


def test_inline_functions_and_containers_are_computed_for_each_item() -> None:
    dag = DAG()
    x, y = dag.call(None, type="input", id="x"), dag.call(None, type="input", id="y")
    inner = dag.call(collect, y, 1, named=2, type="inline", id="inner")
    listed = dag.add_function(
        Function("listed", [inner, "x"], collect, type="inline", argument_inclusion="as_list")
    ).call(collect, [x, {"inner": inner}], dag.call(collect, y, type="inline"), inner, id="f")
    dag.call(collect, "no result", dag.call(collect, listed), type="inline")

    plan = StreamPlan.compile(dag)
    number = plan.ids.index("f")
    spec = pickle.loads(cloudpickle.dumps(stage_spec(plan, number, 0)))

    names = [plan.ids[each] for each in plan.vertices[number].producers]
    assert names == ["x", "y"]
    made = ((20, 1), {"named": 2})
    assert [evaluated(recipe, [10, 20]) for recipe in spec.args] == [[10, {"inner": made}], ((20,), {}), made]


def test_inline_functions_of_lists_are_given_lists() -> None:
    plan = compiled(
        of_input("x"),
        of_input("y"),
        Function("inner", ["x", "y"], collect, type="inline", argument_inclusion="as_list", extra_args=[7]),
        Function("f", ["inner"], collect),
    )

    [recipe] = stage_spec(plan, 2, 0).args

    assert evaluated(recipe, [10, 20]) == (([10, 20], 7), {})


def test_the_deepest_inline_functions_can_be_sent() -> None:
    inlines = [
        Function(number, [number - 1 if number else "x"], collect, type="inline")
        for number in range(MAX_INLINE_DEPTH)
    ]
    plan = compiled(of_input("x"), *inlines, Function("f", [MAX_INLINE_DEPTH - 1], collect))

    sent = pickle.loads(cloudpickle.dumps(stage_spec(plan, 1, 0)))

    [recipe] = sent.args
    assert evaluated(recipe, [1])
