"""A finished run as its caller sees it: results, the nodes that made them, a report and stories."""

import asyncio
import os
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Never, Protocol, TypeVar, overload

from handoff_actors.actors.app.foreign_arguments import ForeignArgument, FoundValue
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.actors.app.runner_source import found_value
from handoff_actors.client.process.forks import Owner
from handoff_actors.client.process.tracebacks import InsideHidden, inside_hidden
from handoff_actors.core.run.facts.story import Story
from handoff_actors.errors import HandoffError, NodeLost, SerializationError
from handoff_actors.escaping import escape_name
from handoff_actors.events import RunEvent
from handoff_actors.graph.argument import LOOKED_INTO, Handle
from handoff_actors.graph.dag import DAG, set_latest_run
from handoff_actors.ids import FunctionId
from handoff_actors.report.report import Report
from handoff_actors.text import brief_repr_of, check_kept_name, repr_of, str_of
from handoff_actors.time_spans import seconds_in
from handoff_actors.wire.payload import decode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from handoff_actors.core.run.explain import Explanation

#: Bytes of an encoded value that is decoded only to be shown.
_SHOWN_NBYTES: Final = 64 * 1024
#: Characters of a value that is shown, and entries of a mapping.
_MOST_OF_VALUE: Final = 80
_MOST_OF_ERROR: Final = 200
_MOST_ENTRIES: Final = 10

__all__ = ["Allocations", "Report", "Results", "Run", "RunEvent", "RunFailures", "StoredValue"]

ResultT = TypeVar("ResultT")


class Holdings:
    """The values of one run, in this process and on nodes, which keep theirs for as long as this object is referred to."""

    def __init__(self, runner: RunnerActor) -> None:
        self.runner = runner
        self._inline = runner.view.inline
        self._decoded: dict[FunctionId, Any] = {}
        self._owner = Owner("run", "fetch its results before the fork")
        self.release = weakref.finalize(self, _let_go, runner, asyncio.get_running_loop())

    def get(self, function_id: FunctionId) -> Any:
        """Return a value, or a `StoredValue` for one that is not here. Raises KeyError for an unknown id."""
        if function_id in self._decoded:
            return self._decoded[function_id]
        index = self.runner.plan.index(function_id)
        function_id = self.runner.plan.ids[index]
        view = self.runner.view
        encoded = self._inline.get(index) or self.runner.values.get(index)
        if encoded is None and view.has_failed(index):
            raise self.runner.errors.of(index)
        if encoded is None and not view.is_done(index):
            raise KeyError(f"function {repr_of(function_id)} has no result: its run ended before it was done")
        if encoded is None:
            node = (*view.holders(index), "")[0]
            return StoredValue(self, function_id, node, view.stored_nbytes(index))
        return self._decode(function_id, encoded)

    @property
    def host(self) -> object:
        """See `ValueOwner`."""
        return self.runner.host

    def find(self, function_id: FunctionId) -> FoundValue:
        """Find a value for another run. Raises KeyError, ValueLost, and the function's error if it has failed."""
        runner, index = self.runner, self.runner.plan.index(function_id)
        view, plan = runner.view, runner.plan
        function_id = plan.ids[index]
        if not view.is_done(index):
            self.get(function_id)
        return found_value(runner, function_id, f"an earlier run of DAG {repr_of(plan.dag_id)}", self)

    def value_of(self, function_id: FunctionId) -> "StoredValue | None":
        """Return a result as an argument of functions of other runs; None if there is none."""
        view, index = self.runner.view, self.runner.plan.find(function_id)
        if index is None or not view.is_done(index):
            return None
        node = (*view.holders(index), "")[0]
        inline = view.inline.get(index)
        nbytes = view.stored_nbytes(index) if inline is None else len(inline)
        return StoredValue(self, self.runner.plan.ids[index], node, nbytes)

    async def fetch(self, function_id: FunctionId) -> Any:
        """Return a value, fetched from a node if it is not here. Raises KeyError for an unknown id, NodeLost if no node has it any more."""
        index = self.runner.plan.index(function_id)
        function_id = self.runner.plan.ids[index]
        if function_id in self._decoded:
            return self._decoded[function_id]
        if not self.runner.view.is_done(index):
            return self.get(function_id)
        self._owner.check()
        try:
            encoded = await self.runner.fetch(index)
        except LookupError as error:
            node = self.runner.view.node[index] or ""
            raise NodeLost(node, f"the result of function {repr_of(function_id)} is gone: {error}") from error
        return self._decode(function_id, encoded)

    def shown(self, function_id: FunctionId) -> str:
        """Return the text of a value for people, or the error in its place. Nothing large is loaded for it."""
        index = self.runner.plan.index(function_id)
        encoded = self._inline.get(index) or self.runner.values.get(index)
        nbytes = 0 if encoded is None else memoryview(encoded).nbytes
        if function_id not in self._decoded and nbytes > _SHOWN_NBYTES:
            return f"<{nbytes:,} bytes, not loaded yet>"
        try:
            return _one_line(brief_repr_of(self.get(function_id), _MOST_OF_VALUE))
        except KeyError:
            return "<unfinished>"
        except HandoffError as error:
            # Its own, or of loading its value.
            return f"<{_brief_error(error)}>"

    def _decode(self, function_id: FunctionId, encoded: bytes | memoryview) -> Any:
        try:
            value = decode(encoded)
        except SerializationError as error:
            raise SerializationError(
                f"the result of function {repr_of(function_id)}: {error}", function_id
            ) from error
        self._decoded[function_id] = value
        return value


class ValueOwner(Protocol):
    """The owner of values, which stay where they are for as long as it is referred to."""

    @property
    def host(self) -> object:
        """The session that has them."""

    async def fetch(self, function_id: FunctionId) -> Any:
        """Return a value, fetched from a node if it is not here."""

    def find(self, function_id: FunctionId) -> FoundValue:
        """Find a value for a run. Raises ValueLost."""


class StoredValue(ForeignArgument):
    """A value that is on a node. `await` it to fetch it; for a result, `Run.fetch` does so, too.

    It may be an argument of functions of later runs of the same session, by itself or within containers, as handles are: its
    bytes don't go through the app, and a node that has it takes no copy.
    """

    # Without a dict nobody looks within it for the part that can't be pickled.
    __slots__ = ("__weakref__", "_holdings", "function_id", "nbytes", "node")

    def __init__(self, holdings: ValueOwner, function_id: FunctionId, node: str, nbytes: int) -> None:
        self._holdings = holdings
        #: Id of the function whose result it is; the name of a value that is kept, and "" of one that was put.
        self.function_id = function_id
        #: Name of a node that has it.
        self.node = node
        #: Encoded size in bytes.
        self.nbytes = nbytes

    def __await__(self) -> Generator[Any, None, Any]:
        return self._fetched().__await__()

    @inside_hidden
    async def _fetched(self) -> Any:
        return await self._holdings.fetch(self.function_id)

    def find(self, host: object) -> FoundValue:
        """Find the value for another run. See `ForeignArgument`."""
        if self._holdings.host is not host:
            raise TypeError(
                f"{self!r}, the value of {repr_of(self.function_id)}, belongs to another session: fetch the value first"
                " (await it), or use one session"
            )
        return self._holdings.find(self.function_id)

    def __reduce__(self) -> Never:
        raise TypeError(
            "a StoredValue belongs to its session, and was not found here: pass it as an argument, by itself or within"
            f" {LOOKED_INTO}; elsewhere fetch the value first (await it)"
        )

    def __repr__(self) -> str:
        return f"StoredValue(node={self.node!r}, nbytes={self.nbytes})"


class Results(Mapping[FunctionId, Any]):
    """Results by function id, or by handle: a read-only mapping, in the order in which functions were added.

    It has all of `Mapping`: `results.items()`, `id in results`, `len(results)`. Functions that have failed are not in it. Arrays,
    frames and memoryviews among the values are read-only, whatever their size; change a copy of them.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._view = holdings.runner.view
        self._index_of = holdings.runner.plan.index_of

    @overload
    def __getitem__(self, function_id: Handle[ResultT]) -> ResultT: ...
    @overload
    def __getitem__(self, function_id: FunctionId) -> Any: ...
    def __getitem__(self, function_id: FunctionId) -> Any:
        """Return the result of a function, decoded when it is first asked for.

        :param function_id: Id of the function, or its handle.
        :returns: The value, or a `StoredValue` for a large one that is still on a node.
        :raises KeyError: There is no such function, or it has no result of its own, as it is inline; or the run, which has failed,
            ended before it was done.
        :raises HandoffError: The function has failed, and this is its error; a DependencyFailed if one that it depends on has.
        :raises SerializationError: The value can't be loaded here.
        """
        with InsideHidden():
            return self._holdings.get(function_id)

    def __iter__(self) -> Iterator[FunctionId]:
        return (function_id for function_id, index in self._index_of.items() if self._view.is_done(index))

    def __len__(self) -> int:
        return sum(map(self._view.is_done, self._index_of.values()))

    def __contains__(self, function_id: object) -> bool:
        # Not by `__getitem__`, which decodes the value.
        index = self._view.plan.find(function_id)
        return index is not None and self._view.is_done(index)

    def __repr__(self) -> str:
        return f"Results({_brief(self, self._holdings.shown)})"

    def _repr_html_(self) -> str:
        # As for other forms for notebooks: few programs want one, and no other would need what this imports.
        from handoff_actors.client.html_forms import results_table  # noqa: PLC0415

        return results_table(self._holdings.runner.view, self._holdings.shown)


class RunFailures(Mapping[FunctionId, HandoffError]):
    """The errors of functions that have no result, by function id or handle, in the order in which functions were added.

    Serialize hooks are there, too, by their `HookId`.
    """

    def __init__(self, runner: RunnerActor) -> None:
        self._runner = runner
        view, ids = runner.view, runner.plan.ids
        hooks = runner.plan.hook_of
        behind = (index for index in view.failed_behind if index not in hooks)
        self._index_of = {ids[index]: index for index in sorted([*view.failures, *behind])}

    def __getitem__(self, function_id: FunctionId) -> HandoffError:
        return self._runner.errors.of(self._index_of[self._runner.plan.id_of(function_id)])

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._index_of)

    def __len__(self) -> int:
        return len(self._index_of)

    def __repr__(self) -> str:
        return f"RunFailures({_brief(self, lambda function_id: _brief_error(self[function_id]))})"

    def _repr_html_(self) -> str:
        from handoff_actors.client.html_forms import failures_table  # noqa: PLC0415 - see Results

        return failures_table(self)


class Allocations(Mapping[FunctionId, str]):
    """Names of nodes by function id, or by handle; serialize hooks are there, too, by their `HookId`."""

    def __init__(self, runner: RunnerActor) -> None:
        self._runner = runner
        self._index_of = {function_id: index for index, function_id in enumerate(runner.plan.ids)}

    def __getitem__(self, function_id: FunctionId) -> str:
        index = self._index_of.get(function_id)
        return self._runner.view.node[self._runner.plan.index(function_id) if index is None else index] or ""

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._index_of)

    def __len__(self) -> int:
        return len(self._index_of)

    def __repr__(self) -> str:
        return f"Allocations({_brief(self, lambda function_id: repr_of(self[function_id]))})"


class Run:
    """A run that has ended. While it is referred to, nodes keep the results that were not fetched."""

    def __init__(self, runner: RunnerActor) -> None:
        self._holdings = Holdings(runner)
        #: Results by function id: values, or a `StoredValue` for each that is still on a node.
        self.results = Results(self._holdings)
        #: The errors of functions that have failed, and of those that did not run since they depend on these, by function id:
        #: empty unless the run had `on_failure="continue"`, or is the `run` of an error.
        self.failures = RunFailures(runner)
        #: Names of the nodes that ran the functions, by function id.
        self.allocations = Allocations(runner)
        #: Report on each function; as text it is a table.
        self.report = Report(runner.view, runner.started_at)

    @property
    def reused(self) -> set[FunctionId]:
        """The ids of functions whose results came from the journal or the cache. Their reports show no attempt."""
        view = self._holdings.runner.view
        return {function_id for function_id, index in view.plan.index_of.items() if view.is_reused(index)}

    @property
    def dag_id(self) -> FunctionId:
        """The id of the DAG that was run."""
        return self._holdings.runner.plan.dag_id

    @overload
    async def fetch(self, function_id: Handle[ResultT]) -> ResultT: ...
    @overload
    async def fetch(self, function_id: FunctionId) -> Any: ...
    @inside_hidden
    async def fetch(self, function_id: FunctionId) -> Any:
        """Return the value of a function, fetched from the node that has it if need be.

        :param function_id: Id of the function, or its handle.
        :raises KeyError: There is no such function, or the run, which has failed, ended before it was done.
        :raises HandoffError: The function has failed: its own error, or a DependencyFailed.
        :raises NodeLost: No node has the value any more.
        :raises SerializationError: The value can't be loaded here.
        """
        return await self._holdings.fetch(function_id)

    async def keep(self, function_id: FunctionId, name: str, ttl: float | str = "1d") -> None:
        """Have the nodes that hold a result keep it under a name, beyond this run, this session and this process.

        `Session.kept` finds it, in any app of the same cluster. A value that is in this process alone is brought to a node.
        It is dropped once its time is over, by `Session.drop_kept`, or with the last node that has it; a node that leaves
        hands it to nobody. A later value of the same name takes its place.

        :param function_id: Id of the function, or its handle.
        :param name: Name for the value: at most 255 bytes of printable text.
        :param ttl: Time for which it is kept, in seconds, or as text such as "12h" or "7d".
        :raises KeyError: There is no such function, or it was not done.
        :raises HandoffError: The function has failed: its own error, or a DependencyFailed.
        :raises ValueLost: No node has the value any more, or none could take it.
        :raises ValueError: `name` or `ttl` is not allowed.
        """
        ttl_s = seconds_in("ttl", ttl)
        check_kept_name(name)
        await self._holdings.runner.host.keep(self._holdings.find(function_id), name, ttl_s)

    async def release(self) -> None:
        """Have nodes drop the results that were not fetched, and return once they have."""
        self._holdings.release()
        await asyncio.shield(self._holdings.runner.forgotten)

    def to_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace of the run, to be opened in Perfetto.

        For a very large run this takes a while; it may be called in a thread.

        :param path: File to write.
        :raises OSError: The file can't be written.
        """
        # As for pictures: few programs want one, and no other would need what this imports.
        from handoff_actors.report.trace import write_trace  # noqa: PLC0415

        write_trace(self.report, path)

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the timeline of the run, and return the axes.

        :param axes: Axes of matplotlib to draw on; None: those of a new figure.
        :raises ImportError: There is no matplotlib; the extra `plot` has it.
        """
        from handoff_actors.report.plot import plot  # noqa: PLC0415 - see to_trace

        return plot(self.report, axes)

    def explain(self, function_id: FunctionId) -> "Explanation | None":
        """Explain why a function, named by its id or handle, is where it is. Returns None for one that is done."""
        view = self._holdings.runner.view
        with InsideHidden():
            index = view.plan.index_of.get(view.plan.id_of(function_id))
        return None if index is None else view.explain_one(index)

    def story(self, function_id: FunctionId) -> Story:
        """Tell what happened to a function, named by its id or handle, and why: its attempts, and all that went otherwise than planned.

        As text the story has a line for each entry. Raises KeyError for an unknown id.
        """
        view = self._holdings.runner.view
        with InsideHidden():
            return view.story(view.plan.index(function_id))

    def node_story(self, name: str) -> Story:
        """Tell what happened on a node, and to it, in this run: its attempts, values that it lost, and its own end."""
        return self._holdings.runner.view.node_story(name)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<Run of DAG {repr_of(self.dag_id)}: {len(self.results)} functions{failed}>"

    def _repr_html_(self) -> str:
        from handoff_actors.client.html_forms import run_form  # noqa: PLC0415 - see Results

        return run_form(self._holdings.runner.view, self._holdings.shown, self.report)


def note_run(dag: DAG, run: Run) -> None:
    """Have handles of a DAG stand for the results of a run in other DAGs, for as long as anything of the run is referred to."""
    set_latest_run(dag, run._holdings)  # noqa: SLF001 - users of a Run need not see it


def _brief(mapping: Mapping[FunctionId, object], shown: Callable[[FunctionId], str]) -> str:
    entries = [f"{repr_of(key, _MOST_OF_VALUE)}: {shown(key)}" for key in islice(mapping, _MOST_ENTRIES)]
    if len(mapping) > _MOST_ENTRIES:
        entries.append(f"... and {len(mapping) - _MOST_ENTRIES:,} more")
    return f"{{{', '.join(entries)}}}"


def _brief_error(error: HandoffError) -> str:
    return _one_line(f"{type(error).__name__}: {str_of(error, _MOST_OF_ERROR)}")


def _one_line(text: str) -> str:
    # Functions may be other people's, and their objects' texts hold what a terminal should not be told.
    return escape_name(" ".join(text.split()))


def _let_go(runner: RunnerActor, loop: asyncio.AbstractEventLoop) -> None:
    # Garbage may be collected in any thread, and after the loop has ended.
    if not loop.is_closed():
        loop.call_soon_threadsafe(runner.release)
