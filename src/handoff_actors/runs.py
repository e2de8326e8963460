"""What a run gives to whoever awaited it: results, where they were made, and how it went."""

import asyncio
import weakref
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handoff_actors.actors.runner import RunEvent, RunnerActor
from handoff_actors.core.explain import Explanation
from handoff_actors.errors import NodeLost, SerializationError
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.payload import decode

__all__ = ["Allocations", "FunctionReport", "Report", "Results", "Run", "RunEvent", "StoredValue"]


class Holdings:
    """The values of one run, here and on nodes, which keep theirs for as long as this is referred to."""

    def __init__(self, runner: RunnerActor) -> None:
        self.runner = runner
        self._decoded: dict[FunctionId, Any] = {}
        self.release = weakref.finalize(self, _let_go, runner, asyncio.get_running_loop())

    def get(self, function_id: FunctionId) -> Any:
        """A value, or where it is stored."""
        if function_id in self._decoded:
            return self._decoded[function_id]
        index = self.runner.plan.index_of[function_id]
        progress = self.runner.machine.progress
        encoded = progress.inline.get(index, self.runner.values.get(index))
        if encoded is None:
            stored = progress.stored[index]
            return StoredValue(self, function_id, (stored.holders or [""])[0], stored.nbytes)
        return self._decode(function_id, encoded)

    async def fetch(self, function_id: FunctionId) -> Any:
        """A value, brought home if need be. Raises KeyError for an unknown id, NodeLost if no node has it any more."""
        index = self.runner.plan.index_of[function_id]
        if function_id in self._decoded:
            return self._decoded[function_id]
        try:
            encoded = await self.runner.fetch(index)
        except LookupError as error:
            node = self.runner.machine.progress.node[index] or ""
            raise NodeLost(node, f"the result of function {function_id!r} is gone: {error}") from error
        return self._decode(function_id, encoded)

    def _decode(self, function_id: FunctionId, encoded: bytes | memoryview) -> Any:
        try:
            value = decode(encoded)
        except SerializationError as error:
            raise SerializationError(
                f"the result of function {function_id!r}: {error}", function_id
            ) from error
        self._decoded[function_id] = value
        return value


class StoredValue:
    """A result that stays on the node that made it. Await it, or ask `Run.fetch`, to bring it home."""

    def __init__(self, holdings: Holdings, function_id: FunctionId, node: str, nbytes: int) -> None:
        self._holdings = holdings
        self.function_id = function_id
        #: Name of a node that has it.
        self.node = node
        #: Its encoded size.
        self.nbytes = nbytes

    def __await__(self) -> Generator[Any, None, Any]:
        return self._holdings.fetch(self.function_id).__await__()

    def __repr__(self) -> str:
        return f"StoredValue(node={self.node!r}, nbytes={self.nbytes})"


class Results(Mapping[FunctionId, Any]):
    """Values by function id, decoded when they are first looked at. Large ones that are not here are StoredValues."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def __getitem__(self, function_id: FunctionId) -> Any:
        return self._holdings.get(function_id)

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._holdings.runner.plan.index_of)

    def __len__(self) -> int:
        return len(self._holdings.runner.plan.index_of)

    def __repr__(self) -> str:
        return f"Results({dict(self)!r})"


class Allocations(Mapping[FunctionId, str]):
    """Names of nodes by function id; of serialize hooks, too, by their `HookId`."""

    def __init__(self, runner: RunnerActor) -> None:
        self._runner = runner
        self._index_of = {function_id: index for index, function_id in enumerate(runner.plan.ids)}

    def __getitem__(self, function_id: FunctionId) -> str:
        return self._runner.machine.progress.node[self._index_of[function_id]] or ""

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._index_of)

    def __len__(self) -> int:
        return len(self._index_of)

    def __repr__(self) -> str:
        return f"Allocations({dict(self)!r})"


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """How one function went, in its last attempt. Times are seconds since the run began."""

    function_id: FunctionId
    node: str
    #: Process id of the worker.
    worker: int
    #: How often it was sent out; 0 for one that was reused.
    attempts: int
    #: When its inputs were there.
    queued_at: float
    #: When it began, as seen from here: when its end was heard, less the time that it took.
    started_at: float
    finished_at: float
    #: Seconds that the user's code took.
    ran_s: float
    #: Bytes of stored inputs that had to be brought to its node.
    moved_nbytes: int
    #: Encoded size of its result.
    result_nbytes: int


class Report(Mapping[FunctionId, FunctionReport]):
    """How each function of a run went."""

    def __init__(self, runner: RunnerActor) -> None:
        self._runner = runner

    def __getitem__(self, function_id: FunctionId) -> FunctionReport:
        return self._report(self._runner.plan.index_of[function_id])

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._runner.plan.index_of)

    def __len__(self) -> int:
        return len(self._runner.plan.index_of)

    def __str__(self) -> str:
        lines = ["function | node | worker | attempts | queued | started | finished | moved in | result"]
        lines += [
            f"{entry.function_id} | {entry.node} | {entry.worker} | {entry.attempts} | {entry.queued_at:.6f} s | "
            f"{entry.started_at:.6f} s | {entry.finished_at:.6f} s | {entry.moved_nbytes} B | {entry.result_nbytes} B"
            for entry in self.values()
        ]
        return "\n".join(lines)

    def _report(self, index: Index) -> FunctionReport:
        progress, began = self._runner.machine.progress, self._runner.started_at
        finished_at = progress.finished_at[index] - began
        stored = progress.stored.get(index)
        return FunctionReport(
            function_id=self._runner.plan.ids[index],
            node=progress.node[index] or "",
            worker=progress.worker[index],
            attempts=progress.attempt[index],
            queued_at=progress.ready_at[index] - began,
            started_at=finished_at - progress.ran_s[index],
            finished_at=finished_at,
            ran_s=progress.ran_s[index],
            moved_nbytes=progress.moved.get(index, 0),
            result_nbytes=len(progress.inline[index]) if stored is None else stored.nbytes,
        )


class Run:
    """A run that has ended well. While it is referred to, nodes keep the values that were not brought home."""

    def __init__(self, runner: RunnerActor) -> None:
        self._holdings = Holdings(runner)
        self.results = Results(self._holdings)
        self.allocations = Allocations(runner)
        self.report = Report(runner)

    @property
    def reused(self) -> set[FunctionId]:
        """The ids of functions that were done already, as the journal had it. Their reports tell of no attempt."""
        progress, index_of = self._holdings.runner.machine.progress, self._holdings.runner.plan.index_of
        return {function_id for function_id, index in index_of.items() if progress.is_reused(index)}

    @property
    def dag_id(self) -> FunctionId:
        """The id of the DAG that was run."""
        return self._holdings.runner.plan.dag_id

    async def fetch(self, function_id: FunctionId) -> Any:
        """Bring the value of a function home.

        Raises KeyError for an unknown id, NodeLost if no node has it any more.
        """
        return await self._holdings.fetch(function_id)

    async def release(self) -> None:
        """Have nodes drop the values that have not been brought home; returns when they have."""
        self._holdings.release()
        await asyncio.shield(self._holdings.runner.forgotten)

    def explain(self, function_id: FunctionId) -> Explanation | None:
        """Why a function is where it is; None for one that is done."""
        explanations = self._holdings.runner.explain()
        return next((entry for entry in explanations if entry.function_id == function_id), None)

    def __repr__(self) -> str:
        return f"<Run of DAG {self.dag_id!r}: {len(self.results)} functions>"


def _let_go(runner: RunnerActor, loop: asyncio.AbstractEventLoop) -> None:
    # Garbage may be collected in any thread, and after the loop has ended.
    if not loop.is_closed():
        loop.call_soon_threadsafe(runner.let_go)
