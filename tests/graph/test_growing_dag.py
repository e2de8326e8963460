"""Graphs whose functions are taken off them while others are added."""

import pytest

from handoff_actors.graph.argument import Argument, Collocated, Constant
from handoff_actors.graph.function import Function
from handoff_actors.graph.growing_dag import GrowingDAG, outer_ids, renamed
from handoff_actors.graph.naming import CodeName


def code(*args: object) -> object:
    return args


def dag_of(*ids: str) -> GrowingDAG:
    return GrowingDAG().add_functions(Function(each, [], code) for each in ids)


def test_functions_are_taken_in_the_order_of_adding() -> None:
    dag = dag_of("x", "y", "z")

    assert [*dag.take(2)] == ["x", "y"]
    assert [*dag.functions] == ["z"]
    assert [*dag.take(2)] == ["z"]
    assert [*dag.take(2)] == []


def test_handle_of_a_function_that_was_taken_stays_an_argument() -> None:
    dag = GrowingDAG()
    taken = dag.call(code)
    dag.take(1)

    dependent = dag.call(code, taken)

    assert outer_ids(dag.take(1)) == [taken.id]
    assert dependent.id != taken.id


def test_function_that_is_taken_back_is_not_there() -> None:
    dag = dag_of("x", "y")

    dag.remove("x")

    assert [*dag.functions] == ["y"]


def test_ids_that_are_given_differ() -> None:
    dag, known = GrowingDAG(), {"f-1"}

    first, second = (dag.fresh_id("f", known.__contains__) for _ in range(2))

    assert len({"f-1", first, second}) == 3


def test_functions_get_other_ids_wherever_they_are_named() -> None:
    constant = Constant("x")
    functions = [
        Function("x", [], code, node="a"),
        Function(2, ["x", Argument("x"), constant], code, node=Collocated("x"), when=["x"]),
    ]

    first, second = renamed({function.id: function for function in functions}, 7).values()

    assert (first.id, first.node, first.when) == ("x@7", "a", None)
    assert second.id == (2, 7)
    assert second.args == ("x@7", Argument("x@7"), constant)
    assert (second.node, second.when) == (Collocated("x@7"), ["x@7"])


def test_outer_functions_are_listed_once() -> None:
    functions = [Function("x", ["before", "before"], code), Function("y", ["x", "other", "before"], code)]

    assert outer_ids({function.id: function for function in functions}) == ["before", "other"]


def test_code_of_which_only_the_name_is_known_can_not_be_called() -> None:
    with pytest.raises(RuntimeError, match="the code of train is where functions run"):
        CodeName("train")()
