"""Makes what users get of the results of a stream."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, overload

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.client.streaming.outlet import Arrival
from handoff_actors.core.stream.events import ItemFailure, ItemSkipped, Vertex
from handoff_actors.errors import ItemError, SerializationError
from handoff_actors.graph.argument import Handle
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.ids import FunctionId
from handoff_actors.skip import SKIP
from handoff_actors.text import repr_of
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.payload import decode

ResultT = TypeVar("ResultT")


class StreamItem(Mapping[FunctionId, Any]):
    """The results of one item of a stream with several sinks, by their ids or handles; `SKIP` for one that was skipped."""

    __slots__ = ("_dag_id", "_values")

    def __init__(self, values: dict[FunctionId, Any], dag_id: FunctionId) -> None:
        self._values = values
        self._dag_id = dag_id

    @overload
    def __getitem__(self, function_id: Handle[ResultT]) -> ResultT: ...
    @overload
    def __getitem__(self, function_id: FunctionId) -> Any: ...
    def __getitem__(self, function_id: FunctionId) -> Any:
        """Return the result of a sink.

        :param function_id: Id of the function, or its handle.
        :raises KeyError: No such function gives results of the stream.
        """
        if not isinstance(function_id, Handle):
            return self._values[function_id]
        if function_id.dag_id != self._dag_id:
            raise KeyError(
                f"{repr_of(function_id)} belongs to DAG {repr_of(function_id.dag_id)}, and this is an item of a stream of DAG"
                f" {repr_of(self._dag_id)}: use a handle of that one, or an id"
            )
        return self._values[function_id.id]

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"StreamItem({self._values!r})"


class StreamItems:
    """Makes the items of one stream."""

    def __init__(self, plan: StreamPlan) -> None:
        self._plan = plan
        self._only_sink = plan.sinks[0] if len(plan.sinks) == 1 else None

    def item(self, arrival: Arrival) -> Any:
        """Decode a result; an `ItemError` for one that has failed, or can't be decoded here."""
        if arrival.failure is not None:
            return self._error(arrival.number, arrival.failure)
        values = arrival.values
        if self._only_sink is not None:
            return self._decoded(arrival.number, self._only_sink, values[self._only_sink])
        decoded: dict[FunctionId, Any] = {}
        for sink in self._plan.sinks:
            value = self._decoded(arrival.number, sink, values.get(sink, ItemSkipped()))
            if isinstance(value, ItemError):
                return value
            decoded[self._plan.vertices[sink].function.id] = value
        return StreamItem(decoded, self._plan.dag_id)

    def _decoded(self, number: int, sink: Vertex, value: Buffer | ItemSkipped) -> Any:
        if isinstance(value, ItemSkipped):
            return SKIP
        try:
            return decode(value)
        except SerializationError as error:
            failure = ItemFailure(
                "serialization", b"", f"its result can't be loaded in the app: {error}", stage=sink
            )
            ours = self._error(number, failure)
            ours.__cause__ = error
            return ours

    def _error(self, number: int, failure: ItemFailure) -> ItemError:
        stage = None if failure.stage is None else self._plan.vertices[failure.stage].function.id
        error = ItemError(
            number, stage, failure.reason, failure.kind, failure.attempts, failure.not_retried, failure.node
        )
        if failure.error:
            error.__cause__ = decode_exception(failure.error)
        return error
