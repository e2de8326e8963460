"""Graphs of networkx become DAGs, and come back as they were."""

import operator

import networkx as nx
import pytest

import handoff_actors as handoff
from handoff_actors.integrations.networkx import from_networkx, to_networkx


def test_nodes_are_functions_and_edges_their_results() -> None:
    graph = nx.DiGraph()
    graph.add_node("one", code=int, extra_args=["1"])
    graph.add_edges_from([("one", "two"), ("one", "three"), ("two", "sum"), ("three", "sum")])

    run = handoff.run_sync(from_networkx(graph, lambda *results: sum(results) + 1, cost={"cpu": 1}))

    assert {name: run.results[name] for name in graph} == {"one": 1, "two": 2, "three": 2, "sum": 5}


def test_attributes_are_fields_and_others_are_left_alone() -> None:
    graph = nx.DiGraph()
    graph.add_node(1, code=int, priority=3, colour="red")

    [function] = from_networkx(graph, str, priority=1, timeout=5).functions.values()

    assert function == handoff.Function(1, [], int, priority=3, timeout=5)


def test_args_say_the_order() -> None:
    graph = nx.DiGraph([("a", "difference"), ("b", "difference")])
    nx.set_node_attributes(graph, {"a": int, "b": int, "difference": operator.sub}, "code")
    graph.nodes["difference"]["args"] = ["b", "a"]

    assert from_networkx(graph).functions["difference"].args == ("b", "a")


def test_hooks_of_an_edge_are_hooks_of_the_argument() -> None:
    graph = nx.DiGraph()
    graph.add_edge("a", "b", serialize=repr, weight=3)

    assert from_networkx(graph, int).functions["b"].args == (handoff.Argument("a", serialize=repr),)


@pytest.mark.parametrize("graph", [nx.Graph([(1, 2)]), nx.MultiDiGraph([(1, 2)])])
def test_other_graphs_are_refused(graph: "nx.Graph[int]") -> None:
    with pytest.raises(TypeError, match="DiGraph"):
        from_networkx(graph, int)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(handoff.CycleError):
        from_networkx(nx.DiGraph([(1, 2), (2, 1)]), int)


def test_an_unknown_default_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        from_networkx(nx.DiGraph(), int, colour="red")


def test_a_dag_comes_back_as_it_was() -> None:
    dag = handoff.DAG("there and back")
    dag.add_function(handoff.Function("a", [], int, cost={"cpu": 1}, priority=2))
    dag.add_function(handoff.Function("b", ["a", handoff.Argument("a", deserialize=str)], max, node="n1"))

    graph = to_networkx(dag)

    assert list(graph.edges) == [("a", "b")]
    assert graph.nodes["a"]["cost"] == {"cpu": 1}
    assert from_networkx(graph, id=dag.id).functions == dag.functions
