"""The results of an open run: their handles, and what they are beyond the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from handoff_actors.actors.app.foreign_arguments import ForeignArgument, FoundValue
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.actors.app.runner_source import found_value
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.errors import NodeLost
from handoff_actors.graph.argument import Handle
from handoff_actors.ids import FunctionId
from handoff_actors.text import check_kept_name, repr_of
from handoff_actors.time_spans import seconds_in


class OpenRunValue(ForeignArgument):
    """The result of a function of an open run, which keeps it as long as there is the handle."""

    __slots__ = ("_handle", "_runner")

    def __init__(self, handle: Handle[object], runner: RunnerActor) -> None:
        self._handle = handle
        self._runner = runner

    def find(self, host: object) -> FoundValue:
        """See ForeignArgument."""
        if self._runner.host is not host:
            raise TypeError(
                f"{self._handle!r} belongs to a run of another session: await it, and pass the value, or use one session"
            )
        return found_value(self._runner, self._handle.id, f"an open run, of {repr_of(self._handle)},", self)


async def fetch_after_the_end(handle: RunHandle[Any], runner: RunnerActor) -> None:
    """Fetch the value of a function whose run has ended. Raises NodeLost if nobody has it any more."""
    index = None
    try:
        index = runner.plan.index(handle.id)
        await runner.fetch(index)
    except LookupError as error:
        node = "" if index is None else runner.view.node[index] or ""
        raise NodeLost(node, f"the result of function {repr_of(handle.id)} is gone: {error}") from error


async def keep_result(handle: RunHandle[Any], runner: RunnerActor, name: str, ttl: float | str) -> None:
    """Have nodes keep the result of a function under a name. See `OpenRun.keep`."""
    ttl_s = seconds_in("ttl", ttl)
    check_kept_name(name)
    await handle.wait()
    if handle.cancelled() or handle.exception() is not None:
        handle.result()
    value = handle.value_elsewhere()
    assert isinstance(value, ForeignArgument), "it is done"
    await runner.host.keep(value.find(runner.host), name, ttl_s)


class Handles(Mapping[FunctionId, RunHandle[Any]]):
    """Handles of the functions of a graph that was added to a run, by their ids or handles in the graph."""

    def __init__(self, handles: dict[FunctionId, RunHandle[Any]], dag_id: FunctionId) -> None:
        self._handles = handles
        self._dag_id = dag_id

    def __getitem__(self, function_id: FunctionId) -> RunHandle[Any]:
        if not isinstance(function_id, Handle):
            return self._handles[function_id]
        if function_id.dag_id != self._dag_id:
            raise KeyError(
                f"{repr_of(function_id)} belongs to DAG {repr_of(function_id.dag_id)}, and these are the functions of DAG"
                f" {repr_of(self._dag_id)}: use a handle of that one, or an id"
            )
        return self._handles[function_id.id]

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._handles)

    def __len__(self) -> int:
        return len(self._handles)
