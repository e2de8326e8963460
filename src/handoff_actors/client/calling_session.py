"""The calls that a session makes one by one, and the runs that grow by them."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from functools import partial
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload
from uuid import uuid4

from handoff_actors.client.execute_options import ItemErrors, OpenRunOptions
from handoff_actors.client.growing.going_run import GoingRun
from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.session_calls import AHEAD, SessionCalls, check_sources
from handoff_actors.client.options import RunSettings, check_dag, check_names, with_checked_names
from handoff_actors.client.policy import Policy
from handoff_actors.client.process.tracebacks import ON_PURPOSE, InsideHidden, hide_inside
from handoff_actors.client.session_values import SessionValues
from handoff_actors.client.streaming.settings import StreamSettings
from handoff_actors.display.options import OutputOption
from handoff_actors.events import OnEvent
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.ids import FunctionId
from handoff_actors.workers.child.loading import check_may_start

if TYPE_CHECKING:
    from handoff_actors.client.streaming.pipeline import Pipeline

ResultT = TypeVar("ResultT")


class CallingSession(SessionValues):
    """The part of a session that is about functions without a graph."""

    def __init__(self) -> None:
        self._calls = SessionCalls(self._begin_own_run)

    @overload
    async def call(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        *args: object,
        **options: Any,
    ) -> ResultT: ...
    @overload
    async def call(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        *args: object,
        **options: Any,
    ) -> ResultT: ...
    @overload
    async def call(
        self, fn: Callable[..., ResultT | Subgraph[ResultT]], *args: object, **options: Any
    ) -> ResultT: ...
    async def call(self, fn: Callable[..., Any], *args: object, **options: Any) -> Any:
        """Call a function on a node and return its result.

        If the awaiting task is cancelled, so is the call: the function is stopped where it runs.

        :param fn: Function, or coroutine function.
        :param args: Its arguments.
        :param options: Options of `DAG.call` (`cost`, `timeout`, `max_retries`, ...), and keyword arguments of `fn`. A function
            that fails is not tried again unless `max_retries` says so; one whose worker or node is lost is.
        :raises HandoffError: The function has failed, and this is its error: a FunctionFailed, with the exception as its
            cause, AllocationError, WorkerDied, NodeLost, or SerializationError.
        :raises InvalidFunctionError: An option is not allowed, or `fn` can't take these arguments.
        """
        try:
            awaited = self._calls.call(fn, args, options)
            # Not while it is awaited: thousands of calls may be.
            del fn, args, options
            return await awaited
        except ON_PURPOSE as error:
            hide_inside(error)
            raise

    def call_with(
        self, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]
    ) -> Awaitable[Any]:
        """Return what does the same as `call` once it is awaited, for this package: it hides no frames."""
        return self._calls.call(fn, args, options)

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        *sources: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        ahead: int = AHEAD,
        **options: Any,
    ) -> AsyncGenerator[ResultT, None]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        *sources: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        ahead: int = AHEAD,
        **options: Any,
    ) -> AsyncGenerator[ResultT, None]: ...
    @overload
    def map(
        self,
        fn: Callable[..., ResultT | Subgraph[ResultT]],
        *sources: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
        ahead: int = AHEAD,
        **options: Any,
    ) -> AsyncGenerator[ResultT, None]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Any],
        *sources: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        return_exceptions: bool,
        ahead: int = AHEAD,
        **options: Any,
    ) -> AsyncGenerator[Any, None]: ...
    def map(
        self,
        fn: Callable[..., Any],
        *sources: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        return_exceptions: bool = False,
        ahead: int = AHEAD,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """Call a function for each item of a source, on the nodes, and give the results: `async for y in session.map(f, xs)`.

        Items are taken from the source as results are taken, a bounded number ahead, so that it may be endless. Leaving
        the loop early cancels the calls that are under way, once the generator is closed (see `contextlib.aclosing`).

        :param fn: Function, or coroutine function; it is called with one item of each source.
        :param sources: Iterables, plain or async. The shortest ends it.
        :param ordered: Give the results in the order of the items; False: as they come.
        :param return_exceptions: Give the error of a call in the place of its result; False: raise it.
        :param ahead: Number of items that are taken from the source before the results of earlier ones are.
        :param options: As for `call`.
        :raises TypeError: A source has no items.
        :raises ValueError: `ahead` is less than 1.
        :raises HandoffError: As for `call`.
        """
        with InsideHidden():
            check_sources(sources)
            return self._calls.map(
                fn, sources, options, ordered=ordered, return_exceptions=return_exceptions, ahead=ahead
            )

    def open_run(self, *, max_pending: int | None = None, **options: Unpack[OpenRunOptions]) -> OpenRun:
        """Return a run to which functions are added while it goes on: `async with session.open_run() as run`.

        :param max_pending: Number of functions that are with the run and have yet to end at most: further ones wait in the app,
            and `await run.room()` waits until there is room. None: no limit.
        :param options: Options of `execute_distributed`, except for those about a graph as a whole: `fetch` and `on_result`.
            With `journal`, calls of an earlier run with the same ids are not run again, if their code and inputs are the same.
        :raises ValueError: An option is not allowed.
        :raises TypeError: There is no such option.
        :raises JournalError: Where the block begins: the journal can't be used. Where it ends: it couldn't be written.
        """
        with InsideHidden():
            check_names("open_run", options, OpenRunOptions.__annotations__)
            settings = RunSettings(**options)
            return OpenRun(partial(self._begin_run, settings), max_pending)

    @with_checked_names
    def stream(
        self,
        dag: DAG,
        *,
        in_flight: int = 64,
        in_flight_mb: float = 512,
        ordered: bool = True,
        join_timeout: float | None = None,
        errors: ItemErrors = "yield",
        max_retries: int = 0,
        allocation_strategy: str | Policy = "most_spare",
        nodes: Collection[str] | None = None,
        allocation_timeout: float = 10.0,
        on_event: OnEvent | None = None,
        progress: bool | None = None,
        output: OutputOption = None,
        env_vars: Mapping[str, str] | None = None,
        working_dir: str | PurePath | None = None,
        modules_by_value: Sequence[ModuleType | str] = (),
    ) -> "Pipeline":
        """Return a stream of items through the functions of a DAG: `async with session.stream(dag) as pipeline`.

        Each function has workers of its own, which hold their claims until the block is left. Functions of type "input" stand
        for what is pushed, those that nothing takes from give the results.

        :param dag: Graph of functions.
        :param in_flight: Number of items between `push` and whoever takes their results at most; further pushes wait.
        :param in_flight_mb: Size of their values in MB, on all nodes and in the app together, beyond which only the oldest item
            goes on.
        :param ordered: Give results in the order of the pushes; False: as they come.
        :param join_timeout: Seconds that a function with several inputs waits for the rest of an item, once the first is there;
            the item fails then. None: for as long as it takes.
        :param errors: "yield": an item that fails gives an `ItemError` in the place of its result; "raise": that is raised there.
        :param max_retries: Number of further attempts at an item for which a function raises, where the function says no other.
        :param allocation_strategy: Rule that chooses nodes, as for `execute_distributed`.
        :param nodes: Names of the only nodes to use; None: all.
        :param allocation_timeout: Seconds to wait for a node that could hold a function, where none does.
        :param on_event: Callback for workers of stages that come and go, items that fail or are tried again, and about once a
            second how far each stage is, see `OnEvent`.
        :param progress: Show the progress of each stage, as for `execute_distributed`.
        :param output: Show lines that functions print or log, as for `execute_distributed`.
        :param env_vars: Environment variables that functions run with.
        :param working_dir: Directory that functions run in and can import from, as for `execute_distributed`.
        :param modules_by_value: Modules, or their names, whose code is sent along.
        :raises DagError: The graph is invalid, or can't be a stream.
        :raises ValueError: An option has a value that is not allowed.
        :raises TypeError: An option has a type that is not allowed.
        :raises ImportError: A module of `modules_by_value` can't be imported.
        :raises AllocationError: Where the block begins: no node could ever hold a function.
        :raises FunctionFailed: Where the block begins: an `init` has raised, which is the cause.
        """
        # Few programs have streams, and no other would need what this imports.
        from handoff_actors.client.streaming.pipeline import Pipeline  # noqa: PLC0415
        from handoff_actors.graph.streams.stream_plan import StreamPlan  # noqa: PLC0415

        with InsideHidden():
            check_dag(dag)
            settings = StreamSettings(
                in_flight=in_flight, in_flight_mb=in_flight_mb, ordered=ordered, join_timeout=join_timeout,
                errors=errors, max_retries=max_retries, allocation_strategy=allocation_strategy, nodes=nodes,
                allocation_timeout=allocation_timeout, on_event=on_event, progress=progress, output=output,
                env_vars=env_vars, working_dir=working_dir, modules_by_value=modules_by_value,
            )  # fmt: skip
            plan = StreamPlan.compile(dag)
            begin = partial(self._begin_run, settings.of_run(), dag.id)
            return Pipeline(plan, settings, OpenRun(begin), self._hub)

    async def _begin_run(self, settings: RunSettings, dag_id: FunctionId = None) -> GoingRun:
        check_may_start("a run")
        self._hub.check_process()
        closings = self._hub.closings
        await self._ready()
        self._hub.check_not_closed_since(closings)
        dag_id = uuid4().hex if dag_id is None else dag_id
        return await self._hub.runs.open(dag_id, settings, nodes_may_join=self._hub.is_in_cluster)

    async def _begin_own_run(self) -> OpenRun:
        settings = RunSettings(on_failure="continue", max_retries=0, progress=False)
        run = OpenRun(partial(self._begin_run, settings), gives_handles=False)
        return await run.__aenter__()
