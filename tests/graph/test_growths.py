"""What functions return besides plain values, as users make it."""

import pickle

import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, Parts, Subgraph


def double(value: int) -> int:
    return 2 * value


def test_subgraph_names_the_function_of_its_result() -> None:
    dag = DAG()
    handle = dag.call(double, 1, id="twice")

    assert Subgraph(dag, result=handle).result == "twice"
    assert Subgraph(dag, result="twice").result == "twice"


@pytest.mark.parametrize("given", ["elsewhere", "unknown", "inline"])
def test_result_of_a_subgraph_must_be_a_regular_function_of_it(given: str) -> None:
    dag, other = DAG(), DAG("other")
    dag.call(double, 1, id="inline", type="inline")
    result = other.call(double, 1, id="elsewhere") if given == "elsewhere" else given

    with pytest.raises(InvalidFunctionError, match=given) as caught:
        Subgraph(dag, result=result)

    assert caught.value.function_id == given
    assert ("'other'" in str(caught.value)) == (given == "elsewhere")


def test_subgraph_of_anything_but_a_dag_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Subgraph\(dag, result=handle\), not 3"):
        Subgraph(3, result="x")  # type: ignore[arg-type]


def test_subgraphs_and_parts_within_values_say_what_to_do() -> None:
    dag = DAG("inner")
    subgraph: Subgraph[int] = Subgraph(dag, result=dag.call(double, 1))

    with pytest.raises(
        TypeError, match=r"<Subgraph of 'inner': 1 function\(s\), result 'double-1'> .* by itself"
    ):
        pickle.dumps([subgraph])
    with pytest.raises(TypeError, match=r"<Parts: 2 item\(s\), first 7> .* elsewhere use a list"):
        pickle.dumps([Parts(iter([7, 8]))])


def test_parts_take_any_iterable_at_once() -> None:
    parts = Parts(item for item in (1, 2, 3))

    assert (len(parts), parts.items) == (3, [1, 2, 3])
    assert repr(Parts([])) == "<Parts: 0 item(s)>"
    with pytest.raises(TypeError):
        Parts(3)  # type: ignore[arg-type]
