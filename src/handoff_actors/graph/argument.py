"""What a function may take besides plain ids, and where it may be placed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from handoff_actors.ids import FunctionId


@dataclass(frozen=True, slots=True)
class Argument:
    """The result of `id`, passed through hooks on its way into the function that takes it.

    Each hook is called hook(value, source_node_name, target_node_name), also when both nodes are the same.
    Bind further arguments with functools.partial.
    """

    id: "FunctionId | Handle"
    #: Runs on the producer's node; what it returns is what travels.
    serialize: Callable[..., object] | None = None
    #: Runs in the consumer's worker, right before the consumer.
    deserialize: Callable[..., object] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """An argument that is this very value, where an id would stand for a result."""

    value: object


@dataclass(frozen=True, slots=True)
class Collocated:
    """A placement: the node on which the function `id` runs."""

    id: "FunctionId | Handle"


def collocated(function_id: "FunctionId | Handle") -> Collocated:
    """Place a function on the node of another one: `Function(..., node=collocated("other"))`."""
    return Collocated(function_id)


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """Stands for the result of a function that `DAG.call` added, among the arguments of later calls."""

    id: FunctionId
    #: The DAG that has the function. It is compared by identity alone.
    dag: object = field(repr=False)
