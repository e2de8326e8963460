"""The plans of streams, and what streams refuse."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.errors import CycleError, DagError, InvalidFunctionError, MissingFunctionError
from handoff_actors.graph import DAG, Argument, Constant, Function, per_worker
from handoff_actors.graph.argument import ItemsOf, PerWorker, RunValue, SharedValue
from handoff_actors.graph.streams.stage_arguments import Filled, ResultOf
from handoff_actors.graph.streams.stream_plan import StreamPlan


def add(*values: Any, **_: Any) -> Any:
    return sum(values)


def double(value: Any) -> Any:
    return value * 2


def spread(*values: Any) -> Iterator[Any]:
    yield from values


async def wait(*values: Any) -> Any:
    return values


async def spread_async(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


class Spreading:
    def spread(self, *values: Any) -> Iterator[Any]:
        yield from values

    def __call__(self, *values: Any) -> Iterator[Any]:
        yield from values


def of_input(function_id: str = "x") -> Function:
    return Function(function_id, [], None, type="input")


def stage(function_id: str, *args: Any, code: Callable[..., Any] = add, **options: Any) -> Function:
    return Function(function_id, args, code, **options)


def inline(function_id: str, *args: Any, **options: Any) -> Function:
    return stage(function_id, *args, type="inline", **options)


def compiled(*functions: Function) -> StreamPlan:
    return StreamPlan.compile(DAG("dag").add_functions(functions))


def refusal_of(*functions: Function) -> InvalidFunctionError:
    with pytest.raises(InvalidFunctionError) as caught:
        compiled(*functions)
    return caught.value


# --- Vertices ---------------------------------------------------------------------------------------------------


def test_inputs_come_first_and_stages_after_their_producers() -> None:
    plan = compiled(stage("last", "mid", "x"), stage("mid", "y"), of_input("y"), of_input("x"))

    assert plan.dag_id == "dag"
    assert plan.ids == ["y", "x", "mid", "last"]
    assert [vertex.number for vertex in plan.vertices] == [0, 1, 2, 3]
    assert [vertex.is_input for vertex in plan.vertices] == [True, True, False, False]
    assert [vertex.producers for vertex in plan.vertices] == [(), (), (0,), (2, 1)]
    assert [vertex.consumers for vertex in plan.vertices] == [[(2, 0)], [(3, 1)], [(3, 0)], []]
    assert list(plan.inputs) == [0, 1]
    assert list(plan.sinks) == [3]


def test_a_dependency_that_is_named_twice_is_one_producer() -> None:
    plan = compiled(of_input(), of_input("y"), stage("f", "y", "x", "y"))

    assert plan.vertices[2].producers == (1, 0)
    assert plan.vertices[0].consumers == [(2, 1)]
    assert plan.vertices[2].arguments.ids == ["y", "x", "y"]


def test_one_input_by_itself_passes_through() -> None:
    plan = compiled(of_input())

    assert (list(plan.inputs), list(plan.sinks)) == ([0], [0])


def test_inline_functions_are_part_of_the_stages_that_use_them() -> None:
    plan = compiled(
        *map(of_input, "xyz"),
        inline("inner", "y", "x"),
        inline("outer", "inner", "z", "inner"),
        stage("f", "outer", "y"),
        stage("g", "inner"),
        inline("unused", "z"),
    )

    f, g = plan.vertices[3:]
    assert plan.ids == ["x", "y", "z", "f", "g"]
    assert [plan.ids[each] for each in f.producers] == ["y", "x", "z"]
    assert [plan.ids[each] for each in g.producers] == ["y", "x"]
    assert list(f.inlines) == ["inner", "outer"]
    assert list(g.inlines) == ["inner"]
    assert plan.vertices[0].consumers == [(3, 1), (4, 1)]
    assert list(plan.inlines) == ["inner", "outer", "unused"]


def test_vertices_without_consumers_are_sinks_and_so_are_inputs() -> None:
    plan = compiled(of_input("x"), of_input("y"), stage("f", "x"), stage("g", "x"))

    assert [plan.ids[each] for each in plan.sinks] == ["y", "f", "g"]


@pytest.mark.parametrize(
    ("code", "is_generator", "is_async"),
    [
        (add, False, False),
        (spread, True, False),
        (functools.partial(spread, 1), True, False),
        (Spreading().spread, True, False),
        (Spreading(), True, False),
        (wait, False, True),
        (functools.partial(wait, 1), False, True),
        (spread_async, True, True),
        (len, False, False),
    ],
)
def test_the_kind_of_a_stage_is_seen_through_its_wrapping(
    code: Any, is_generator: bool, is_async: bool
) -> None:
    vertex = compiled(of_input(), stage("f", "x", code=code)).vertices[1]

    assert (vertex.is_generator, vertex.is_async) == (is_generator, is_async)


@pytest.mark.parametrize(
    ("code", "parallelism", "concurrency"),
    [(add, 3, 1), (wait, 1, 1), (wait, 3, 3), (wait, (2, 5), 5), (spread_async, 3, 1)],
)
def test_the_worker_of_a_coroutine_function_has_many_items_at_once(
    code: Any, parallelism: Any, concurrency: int
) -> None:
    plan = compiled(of_input(), stage("f", "x", code=code, parallelism=parallelism))

    assert plan.vertices[1].concurrency == concurrency


@pytest.mark.parametrize(
    ("options", "is_batched"), [({}, False), ({"batch_size": 1}, True), ({"batch_timeout": 1.0}, True)]
)
def test_either_option_makes_batches(options: dict[str, Any], is_batched: bool) -> None:
    assert compiled(of_input(), stage("f", "x", **options)).vertices[1].is_batched == is_batched


def test_graphs_of_the_builder_have_plans() -> None:
    dag = DAG()
    pushed = dag.call(None, type="input", id="x")
    twice = dag.call(double, pushed, id="twice", parallelism=(1, 2))
    dag.call(add, twice, pushed, 3, id="sum", init=dict, finish=list, close=len, on_state_loss="fail")

    plan = StreamPlan.compile(dag)

    assert plan.ids == ["x", "twice", "sum"]
    assert plan.vertices[2].producers == (1, 0)


# --- Arguments --------------------------------------------------------------------------------------------------


def arguments(dag: DAG) -> Any:
    return StreamPlan.compile(dag).vertices[-1].arguments


def test_what_follows_the_last_result_is_the_same_for_all_items() -> None:
    dag = DAG().add_function(of_input())
    dag.call(add, 1, dag.call(double, handoff.Argument("x")), 2, [3], named=4)

    own = arguments(dag)

    assert [getattr(arg, "value", None) or arg.id for arg in own.args] == [1, "double-1"]
    assert own.extra_args == (2, [3])
    assert own.kwargs == {"named": 4}


def test_a_list_of_results_keeps_its_constants() -> None:
    function = stage("f", Constant(1), "x", Constant(2), argument_inclusion="as_list", extra_args=[3])

    own = arguments(DAG().add_functions([of_input(), function]))

    assert own.as_list
    assert len(own.args) == 3
    assert own.extra_args == (3,)


def test_results_within_containers_are_put_there_for_each_item() -> None:
    dag = DAG()
    x, y = dag.call(None, type="input", id="x"), dag.call(None, type="input", id="y")
    dag.call(add, [y, {"a": (x, y)}], [5, [6]], x, [7])

    own = arguments(dag)

    filled, constant, last = own.args
    assert isinstance(filled, Filled)
    assert filled.ids == ("y", "x")
    assert filled.filling("b", "c") == ["b", {"a": ("c", "b")}]
    assert constant.value == [5, [6]]
    assert last == ResultOf("x")
    assert own.extra_args == ([7],)
    assert own.ids == ["y", "x", "x"]


def test_values_of_runs_and_objects_of_workers_stay_the_same() -> None:
    dag, value = DAG(), RunValue()
    model: PerWorker[dict[str, int]] = per_worker(dict)
    x = dag.call(None, type="input", id="x")
    dag.call(add, x, value, [model], SharedValue(8), named=[value], other=model)

    own = arguments(dag)

    assert own.args == (ResultOf("x"),)
    assert own.extra_args == (value, [model], 8)
    assert own.kwargs == {"named": [value], "other": model}


@pytest.mark.parametrize("extra", [per_worker(dict), RunValue()])
def test_they_may_stand_among_args_too(extra: Any) -> None:
    dag = DAG()
    dag.call(add, dag.call(None, type="input", id="x"), extra)

    assert arguments(dag).extra_args == (extra,)


def test_an_argument_without_hooks_is_an_id() -> None:
    assert arguments(DAG().add_functions([of_input(), stage("f", Argument("x"))])).args == (ResultOf("x"),)


# --- Generators and finish --------------------------------------------------------------------------------------


def test_items_have_a_part_more_for_each_generator_on_their_way() -> None:
    plan = compiled(
        of_input(),
        stage("spread", "x", code=spread),
        stage("left", "spread"),
        stage("right", "spread"),
        stage("join", "left", "right", code=spread_async),
        stage("end", "join"),
        stage("other end", "join"),
    )

    assert [vertex.depth for vertex in plan.vertices] == [0, 0, 1, 1, 1, 2, 2]


def test_items_of_a_generator_have_nothing_to_be_joined_with_elsewhere() -> None:
    error = refusal_of(of_input(), stage("spread", "x", code=spread), stage("join", "x", "spread"))

    assert error.function_id == "join"
    assert "takes from 'x' and from 'spread', whose items can't be matched" in str(error)
    assert "those of 'x' come from no generator, those of 'spread' from the generator 'spread'" in str(error)


def test_items_of_as_many_other_generators_can_not_be_joined_either() -> None:
    error = refusal_of(
        of_input(),
        stage("a", "x", code=spread),
        stage("b", "x", code=spread),
        stage("c", "a", code=spread),
        inline("both", "b", "c"),
        stage("join", "both"),
    )

    assert error.function_id == "join"
    assert "those of 'c' from the generator 'a', then 'c'" in str(error)


def test_results_of_a_stream_come_by_way_of_the_same_generators() -> None:
    error = refusal_of(of_input(), stage("spread", "x", code=spread), stage("plain", "x"))

    assert error.function_id == "plain"
    assert "gives a result of the stream, 'plain', beside 'spread', whose items can't be matched" in str(
        error
    )


def test_what_finish_gives_may_go_through_any_stages_behind() -> None:
    plan = compiled(
        of_input(),
        stage("before", "x"),
        stage("sum", "before", init=dict, finish=list),
        stage("left", "sum"),
        stage("right", "sum"),
        stage("join", "left", "right"),
    )

    assert list(plan.sinks) == [5]


def test_what_finish_gives_has_nothing_to_be_joined_with_elsewhere() -> None:
    error = refusal_of(
        of_input(),
        stage("sum", "x", init=dict, finish=list),
        stage("next", "sum"),
        stage("join", "next", "x"),
    )

    assert error.function_id == "sum"
    assert "it has finish, and 'join', behind it, takes from 'x', too" in str(error)


def test_what_finish_gives_is_no_result_beside_others() -> None:
    error = refusal_of(of_input(), stage("sum", "x", init=dict, finish=list), stage("other", "x"))

    assert error.function_id == "sum"
    assert "the stream has the result of 'other', too" in str(error)


# --- Refusals ---------------------------------------------------------------------------------------------------


def test_wrong_graphs_are_wrong_for_streams_too() -> None:
    with pytest.raises(MissingFunctionError):
        compiled(stage("f", "gone"))
    with pytest.raises(CycleError):
        compiled(of_input(), stage("f", "g"), stage("g", "f", "x"))


@pytest.mark.parametrize("functions", [[], [inline("f")]])
def test_a_stream_needs_something_to_be_pushed(functions: list[Function]) -> None:
    with pytest.raises(
        DagError, match=r'has no input, so nothing could be pushed: dag.call\(None, type="input"\)'
    ):
        compiled(*functions)


@pytest.mark.parametrize(
    "functions", [[stage("f")], [stage("f", Constant(1))], [inline("g"), stage("f", "g")]]
)
def test_a_stage_without_inputs_would_never_be_called(functions: list[Function]) -> None:
    error = refusal_of(of_input(), *functions)

    assert error.function_id == "f"
    assert "a stage without inputs would never be called: give it" in str(error)


REFUSED: dict[str, tuple[Function, str]] = {
    "when": (stage("f", "x", when=["x"]), "when is an option of runs: .*SKIP"),
    "run_if": (stage("f", "x", run_if="always"), "run_if='always' is an option of runs: .* ItemError"),
    "cache": (stage("f", "x", cache=60), "cache is an option of runs"),
    "batched generator": (
        stage("f", "x", code=spread, batch_size=2),
        "leave out batch_size and batch_timeout",
    ),
    "batched by time": (
        stage("f", "x", code=spread, batch_timeout=2),
        "leave out batch_size and batch_timeout",
    ),
    "serialize": (
        stage("f", Argument("x", serialize=add)),
        "no hooks of arguments: serialize 'x' at the end",
    ),
    "deserialize": (stage("f", Argument("x", deserialize=add)), "no hooks of arguments"),
    "value of a run": (stage("f", Constant(RunValue()), "x"), "can't stand before"),
    "object of workers": (
        stage("f", per_worker(dict), "x"),
        "can't stand before, or in a list with, results",
    ),
    "listed": (
        stage("f", "x", Constant(RunValue()), argument_inclusion="as_list"),
        "in a list with, results",
    ),
    "arguments": (stage("f", "x", "x", code=double), "can't be called with its arguments: it takes 1 "),
    "state": (
        stage("f", "x", code=double, init=dict),
        "can't be called with its arguments: it takes 1 .* given 2",
    ),
    "batch": (stage("f", "x", code=double, batch_size=2, extra_args=[1]), "it takes 1 .* given 2"),
    "batch by time": (
        stage("f", "x", code=double, batch_timeout=2, kwargs={"a": 1}),
        "it has no parameter 'a'",
    ),
    "finish": (stage("f", "x", init=dict, finish=dict.fromkeys), ""),
    "close": (stage("f", "x", init=dict, close=lambda: None), "its close can't be called so: it takes 0"),
    "key": (stage("f", "x", key=lambda a, b: (a, b)), "its key can't be called so: it is given no 'b'"),
}


@pytest.mark.parametrize("name", [name for name, (_, words) in REFUSED.items() if words])
def test_what_has_no_place_in_a_stream_is_refused_with_a_way_out(name: str) -> None:
    function, words = REFUSED[name]

    with pytest.raises(InvalidFunctionError, match=f"'f': .*{words}"):
        compiled(of_input(), function)


def test_code_without_known_parameters_is_taken_as_it_is() -> None:
    function, _ = REFUSED["finish"]

    assert compiled(of_input(), function).ids == ["x", "f"]


def test_a_batch_and_a_state_are_arguments() -> None:
    def batched(state: Any, batch: Any, extra: Any) -> Any:
        return batch, state, extra

    plan = compiled(
        of_input(), of_input("y"), stage("f", "x", "y", code=batched, init=dict, batch_size=2, extra_args=[1])
    )

    assert plan.vertices[2].is_batched


def test_results_may_be_passed_by_name() -> None:
    dag = DAG()
    x, y = dag.call(None, type="input", id="x"), dag.call(None, type="input", id="y")
    dag.call(add, x, 1, named=y, other=2, listed=[x])

    own = arguments(dag)

    first, named, listed = own.args
    assert (first, named) == (ResultOf("x"), ResultOf("y"))
    assert isinstance(listed, Filled)
    assert own.names == ("named", "listed")
    assert own.extra_args == (1,)
    assert own.kwargs == {"other": 2}


@pytest.mark.parametrize("extra", [per_worker(dict), RunValue()])
def test_containers_hold_results_of_the_stream_or_of_runs_and_not_both(extra: Any) -> None:
    dag = DAG()
    x = dag.call(None, type="input", id="x")
    dag.call(add, x, [extra], id="fine", named={"extra": extra})
    StreamPlan.compile(dag)

    for beside in ([extra], {"b": [extra]}):
        mixed = DAG()
        mixed.call(add, [mixed.call(None, type="input", id="x"), beside], id="f")
        with pytest.raises(InvalidFunctionError, match=r"'f': .* in a list with, results .* by themselves"):
            StreamPlan.compile(mixed)
        mixed = DAG()
        mixed.call(add, id="f", named=(mixed.call(None, type="input", id="x"), beside))
        with pytest.raises(InvalidFunctionError, match=r"'f': .* in a list with, results .* by themselves"):
            StreamPlan.compile(mixed)


def test_results_that_are_passed_by_name_have_to_be_parameters() -> None:
    dag = DAG()
    dag.call(double, value=dag.call(None, type="input", id="x"))
    assert len(StreamPlan.compile(dag).vertices) == 2

    def batched(state: Any, value: Any) -> Any:
        return value, state

    dag = DAG()
    dag.call(batched, value=dag.call(None, type="input", id="x"), init=dict, id="f")
    assert len(StreamPlan.compile(dag).vertices) == 2

    dag = DAG()
    dag.call(batched, value=dag.call(None, type="input", id="x"), init=dict, batch_size=2, id="f")
    with pytest.raises(InvalidFunctionError, match="'f': takes a result by name, as value, and a batch"):
        StreamPlan.compile(dag)


def test_maps_over_results_have_no_place_in_a_stream() -> None:
    dag = DAG()
    dag.map(double, over=dag.call(None, type="input", id="x"), id="mapped")

    with pytest.raises(InvalidFunctionError, match=r"'mapped': maps over a result, .* generator"):
        StreamPlan.compile(dag)


def test_lists_with_parts_have_no_place_in_a_stream() -> None:
    error = refusal_of(of_input(), stage("f", ItemsOf("x")))

    assert "a stream has no maps over results: give the items one by one" in str(error)


def test_maps_over_lists_that_are_known_are_stages_as_any() -> None:
    dag = DAG()
    x, y = dag.call(None, type="input", id="x"), dag.call(None, type="input", id="y")
    dag.reduce(add, over=dag.map(double, over=[x, y]), id="sum")

    assert StreamPlan.compile(dag).ids == ["x", "y", "double-1", "double-2", "sum"]


@pytest.mark.parametrize("extra", [per_worker(dict), RunValue()])
def test_inline_functions_take_no_values_of_runs(extra: Any) -> None:
    for taking in (inline("f", "x", kwargs={"a": extra}), inline("f", "x", extra_args=[[extra]])):
        error = refusal_of(of_input(), taking, stage("g", "f"))

        assert error.function_id == "f"
        assert "which in a stream stages alone take: make it regular" in str(error)


def test_inline_functions_nest_no_deeper_than_in_runs() -> None:
    inner = [inline("1", "x"), *(inline(str(number), str(number - 1)) for number in range(2, 202))]

    assert "make some regular" in str(refusal_of(of_input(), *inner, stage("f", "201")))


def test_an_item_goes_by_the_key_of_one_result() -> None:
    of_two = refusal_of(of_input(), of_input("y"), stage("f", "x", "y", key=len))
    of_inline = refusal_of(of_input(), inline("i", "x"), stage("f", "i", key=len))

    assert "has a key, and takes from 'x', 'y': an item can go by the key of one result alone" in str(of_two)
    assert "takes from 'x' only through inline functions" in str(of_inline)
    assert compiled(of_input(), inline("i", "x"), stage("f", "i", "x", key=len)).ids == ["x", "f"]
