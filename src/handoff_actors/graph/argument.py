"""Arguments that a function may take besides plain ids, and its placement beside another function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Never, Self, TypeVar

from msgspec import Struct

from handoff_actors.attributes import own_attribute
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

ResultT_co = TypeVar("ResultT_co", covariant=True)

#: So many members of containers are looked at, level by level, before a function counts as one without handles within
#: its arguments: large lists of numbers must cost nothing. Where one has been found, all are looked at.
MOST_SEARCHED: Final = 10_000
#: The containers in which handles stand for results.
LOOKED_INTO: Final = "lists, tuples, dicts (as values), deques, slices and dataclasses"


@dataclass(frozen=True, slots=True)
class Argument:
    """The result of `id`, passed through hooks on its way into the function that takes it.

    Each hook is called hook(value, source_node_name, target_node_name), also when both nodes are the same.
    Bind further arguments with functools.partial.
    """

    #: The function whose result it is.
    id: "FunctionId | Handle[object]"
    #: Runs on the producer's node; its return value is sent.
    serialize: Callable[..., object] | None = None
    #: Runs in the consumer's worker, right before the consumer.
    deserialize: Callable[..., object] | None = None


class ItemsOf(Argument):
    """The result of `id` as a list in which references stand for its parts, see `Parts`: for functions that expand over it."""

    __slots__ = ()


class Constant(Struct, frozen=True, eq=False):
    """An argument that is passed as it is, where an id would stand for a result."""

    #: Passed as it is.
    value: object


class RunValue:
    """The base of values of other runs: an argument by reference, and looked for wherever handles are."""

    __slots__ = ()


class SharedValue(RunValue):
    """A value that many functions of a graph take, as a keyword too, and that is encoded and sent once."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: Final = value


class Collocated(Struct, frozen=True):
    """A placement: the node on which the function `id` runs."""

    id: "FunctionId | Handle[object]"


def collocated(function_id: "FunctionId | Handle[object]") -> Collocated:
    """Place a function on the node of another one: `Function(..., node=collocated("other"))`."""
    return Collocated(function_id)


class Handle(Struct, Generic[ResultT_co], frozen=True, eq=False):
    """The result of a function that `DAG.call` added, for use among the arguments of later calls, and wherever ids are.

    A `Handle[int]` is one whose function returns an int.

    It may stand there by itself, or anywhere within lists, tuples, dicts (as a value), deques, slices and dataclasses.
    """

    #: The function's id.
    id: FunctionId
    #: The DAG that has the function, compared by identity alone.
    dag: object

    @property
    def dag_id(self) -> FunctionId:
        """The id of the DAG that has the function."""
        dag_id: FunctionId = own_attribute(self.dag, "id")
        return dag_id

    def value_elsewhere(self) -> RunValue | None:
        """Return the value as an argument of functions of other runs; None if no run is referred to that has it."""
        latest_run = own_attribute(self.dag, "latest_run", None)
        values = None if latest_run is None else latest_run()
        return None if values is None else values.value_of(self.id)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> Never:
        raise TypeError(
            f"{repr_of(self)} stands for a result, and was not found here: pass handles as arguments, by themselves or within"
            f" {LOOKED_INTO}, with one among the first {MOST_SEARCHED:,} members; elsewhere use handle.id"
        )

    def __repr__(self) -> str:
        return f"Handle(id={repr_of(self.id)})"


class PerWorker(Struct, Generic[ResultT_co], frozen=True, eq=False):
    """An object that each worker makes for itself; made by `per_worker`.

    As an argument of a function it stands for what `load` has returned in the function's worker.
    """

    #: For people: the call that makes it, shortened.
    name: str
    #: Makes it, from these arguments.
    load: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    #: Claimed while it is in a worker.
    cost: Mapping[str, float]
    #: Seconds for which it stays in a worker that runs no function with it.
    idle: float

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> Never:
        raise TypeError(
            f"{self!r} is made in workers, and was not found here: pass it as an argument, by itself or within"
            f" {LOOKED_INTO}, with one among the first {MOST_SEARCHED:,} members"
        )

    def __repr__(self) -> str:
        return f"<per_worker {self.name}>"
