"""Whatever the graph, its plan is the same computation."""

from collections.abc import Hashable
from typing import Any

from hypothesis import given, strategies as st

from handoff_actors.graph import DAG, Argument, Constant, Function, Plan
from tests.graph.evaluation import values_of_dag, values_of_plan


def tuple_of(*values: Any, mark: int = 0) -> tuple[Any, ...]:
    return (*values, mark)


def pack(value: Any, source: str, target: str) -> tuple[Any, ...]:
    return ("packed", repr(value), source, target)


def unpack(value: Any, source: str, target: str) -> tuple[Any, ...]:
    return ("unpacked", value, source, target)


def list_of(values: list[Any], *extra: Any, mark: int = 0) -> tuple[Any, ...]:
    return ("list", *values, *extra, mark)


@st.composite
def dags(draw: st.DrawFn) -> DAG:
    size = draw(st.integers(0, 9))
    functions = [draw(functions_after(number)) for number in range(size)]
    return DAG().add_functions(draw(st.permutations(functions)))


@st.composite
def functions_after(draw: st.DrawFn, number: int) -> Function:
    args = draw(st.lists(arguments(number), max_size=3))
    as_list = draw(st.booleans())
    return Function(
        f"f{number}",
        args,
        list_of if as_list else tuple_of,
        argument_inclusion="as_list" if as_list else "variadic",
        type=draw(st.sampled_from(["regular", "inline"])),
        extra_args=draw(st.lists(st.integers() | nested(number), max_size=1)),
        kwargs=draw(st.sampled_from([{}, {"mark": 1}])),
    )


def nested(number: int) -> st.SearchStrategy[object]:
    """Return containers with a result in them, at different depths."""
    return st.just([]) if number == 0 else results(number).map(lambda one: [one, {"a": [one]}])


def results(number: int) -> st.SearchStrategy[Argument]:
    """Return results of earlier functions, some with hooks."""
    earlier = st.integers(0, number - 1).map("f{}".format)
    return st.builds(Argument, earlier, st.sampled_from([None, pack]), st.sampled_from([None, unpack]))


def arguments(number: int) -> st.SearchStrategy[Hashable]:
    constants = st.integers(0, 3).map(Constant)
    if number == 0:
        return constants
    return st.integers(0, number - 1).map("f{}".format) | results(number) | constants


def nodes_of(dag: DAG) -> dict[Hashable, str]:
    return {
        function_id: f"node of {function_id}"
        for function_id, function in dag.functions.items()
        if function.type == "regular"
    }


@given(dags())
def test_plan_computes_what_the_dag_means(dag: DAG) -> None:
    plan = Plan.compile(dag)

    assert values_of_plan(plan, nodes_of(dag)) == values_of_dag(dag, nodes_of(dag))


@given(dags())
def test_every_regular_function_has_one_index_and_lists_agree_on_the_size(dag: DAG) -> None:
    plan = Plan.compile(dag)

    regular = [function.id for function in dag.functions.values() if function.type == "regular"]
    assert plan.ids[: len(regular)] == regular
    assert [plan.index_of[function_id] for function_id in regular] == list(range(len(regular)))
    assert [hook.index for hook in plan.hooks] == list(range(len(regular), plan.size))
    assert len(set(plan.ids)) == plan.size
    by_index: list[list[Any]] = [plan.ids, plan.args, plan.producers, plan.dependents, plan.bottom_level]
    by_index += [plan.priority, plan.template_of, plan.constants_of, plan.node_of, plan.group_of]
    assert {len(column) for column in by_index} == {plan.size}


@given(dags())
def test_dependents_are_the_inverse_of_producers(dag: DAG) -> None:
    plan = Plan.compile(dag)

    edges = [(producer, index) for index, producers in enumerate(plan.producers) for producer in producers]
    inverse = [
        (index, dependent) for index, dependents in enumerate(plan.dependents) for dependent in dependents
    ]
    assert len(set(edges)) == len(edges)
    assert sorted(edges) == sorted(inverse)
    assert plan.sinks == [
        index for index in range(plan.size) if index not in {producer for producer, _ in edges}
    ]


@given(dags())
def test_bottom_level_is_the_longest_of_all_paths_to_a_sink(dag: DAG) -> None:
    plan = Plan.compile(dag)

    def longest(index: int) -> int:
        return 1 + max(map(longest, plan.dependents[index]), default=0)

    assert plan.bottom_level == [longest(index) for index in range(plan.size)]


@given(dags())
def test_hook_waits_for_all_that_its_consumer_needs(dag: DAG) -> None:
    plan = Plan.compile(dag)

    for hook in plan.hooks:
        needed = set(plan.producers[hook.consumer])
        hooks = {index for index in needed if index in plan.hook_of}
        assert hook.index in hooks
        assert set(plan.producers[hook.index]) == (needed - hooks) | {
            plan.hook_of[index].producer for index in hooks
        }
