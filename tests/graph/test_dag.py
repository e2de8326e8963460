import functools
from collections.abc import Callable
from typing import Any, get_overloads, get_type_hints

import pytest

from handoff_actors.errors import CycleError, InvalidFunctionError, MissingFunctionError
from handoff_actors.graph import DAG, Argument, Constant, Function, Handle, collocated, new
from handoff_actors.graph.function import FunctionOptions


def add(*values: Any) -> Any:
    return sum(values)


class Adder:
    def add(self) -> int:
        return 1

    def __call__(self) -> int:
        return 1


def dag_of(**args_by_id: list[Any]) -> DAG:
    return DAG().add_functions(Function(function_id, args, add) for function_id, args in args_by_id.items())


def test_fresh_ids_differ_and_given_ones_stay() -> None:
    assert new().id != new().id
    assert DAG("mine").id == "mine"
    assert DAG(0).id == 0


def test_functions_are_a_view_in_the_order_of_adding() -> None:
    dag = dag_of(b=[], a=["b"])
    functions = dag.functions

    dag.add_function(Function("c", [], add))

    assert list(functions) == ["b", "a", "c"]
    assert len(dag) == 3
    assert "c" in dag
    assert "d" not in dag
    with pytest.raises(TypeError):
        functions["d"] = functions["a"]  # type: ignore[index]  # that is the point


def test_empty_dag_is_valid_and_true() -> None:
    dag = DAG("mine")

    dag.validate()

    assert dag
    assert repr(dag) == "<DAG 'mine': 0 function(s)>"


def test_order_of_adding_is_free() -> None:
    dag_of(d=["b", "c"], b=["a"], c=["a", "a"], a=[]).validate()


def test_any_hashable_is_an_id() -> None:
    DAG().add_function(Function(None, [], add)).add_function(Function((1, "a"), [None, None], add)).validate()


@pytest.mark.parametrize("arg", ["gone", Argument("gone"), ("gone", 1)], ids=["plain", "argument", "tuple"])
def test_missing_function_is_named_with_who_takes_from_it(arg: Any) -> None:
    dag = DAG().add_functions([Function("a", [], add), Function("f", ["a", Constant(1), arg], add)])

    with pytest.raises(MissingFunctionError, match="'f' takes the result of") as caught:
        dag.validate()

    assert caught.value.function_id == "f"
    assert caught.value.missing_id == (arg.id if isinstance(arg, Argument) else arg)


def test_cycle_is_listed_whole_from_the_one_added_first() -> None:
    dag = dag_of(source=[], sink=["c"], b=["a", "source"], a=["c"], c=["b"])

    with pytest.raises(CycleError) as caught:
        dag.validate()

    assert caught.value.cycle == ["b", "a", "c", "b"]


def test_self_dependency_is_a_cycle_of_one() -> None:
    with pytest.raises(CycleError) as caught:
        dag_of(a=["a"]).validate()

    assert caught.value.cycle == ["a", "a"]


def test_cycle_runs_through_inline_functions_and_hooks() -> None:
    dag = DAG().add_functions([Function("a", [Argument("b")], add), Function("b", ["a"], add, type="inline")])

    with pytest.raises(CycleError) as caught:
        dag.validate()

    assert caught.value.cycle == ["a", "b", "a"]


@pytest.mark.parametrize("step", [1, -1], ids=["producers first", "consumers first"])
def test_chain_of_any_length_is_validated(step: int) -> None:
    chain = [Function(number, [number - 1] if number else [], add) for number in range(20_000)]

    DAG().add_functions(chain[::step]).validate()


def test_long_cycle_and_long_collocation_chain_are_found_without_recursion() -> None:
    ring = DAG().add_functions(Function(number, [(number + 1) % 20_000], add) for number in range(20_000))
    row = DAG().add_functions(
        Function(number, [], add, node=collocated((number + 1) % 20_000)) for number in range(20_000)
    )

    with pytest.raises(CycleError) as caught:
        ring.validate()
    with pytest.raises(InvalidFunctionError, match="collocated with itself"):
        row.validate()

    assert caught.value.cycle == [*range(20_000), 0]


def test_missing_collocation_target_is_named_with_its_role() -> None:
    dag = DAG().add_function(Function("a", [], add, node=collocated("gone")))

    with pytest.raises(MissingFunctionError, match="'a' is collocated with 'gone'"):
        dag.validate()


@pytest.mark.parametrize(("kind", "code"), [("inline", add), ("input", None)])
def test_collocation_with_what_has_no_node_is_refused(kind: Any, code: Any) -> None:
    dag = DAG().add_functions(
        [Function("a", [], add, node=collocated("b")), Function("b", [], code, type=kind)]
    )

    with pytest.raises(InvalidFunctionError, match=f"which is {kind}"):
        dag.validate()


def test_collocation_cycle_is_listed() -> None:
    dag = DAG().add_functions(
        [
            Function("a", [], add, node=collocated("b")),
            Function("b", [], add, node=collocated("c")),
            Function("c", [], add, node=collocated("b")),
        ]
    )

    with pytest.raises(InvalidFunctionError, match="'a' -> 'b' -> 'c' -> 'b'"):
        dag.validate()


def test_call_makes_results_and_values_of_its_arguments() -> None:
    dag = DAG()
    first = dag.call(add, 1, [2])
    second = dag.call(
        add, first, 3, Argument(first, serialize=add), Constant(4), first, id="total", cost={"cpu": 1}
    )

    function = dag.functions["total"]

    assert second.id == "total"
    assert function.cost == {"cpu": 1}
    assert function.args[0] == first.id == function.args[4]
    assert function.args[2] == Argument(first.id, serialize=add)
    assert [function.args[place].value for place in (1, 3)] == [3, 4]  # type: ignore[attr-defined]  # constants


def test_call_names_functions_after_their_code_without_meeting_others() -> None:
    dag = DAG().add_function(Function("add-2", [], add))

    ids = [
        dag.call(code).id
        for code in (add, add, functools.partial(add), lambda: 1, Adder, Adder(), Adder().add, len)
    ]

    assert ids == ["add-1", "add-3", "add-4", "lambda-1", "Adder-1", "Adder-2", "add-5", "len-1"]


def test_call_adds_inputs_too() -> None:
    dag = DAG()

    handle = dag.call(None, type="input")

    assert handle.id == "input-1"
    assert dag.functions["input-1"].type == "input"


def test_handle_stands_for_its_id_in_functions_and_placements() -> None:
    dag = DAG()
    handle = dag.call(add, id="a")

    dag.add_function(Function("f", [handle, "a", Argument(handle)], add, node=collocated(handle)))

    assert dag.functions["f"] == Function("f", ["a", "a", Argument("a")], add, node=collocated("a"))
    assert repr(handle) == "Handle(id='a')"


def test_types_of_options_are_spelled_alike() -> None:
    options = get_type_hints(FunctionOptions)

    for overload in get_overloads(DAG.call)[:2]:
        hints = get_type_hints(overload)
        assert {name: hint for name, hint in hints.items() if name in options} == options


def test_dag_contains_its_own_handles() -> None:
    dag = DAG()
    handle = dag.call(add, id="a")

    assert handle in dag
    assert handle not in DAG().add_function(Function("a", [], add))


@pytest.mark.parametrize(
    "use",
    [
        lambda handle: Function("f", [handle], add),
        lambda handle: Function("f", [Argument(handle)], add),
        lambda handle: Function("f", [], add, node=collocated(handle)),
    ],
    ids=["args", "argument", "node"],
)
def test_handle_of_another_dag_is_refused(use: Callable[[Handle[Any]], Function]) -> None:
    stranger = DAG().call(add, id="a")

    with pytest.raises(InvalidFunctionError, match="belongs to another DAG"):
        DAG().add_function(use(stranger))


def test_functions_of_one_cost_share_it() -> None:
    dag = DAG()

    dag.add_functions(Function(number, (), print, cost={"cpu": 1}) for number in range(2))

    first, second = dag.functions.values()
    assert first.cost is second.cost
    assert first.kwargs is second.kwargs
