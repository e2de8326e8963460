"""Maps over lists that are known, and over results."""

import asyncio
import operator
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from inspect import iscoroutine
from typing import Any

import cloudpickle
import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, Argument, Function, Handle, Plan, Subgraph, collocated, per_worker
from handoff_actors.graph.argument import Constant, PerWorker, RunValue
from handoff_actors.graph.dag import set_latest_run
from handoff_actors.graph.interfaces import AnyDag
from handoff_actors.graph.mapping import adds_cached
from handoff_actors.graph.naming import code_name
from handoff_actors.graph.placing import Skeleton
from handoff_actors.graph.task import task as handoff_task
from handoff_actors.ids import FunctionId
from tests.graph.evaluation import filled


def numbers(count: int) -> list[int]:
    return list(range(count))


def square(number: int) -> int:
    return number * number


async def later_square(number: int) -> int:
    return number * number


def is_odd(number: int) -> bool:
    return number % 2 == 1


async def is_odd_later(number: int) -> bool:
    return number % 2 == 1


def scaled(number: int, by: int = 1) -> int:
    return number * by


def times(number: int, by: Any) -> Any:
    return number * (by[0] * by[1] if isinstance(by, list) else by)


async def later_sum(left: int, right: int) -> int:
    return left + right


def value_of(dag: AnyDag, handle: Handle[Any]) -> Any:
    """Evaluate a function of a graph, with all graphs that functions return."""
    known: dict[Any, Any] = {}

    def value(function_id: Any) -> Any:
        if function_id not in known:
            known[function_id] = computed(dag.functions[function_id])
        return known[function_id]

    def computed(function: Function) -> Any:
        taken = [argument(arg) for arg in function.args]
        inclusion = function.argument_inclusion
        positional = [taken] if inclusion == "as_list" else taken
        if isinstance(inclusion, Skeleton):
            positional = filled(list(inclusion.args), taken)
        kwargs = filled(inclusion.kwargs, taken) if isinstance(inclusion, Skeleton) else function.kwargs
        assert function.code is not None
        result: Any = function.code(*positional, *function.extra_args, **kwargs)
        if iscoroutine(result):
            result = asyncio.run(result)
        return (
            value_of(result.dag, Handle(result.result, result.dag))
            if isinstance(result, Subgraph)
            else result
        )

    def argument(arg: Any) -> Any:
        if isinstance(arg, Constant):
            return arg.value
        return value(arg.id if isinstance(arg, Argument) else arg)

    return value(handle.id)


def over_a_list(dag: DAG, count: int) -> Any:
    return range(count)


def over_a_result(dag: DAG, count: int) -> Any:
    return dag.call(numbers, count)


SOURCES = pytest.mark.parametrize("source", [over_a_list, over_a_result])
Source = Callable[[DAG, int], Any]


@SOURCES
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_results_come_in_the_order_of_the_items(source: Source, count: int) -> None:
    dag = DAG()

    squares = dag.map(square, over=source(dag, count))
    total = dag.call(sum, squares)

    assert value_of(dag, squares) == [number**2 for number in range(count)]
    assert value_of(dag, total) == sum(number**2 for number in range(count))
    dag.validate()


@SOURCES
@pytest.mark.parametrize(("first", "odd"), [(square, is_odd), (later_square, is_odd_later)])
def test_stages_follow_one_another(source: Source, first: Any, odd: Any) -> None:
    dag = DAG()

    chain = dag.map(first, over=source(dag, 20)).filter(odd).map(scaled, by=10).filter(lambda x: x > 100)

    assert value_of(dag, chain.map(first)) == [
        (10 * number**2) ** 2 for number in range(20) if number % 2 and 10 * number**2 > 100
    ]


@SOURCES
@pytest.mark.parametrize("add", [operator.add, later_sum])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_reduction_keeps_the_order(source: Source, add: Any, count: int) -> None:
    dag = DAG()

    total = dag.map(square, over=source(dag, count)).reduce(add)
    words = dag.map(str, over=source(dag, count)).reduce(operator.add, initial=">", id="words")
    plain = dag.reduce(add, over=source(dag, count))
    mapped = dag.reduce(add, over=dag.map(square, over=source(dag, count)))

    assert value_of(dag, total) == value_of(dag, mapped) == sum(number**2 for number in range(count))
    assert value_of(dag, words) == ">" + "".join(map(str, range(count)))
    assert words.id == "words"
    assert value_of(dag, plain) == sum(range(count))


@SOURCES
def test_reduction_of_nothing_needs_an_initial_value(source: Source) -> None:
    dag = DAG()

    nothing = dag.map(square, over=source(dag, 4)).filter(lambda x: x > 100).reduce(operator.add)
    empty = dag.reduce(later_sum, over=source(dag, 0))
    initial = dag.reduce(operator.add, over=source(dag, 0), initial=5)

    for without in (nothing, empty):
        with pytest.raises(TypeError, match="initial=0"):
            value_of(dag, without)
    assert value_of(dag, initial) == 5


def test_filter_of_a_list() -> None:
    dag = DAG()

    assert value_of(dag, dag.filter(is_odd, over=[1, 2, 3])) == [1, 3]
    assert value_of(dag, dag.filter(is_odd, over=dag.call(numbers, 4), id="odd")) == [1, 3]
    assert "odd" in dag


def test_lists_may_hold_results() -> None:
    dag = DAG()

    squares = dag.map(square, over=[dag.call(square, 3), 2])

    assert value_of(dag, squares) == [81, 4]


@SOURCES
def test_list_that_only_the_next_stage_takes_is_not_made(source: Source) -> None:
    dag = DAG()

    first = dag.map(square, over=source(dag, 3), id="first")
    second = first.map(scaled, id="second")
    total = second.reduce(operator.add)

    assert ("first" in dag, "second" in dag, total in dag) == (False, False, True)


def test_stages_whose_list_is_taken_are_not_done_twice() -> None:
    dag = DAG()
    first = dag.map(square, over=dag.call(numbers, 4), id="first")
    second = first.map(scaled, by=2, id="second")
    third = second.map(scaled, by=5, id="third")
    total = dag.map(scaled, over=dag.call(numbers, 3), id="other").reduce(operator.add, id="total")

    taken = dag.call(sum, first)
    again = dag.call(sum, first)
    another = dag.map(scaled, over=first, by=3)

    sources: list[Any] = [dag.functions[name].args[0] for name in ("first", "third")]
    assert [source.id for source in sources] == ["numbers-1", "first"]
    assert "second" not in dag
    assert value_of(dag, taken) == value_of(dag, again) == 14
    assert value_of(dag, third) == [0, 10, 40, 90]
    assert value_of(dag, another) == [0, 3, 12, 27]
    assert value_of(dag, total) == 3


def test_known_list_goes_on_in_several_ways() -> None:
    dag = DAG()
    first = dag.map(square, over=range(3), id="first")
    taken = dag.call(sum, [first])
    second, third = first.map(scaled, by=2), first.filter(is_odd)
    total = first.reduce(operator.add)

    assert value_of(dag, second) == [0, 2, 8]
    assert value_of(dag, third) == [1]
    assert value_of(dag, total) == 5
    assert value_of(dag, dag.call(len, first)) == 3
    assert taken in dag


def test_later_stages_are_more_urgent() -> None:
    dag = DAG()

    dag.map(square, over=range(2), priority=3).map(scaled).filter(is_odd).map(scaled)

    plan = Plan.compile(dag)
    seen = [
        (code_name(plan.templates[plan.template_of[index]].code), plan.priority[index]) for index in range(8)
    ]
    assert seen[:4] == [("square", 3), ("square", 3), ("scaled", 1), ("scaled", 1)]
    assert seen[4:] == [("is_odd", 2), ("is_odd", 2), ("scaled", 3), ("scaled", 3)]


def test_options_of_items_are_those_of_calls() -> None:
    dag = DAG()
    dag.map(square, over=dag.call(numbers, 2), cost={"cpu": 2}, timeout=5, id="squares")
    expander: Any = dag.functions["squares"].code

    inner = expander(numbers(2)).dag

    assert [function.cost for function in inner.functions.values()] == [{"cpu": 2}, {"cpu": 2}, None]
    assert code_name(expander) == "square"
    assert dag.functions["squares"].cost is None


def test_subgraph_of_a_map_gives_the_list() -> None:
    dag = DAG()
    first = dag.map(square, over=range(3), id="first")
    first.map(scaled)

    assert Subgraph(dag, result=first).result == "first"
    assert "first" in dag


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (lambda dag: dag.map(square, over="text"), "not a str"),
        (lambda dag: dag.map(square, over=5), "not a int"),
        (lambda dag: dag.map(square, over=[1], cost={"cpu": -1}), "cost must be"),
        (lambda dag: dag.map(square, over=[1], power=3), "power"),
        (lambda dag: dag.map(operator.add, over=DAG("other").call(numbers, 2)), "'other'|another DAG"),
        (lambda dag: dag.map(square, over=DAG("other").map(square, over=[1])), "another DAG"),
        (lambda dag: dag.reduce(operator.add, over=DAG().map(square, over=[1])), "another DAG"),
        (lambda dag: dag.reduce(operator.add, over=DAG().call(numbers, 1)), "another DAG"),
        (
            lambda dag: dag.map(square, over=dag.call(numbers, 2)).map(
                scaled, kwargs={"by": [per_worker(list)]}
            ),
            "can't take <per_worker",
        ),
        (
            lambda dag: dag.map(scaled, over=dag.call(numbers, 2), by=Argument("numbers-1", serialize=abs)),
            "can't take Argument",
        ),
        (
            lambda dag: dag.map(square, over=dag.call(numbers, 2), node=collocated("numbers-1")),
            "their node can't refer to",
        ),
        (
            lambda dag: dag.filter(square, over=dag.call(numbers, 2), when=dag.call(square, 2)),
            "their when can't refer to",
        ),
        (
            lambda dag: dag.reduce(operator.add, over=dag.call(numbers, 2), node=collocated("numbers-1")),
            "their node can't refer to",
        ),
        (
            lambda dag: dag.reduce(operator.add, over=dag.call(numbers, 2), initial=per_worker(list)),
            "can't take <per_worker",
        ),
        (lambda dag: dag.map(scaled, over=[1], of=dag.call(square, 2)), "no parameter 'of'"),
        (
            lambda dag: dag.map(scaled, over=dag.call(numbers, 2), kwargs={"of": dag.call(square, 2)}),
            "no parameter 'of'",
        ),
        (
            lambda dag: dag.map(scaled, over=dag.call(numbers, 2), extra_args=[1, dag.call(square, 2)]),
            "takes 2 argument",
        ),
    ],
)
def test_what_cannot_be_mapped_is_refused_at_once(refused: Callable[[DAG], object], why: str) -> None:
    with pytest.raises(InvalidFunctionError, match=why):
        refused(DAG("here"))


def test_results_may_be_keyword_arguments_over_a_known_list() -> None:
    dag = DAG()

    products = dag.map(scaled, over=[1, 2], by=dag.call(square, 3))

    assert set(dag.functions[products.id].args) == {"scaled-1", "scaled-2"}


def test_a_map_over_a_result_says_whether_it_adds_cached_functions() -> None:
    def said(map_it: Callable[[DAG, Handle[Any]], object]) -> list[bool]:
        dag = DAG()
        map_it(dag, dag.call(list, "abc", id="source"))
        functions = [function.code for function in dag.functions.values()]
        return [adds_cached(code) for code in functions if code is not None]

    task = handoff_task(abs, cache="1h")
    assert said(lambda dag, source: dag.map(str, over=source)) == [False, False]
    assert said(lambda dag, source: dag.map(str, over=source, cache="1h")) == [False, True]
    assert said(lambda dag, source: dag.map(task, over=source)) == [False, True]
    assert said(lambda dag, source: dag.map(str, over=source).reduce(max, cache="1h")) == [False, True]


def test_items_of_a_later_result_share_an_object_of_per_worker() -> None:
    made: PerWorker[list[str]] = per_worker(list, "abc", cost={"memory": 5}, idle=60)
    dag = DAG()
    result = dag.map(scaled, over=dag.call(numbers, 3), by=made)
    code = dag.functions[result.id].code
    assert code is not None

    added = pickle.loads(cloudpickle.dumps(code))([1, 2, 3]).dag

    plan = Plan.of(added.functions, None)
    (warm,) = [spec for spec in plan.templates if spec.warm is not None]
    assert warm.warm is not None
    assert (warm.warm.name, warm.warm.args, warm.warm.idle_s, warm.cost) == (
        "list('abc')",
        ("abc",),
        60,
        {"memory": 5},
    )


def test_ids_name_the_functions_of_users() -> None:
    dag = DAG()
    dag.map(abs, over=[1, 2]).filter(is_odd).map(partial(scaled, by=2)).reduce(operator.add)

    made = [str(name) for name in dag.functions]

    assert "add-1" in made
    assert [name for name in made if name.startswith("scaled")] == ["scaled-1", "scaled-2"]
    assert not any(name.startswith("_") for name in made)


def test_code_goes_by_the_name_of_what_a_partial_within_it_calls() -> None:
    dag = DAG()
    dag.map(abs, over=[1]).filter(is_odd).map(partial(scaled, by=2))

    codes = {str(name): function.code for name, function in dag.functions.items()}

    assert code_name(codes["scaled-1"]) == "scaled"


@pytest.mark.parametrize("is_reduced", [False, True])
@pytest.mark.parametrize("count", [0, 3])
def test_the_graph_of_a_map_says_which_functions_are_those_of_items(count: int, *, is_reduced: bool) -> None:
    dag = DAG()
    chain = dag.map(square, over=dag.call(numbers, count)).filter(is_odd).map(scaled, type="inline")
    made = chain.reduce(operator.add, initial=0) if is_reduced else chain
    code: Any = dag.functions[made.id].code

    graph = code(range(count))

    assert (graph.items, graph.stages) == (count, 2 if count else 0)
    regular = [function.code for function in graph.dag.functions.values() if function.type == "regular"]
    assert [code_name(each) for each in regular[: 2 * count]] == ["square", "is_odd"] * count


@pytest.mark.parametrize("by", [{"by": 0}, {"kwargs": {"by": 0}}, {"extra_args": [0]}])
@pytest.mark.parametrize("is_nested", [False, True])
def test_results_may_be_arguments_over_a_result(by: dict[str, Any], *, is_nested: bool) -> None:
    dag = DAG()
    factor: Any = dag.call(square, 3)
    if is_nested:
        factor = [factor, 2]
    options = {
        name: dict.fromkeys(value, factor) if name == "kwargs" else [factor] if value else factor
        for name, value in by.items()
    }

    chain = dag.map(square, over=dag.call(numbers, 3)).filter(is_odd).map(times, **options)

    assert value_of(dag, chain) == [1 * (18 if is_nested else 9)]


def test_a_result_that_all_items_take_is_in_their_graph_once() -> None:
    dag = DAG()
    made = dag.map(scaled, over=dag.call(numbers, 5), by=dag.call(square, 3))
    code: Any = dag.functions[made.id].code
    large = bytes(10)

    plan = Plan.compile(code(range(5), [{"by": large}]).dag)

    assert sum(value is large for value in plan.values) == 1


def test_a_reduction_may_begin_with_a_result() -> None:
    dag = DAG()
    first = dag.call(square, 10)

    chain = dag.map(square, over=dag.call(numbers, 3))
    total = chain.reduce(operator.add, initial=first)
    scaled_total = dag.map(scaled, over=dag.call(numbers, 3), by=first).reduce(operator.add)

    assert (value_of(dag, total), value_of(dag, scaled_total)) == (105, 300)


def test_values_of_other_runs_are_mapped_over() -> None:
    dag, value = DAG(), RunValue()
    other = DAG("other")
    made = other.call(numbers, 3)
    values = Values(value)
    set_latest_run(other, values)

    squares = dag.map(square, over=value)
    odd = dag.filter(is_odd, over=made).map(square)
    total = dag.reduce(operator.add, over=value)

    for handle in (squares, odd, total):
        (arg,) = dag.functions[handle.id].args
        assert isinstance(arg, Constant)
        assert arg.value is value
        code: Any = dag.functions[handle.id].code
        assert isinstance(code(numbers(3)), Subgraph)


class Values:
    """A run that has one value, whatever it is asked for."""

    def __init__(self, value: RunValue) -> None:
        self._value = value

    def value_of(self, function_id: FunctionId) -> RunValue | None:
        assert function_id is not None
        return self._value


def test_generator_functions_are_no_stages_of_maps() -> None:
    def spread(item: int) -> Iterator[int]:
        yield item

    dag = DAG()
    listed: Handle[list[int]] = dag.call(list, id="list")
    for over in ([1], listed):
        with pytest.raises(
            InvalidFunctionError, match=r"'spread': code is a generator function, .*return a list"
        ):
            dag.map(spread, over=over)
