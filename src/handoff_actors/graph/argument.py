"""Arguments that a function may take besides plain ids, and its placement beside another function."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of


@dataclass(frozen=True, slots=True)
class Argument:
    """The result of `id`, passed through hooks on its way into the function that takes it.

    Each hook is called hook(value, source_node_name, target_node_name), also when both nodes are the same.
    Bind further arguments with functools.partial.
    """

    #: The function whose result it is.
    id: "FunctionId | Handle"
    #: Runs on the producer's node; its return value is sent.
    serialize: Callable[..., object] | None = None
    #: Runs in the consumer's worker, right before the consumer.
    deserialize: Callable[..., object] | None = None


class Constant(Struct, frozen=True, eq=False):
    """An argument that is passed as it is, where an id would stand for a result."""

    #: Passed as it is.
    value: object


class Collocated(Struct, frozen=True):
    """A placement: the node on which the function `id` runs."""

    id: "FunctionId | Handle"


def collocated(function_id: "FunctionId | Handle") -> Collocated:
    """Place a function on the node of another one: `Function(..., node=collocated("other"))`."""
    return Collocated(function_id)


class Handle(Struct, frozen=True, eq=False):
    """The result of a function that `DAG.call` added, for use among the arguments of later calls."""

    #: The function's id.
    id: FunctionId
    #: The DAG that has the function, compared by identity alone.
    dag: object

    def __repr__(self) -> str:
        return f"Handle(id={repr_of(self.id)})"
