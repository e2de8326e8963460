"""Subgraphs, which functions return in order to go on as a graph of further functions."""

from typing import Final, Generic, Never, TypeVar

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Handle
from handoff_actors.graph.interfaces import AnyDag
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

ResultT_co = TypeVar("ResultT_co", covariant=True)


class Subgraph(Generic[ResultT_co]):
    """The return value of a function that goes on as a graph: `return handoff.Subgraph(dag, result=handle)`.

    The run adds the functions of `dag`, and the function's result is that of `result`. No worker waits meanwhile. Functions
    of `dag` may return subgraphs in turn, to any depth; where `result` itself does so over and over, a chain of any length
    takes constant memory. The functions get the ids "parent/0", "parent/1", ... in the order of adding; the function that
    `result` stands for goes under the parent's own id.

    A failure of one of the functions fails the parent. Retries belong to them: the parent is not called again, unless a
    node was lost with large arguments that the parent has made for them. A run that goes on from a journal calls it again if
    its result is not there, and reuses those of the functions that were done.
    """

    __slots__ = ("dag", "result")

    def __init__(self, dag: AnyDag, result: Handle[ResultT_co] | FunctionId) -> None:
        """Check that `result` is a regular function of `dag`.

        :param dag: The functions to add. It must not change afterwards.
        :param result: The handle (or the id) of the function whose result is the parent's.
        :raises TypeError: `dag` is no DAG.
        :raises InvalidFunctionError: `result` belongs to another DAG, or is not in the DAG, or is an inline function or an
            input, which have no result of their own.
        """
        functions = getattr(dag, "functions", None)
        if functions is None:
            raise TypeError(
                f"Subgraph takes a DAG and a handle of it, Subgraph(dag, result=handle), not {repr_of(dag)}"
            )
        function_id: FunctionId = result.id if isinstance(result, Handle) else result
        if isinstance(result, Handle) and result.dag is dag:
            # A list of results may be made only where something takes it.
            dag._id_for(function_id, result)  # noqa: SLF001 - it is of this room
        if isinstance(result, Handle) and result.dag is not dag:
            raise InvalidFunctionError(
                function_id,
                f"it is to be the result of a subgraph, and belongs to another DAG, {repr_of(result.dag_id)}",
            )
        function = functions.get(function_id)
        if function is None:
            raise InvalidFunctionError(
                function_id, "it is to be the result of a subgraph, and is not in its DAG"
            )
        if function.type != "regular":
            raise InvalidFunctionError(
                function_id,
                f"it is to be the result of a subgraph, and is {function.type}: only regular functions have a result",
            )
        self.dag: Final = dag
        self.result: Final[FunctionId] = function_id

    def __reduce__(self) -> Never:
        raise TypeError(
            f"{self!r} was found where a value is expected: a function of a run returns it by itself, not within another"
            " value, and inline functions and hooks return none"
        )

    def __repr__(self) -> str:
        return f"<Subgraph of {repr_of(self.dag.id)}: {len(self.dag)} function(s), result {repr_of(self.result)}>"


class ItemsGraph(Subgraph[ResultT_co]):
    """The graph of a map: its first functions are those of the items, item by item, equally many of each."""

    __slots__ = ("items", "stages")

    def __init__(self, dag: AnyDag, result: Handle[ResultT_co] | FunctionId, items: int, stages: int) -> None:
        """`items` is their number, and `stages` that of the functions of each."""
        super().__init__(dag, result)
        self.items: Final = items
        self.stages: Final = stages
