"""Graphs of networkx as DAGs, and DAGs as graphs of networkx.

A node of the graph is a function; its attributes are the fields of `Function`, under their names. An edge goes from the
function that makes a result to the one that takes it.
"""

from collections.abc import Callable, Hashable
from dataclasses import fields
from typing import Any

from handoff_actors.graph.argument import Argument
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.ids import FunctionId

try:
    import networkx as nx
except ImportError as missing:
    from handoff_actors.extras import how_to_install

    raise ImportError(
        f"handoff_actors.integrations.networkx needs networkx: {how_to_install('networkx')}"
    ) from missing

_FIELDS = frozenset(field.name for field in fields(Function)) - {"id"}


def from_networkx(
    graph: "nx.DiGraph[Any]",
    code: Callable[..., object] | None = None,
    *,
    id: FunctionId = None,  # noqa: A002 - as DAG's
    **defaults: Any,
) -> DAG:
    """Make a DAG of a directed graph.

    Nodes without an attribute `code` get `code`, and likewise for `defaults`, which are fields of `Function`. A node takes
    the results of its predecessors, in the order in which their edges were added, unless an attribute `args` lists them;
    attributes `serialize` and `deserialize` of an edge are its hooks. Other attributes are ignored.

    Raises TypeError for an undirected graph or a default that is no field, DagError for functions that the DAG refuses,
    and for `args` that are not the predecessors.
    """
    if not graph.is_directed() or graph.is_multigraph():
        raise TypeError(
            f"{graph!r} is not a directed graph with one edge between two nodes at most: use a networkx.DiGraph"
        )
    unknown = defaults.keys() - _FIELDS
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: no field of Function")
    dag = DAG(id)
    for node, attributes in graph.nodes(data=True):
        options = {
            "code": code,
            **defaults,
            **{name: attributes[name] for name in _FIELDS & attributes.keys()},
        }
        args = options.pop("args", None)
        if args is None:
            args = [_argument(graph, producer, node) for producer in graph.predecessors(node)]
        dag.add_function(Function(node, args, options.pop("code"), **options))
    dag.validate()
    return dag


def to_networkx(dag: DAG) -> "nx.DiGraph[Any]":
    """Make a directed graph of a DAG, with every field of a function that is not its default as an attribute of its node.

    `from_networkx` turns the graph into the same DAG again.
    """
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from((function.id, _attributes(function)) for function in dag.functions.values())
    for function in dag.functions.values():
        graph.add_edges_from((producer, function.id) for producer in producer_ids(function))
    return graph


def _argument(graph: "nx.DiGraph[Any]", producer: Hashable, consumer: Hashable) -> FunctionId:
    hooks = {
        name: hook
        for name, hook in graph.edges[producer, consumer].items()
        if name in {"serialize", "deserialize"}
    }
    return Argument(producer, **hooks) if hooks else producer


def _attributes(function: Function) -> dict[str, Any]:
    plain = Function(function.id, function.args, function.code)
    changed = {
        name: getattr(function, name) for name in _FIELDS if getattr(function, name) != getattr(plain, name)
    }
    return {"code": function.code, "args": list(function.args), **changed}
