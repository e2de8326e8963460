"""The parts of a DAG that its own parts use, which it imports."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from handoff_actors.graph.argument import Handle, RunValue
from handoff_actors.graph.function import Code, Function
from handoff_actors.ids import FunctionId


class AnyDag(Protocol):
    """A DAG."""

    id: FunctionId

    @property
    def functions(self) -> Mapping[FunctionId, Function]:
        """See DAG."""

    @property
    def call(self) -> Callable[..., Handle[Any]]:
        """See DAG."""

    def add_function(self, function: Function) -> object:
        """See DAG."""

    def validate(self) -> None:
        """See DAG."""

    def __len__(self) -> int: ...

    def _id_for(self, function_id: FunctionId, arg: FunctionId) -> FunctionId: ...

    def _withdraw(self, function_id: FunctionId) -> None: ...

    def _fresh_id(self, fn: Code | None) -> str: ...

    def _fresh_name(self, name: str) -> str: ...


class RunValues(Protocol):
    """The values of a run."""

    def value_of(self, function_id: FunctionId) -> RunValue | None:
        """Return the value of a function; None if it has none."""
