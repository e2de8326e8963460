"""A run to which functions are added while it goes on, as its user sees it."""

import asyncio
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from handoff_actors.actors.app.run_errors import as_ours
from handoff_actors.actors.app.run_growth import EndedFunction
from handoff_actors.client.growing.going_run import GoingRun
from handoff_actors.client.growing.open_run_feed import NOT_IN_THE_RUN, OpenRunFeed
from handoff_actors.client.growing.open_run_values import (
    Handles,
    OpenRunValue,
    fetch_after_the_end,
    keep_result,
)
from handoff_actors.client.growing.run_handle import HandleState, RunHandle
from handoff_actors.client.process.tracebacks import ON_PURPOSE, InsideHidden, hide_inside, inside_hidden
from handoff_actors.core.run.events import Cancel, WantResults
from handoff_actors.errors import (
    DagError,
    DuplicateFunctionError,
    FunctionCancelled,
    HandoffError,
    InvalidFunctionError,
    MissingFunctionError,
    SerializationError,
)
from handoff_actors.graph.argument import Collocated
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.graph.growing_dag import renamed
from handoff_actors.graph.parameters import check_calls
from handoff_actors.graph.plan import check_for_run
from handoff_actors.graph.repeated_calls import function_of
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of
from handoff_actors.wire.payload import decode

if TYPE_CHECKING:
    from handoff_actors.client.run import Run

ResultT = TypeVar("ResultT")


class OpenRun(OpenRunFeed):
    """A run to which functions may be added. Use it with `async with`: leaving the block waits for all of them.

    A function that fails ends the run, or itself and what depends on it alone, as `on_failure` says. An exception that
    leaves the block cancels the run. Methods are for the loop of the run; from other threads `call`, `call_each`, `add`
    and `cancel` may be used, too.
    """

    def __init__(
        self,
        begin: Callable[[], Awaitable[GoingRun]],
        max_pending: int | None = None,
        *,
        gives_handles: bool = True,
    ) -> None:
        """For `Session.open_run` and `handoff.open_run`. `gives_handles`: results may be arguments of later functions."""
        super().__init__(max_pending)
        self._begin = begin
        self._gives_handles = gives_handles
        #: Handles whose stored values somebody waits for.
        self._wanting: dict[FunctionId, RunHandle[Any]] = {}
        self._graph_count = 0
        self._error: HandoffError | None = None
        self._fetches: set[asyncio.Task[None]] = set()
        #: Its values stay as long as this object does.
        self._ended: Run | None = None

    # --- Life ---------------------------------------------------------------------------------------------------

    @inside_hidden
    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._going = await self._begin()
        # Handles of the calls are looked up in the run.
        self._calls.id = self.dag_id
        self._going.runner.growth.listener = self
        self._feeding = self.loop.create_task(self._feed(), name="functions of an open run")
        self._feeding.add_done_callback(self._feeding_ended)
        return self

    def _feeding_ended(self, feeding: "asyncio.Task[None]") -> None:
        if not feeding.cancelled() and (error := feeding.exception()) is not None:
            # Without it the run would wait for ever.
            self._going.runner.feed(Cancel(as_ours(error)))

    @inside_hidden
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        if error is not None:
            self._going.task.cancel()
        self._wake()
        try:
            self._ended = await self._going.task
        except (asyncio.CancelledError, HandoffError):
            # What ended the block is most often what ended the run.
            if error is None:
                raise
        finally:
            self._feeding.cancel()

    async def release(self) -> None:
        """Let go of all values of a run that has been left: those that are not in the app are gone."""
        if self._ended is not None:
            await self._ended.release()

    @property
    def is_over(self) -> bool:
        """True once the run has ended."""
        return self._error is not None

    def finish(self) -> None:
        """Take no more functions, and let the run end once those that it has are done. Nobody waits for that."""
        self._is_closing = True
        self._going.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._wake()

    async def abandon(self) -> None:
        """Cancel the run, if it still goes on, and return once nothing of it is left. Those who wait are told why."""
        self._is_closing = True
        unfinished, self._unfinished = self._unfinished, {}
        for handle in unfinished.values():
            if not handle.done():
                handle.state.is_retrieved = True
                handle.end(
                    HandoffError(f"function {repr_of(handle.id)} has not ended: its session was closed")
                )
        self._going.task.cancel()
        self._feeding.cancel()
        await asyncio.wait([self._going.task, self._feeding])
        if not self._going.task.cancelled():
            # Those who had handles have heard of it.
            self._going.task.exception()

    # --- Calls --------------------------------------------------------------------------------------------------

    @overload
    def call(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        *args: object,
        **options: Any,
    ) -> RunHandle[ResultT]: ...
    @overload
    def call(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        *args: object,
        **options: Any,
    ) -> RunHandle[ResultT]: ...
    @overload
    def call(
        self, fn: Callable[..., ResultT | Subgraph[ResultT]], *args: object, **options: Any
    ) -> RunHandle[ResultT]: ...
    def call(self, fn: Callable[..., Any], *args: object, **options: Any) -> RunHandle[Any]:
        """Add a call of `fn` and return its handle at once.

        Arguments and options (`id`, `cost`, `timeout`, `max_retries`, `priority`, `node`, ...) are those of `DAG.call`. Handles
        of this run among the arguments stand for results, whether they are there yet or not.

        :raises HandoffError: The run is over, or is about to be.
        :raises InvalidFunctionError: An option is not allowed, or `fn` can't take these arguments.
        :raises DuplicateFunctionError: A function of the run has that id.
        """
        try:
            return self.call_with(fn, args, options)
        except ON_PURPOSE as error:
            hide_inside(error)
            raise

    def call_with(
        self, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]
    ) -> RunHandle[Any]:
        """Do the same as `call`, for this package."""
        return self._call_some(fn, (args,), options)[0]

    def call_each_with(
        self, fn: Callable[..., Any], calls: Sequence[tuple[object, ...]], options: dict[str, Any]
    ) -> Iterator[RunHandle[Any]]:
        """Do the same for several arguments; gives the handles in that order, up to a call that can't be made."""
        while calls:
            handles = self._call_some(fn, calls, options)
            yield from handles
            calls = calls[len(handles) :]

    def _call_some(
        self, fn: Callable[..., Any], calls: Sequence[tuple[object, ...]], options: dict[str, Any]
    ) -> list[RunHandle[Any]]:
        """Add calls, as long as they are like earlier ones; or the first one if it is like none."""
        self._check_open()
        if "id" in options:
            self._has_names = True
            if self._has(options["id"]):
                raise DuplicateFunctionError(options["id"])
        with self._adding:
            is_first = not len(self._repeated)
            ids = self._repeated.add(fn, calls, options, self._fresh_id)
            if not ids:
                ids = [self._call_otherwise(fn, calls[0], options)]
            elif is_first:
                self._before_repeated = len(self._calls)
            handles = [self._new_handle(each) for each in ids]
            self._wake()
            return handles

    def _call_otherwise(
        self, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]
    ) -> FunctionId:
        plain = self._calls.call(fn, *args, **options)
        function = self._calls.functions[plain.id]
        try:
            self._check(function)
        except DagError:
            self._calls.remove(plain.id)
            raise
        self._taken.count(function, 1)
        self._expect_cached((function,))
        self._repeated.note(fn, options, function)
        return plain.id

    def _fresh_id(self, name: str) -> FunctionId:
        return self._calls.fresh_id(name, is_taken=self._has)

    @overload
    def call_each(
        self,
        fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
        items: Iterable[object],
        **options: Any,
    ) -> list[RunHandle[ResultT]]: ...
    @overload
    def call_each(
        self,
        fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
        items: Iterable[object],
        **options: Any,
    ) -> list[RunHandle[ResultT]]: ...
    @overload
    def call_each(
        self, fn: Callable[..., ResultT | Subgraph[ResultT]], items: Iterable[object], **options: Any
    ) -> list[RunHandle[ResultT]]: ...
    def call_each(
        self, fn: Callable[..., Any], items: Iterable[object], **options: Any
    ) -> list[RunHandle[Any]]:
        """Add a call `fn(item)` for each item; return the handles in that order. Options and errors are those of `call`."""
        try:
            return [self.call_with(fn, (item,), options) for item in items]
        except ON_PURPOSE as error:
            hide_inside(error, runs_users_code=True)
            raise

    def add(self, dag: DAG) -> Mapping[FunctionId, RunHandle[Any]]:
        """Add all functions of a graph. Return a handle for each but inline ones, by its id or handle in the graph.

        Where the run has a function of one of these ids already, all of them get another id there.

        :raises HandoffError: The run is over, or is about to be.
        :raises DagError: The graph is not valid.
        """
        with InsideHidden():
            self._check_open()
            dag.validate()
            functions = dict(dag.functions)
            for function in functions.values():
                check_for_run(function)
            self._graph_count += 1
            self._has_names = True
            if any(map(self._has, functions)):
                functions = renamed(functions, self._graph_count)
            self._expect_cached(functions.values())
            pairs = zip(dag.functions, functions.values(), strict=True)
            handles = {own: self._new_handle(new.id) for own, new in pairs if new.type == "regular"}
            with self._adding:
                for function in functions.values():
                    self._taken.count(function, 1)
            self._graphs.append(functions)
            self._wake()
            return Handles(handles, dag.id)

    def _check_open(self) -> None:
        if self._error is not None:
            raise HandoffError(f"the run is over: {self._error}") from self._error
        if self._is_closing or not self._thread:
            raise HandoffError("functions are added within the block: async with handoff.open_run() as run")

    def _check(self, function: Function) -> None:
        check_for_run(function)
        check_calls((function,))
        if function.type == "inline":
            reason = "is inline, and has no result of its own: it can be an argument within a graph, see run.add(dag)"
            raise InvalidFunctionError(function.id, reason)
        missing = next((each for each in producer_ids(function) if not self._has(each)), None)
        if missing is not None:
            raise MissingFunctionError(function.id, missing, where=NOT_IN_THE_RUN)
        self._check_place(function)

    def _expect_cached(self, functions: Iterable[Function]) -> None:
        """From the first cached function on, others are to be known by what they are made of: it, and later ones, may take theirs."""
        if self._gives_handles and any(function.cache is not None for function in functions):
            self._going.runner.expect_cached()

    def _check_place(self, function: Function) -> None:
        if not isinstance(function.node, Collocated):
            return
        self._calls.add_functions(map(function_of, self._repeated.take(len(self._repeated))))
        if function.node.id not in self._calls:
            reason = "it can be collocated only with a function that is added with it: use run.add(dag)"
            raise InvalidFunctionError(function.id, reason)

    def _has(self, function_id: FunctionId) -> bool:
        return function_id in self._unfinished or function_id in self._going.runner.plan.index_of

    def _new_handle(self, function_id: FunctionId) -> RunHandle[Any]:
        handle: RunHandle[Any] = RunHandle(function_id, self._calls, self, HandleState())
        self._unfinished[function_id] = handle
        return handle

    def value_of(self, handle: RunHandle[Any]) -> OpenRunValue:
        """See HandleOwner."""
        return OpenRunValue(handle, self._going.runner)

    @inside_hidden
    async def keep(self, handle: RunHandle[Any], name: str, ttl: float | str = "1d") -> None:
        """Have nodes keep a result under a name, once it is there: see `Run.keep`. Also raises CancelledError."""
        await keep_result(handle, self._going.runner, name, ttl)

    # --- Waiting ------------------------------------------------------------------------------------------------

    async def as_completed(self, handles: Iterable[RunHandle[Any]]) -> AsyncIterator[RunHandle[Any]]:
        """Give the handles one after the other, each once its function has ended, well or not."""
        ended: asyncio.Queue[RunHandle[Any]] = asyncio.Queue()
        waited_for = list(handles)
        for handle in waited_for:
            handle.add_done_callback(ended.put_nowait)
        try:
            for _ in range(len(waited_for)):
                yield await ended.get()
        finally:
            for handle in waited_for:
                handle.remove_done_callback(ended.put_nowait)

    async def room(self) -> None:
        """Wait until fewer functions than `max_pending` have yet to end. Calls beyond wait in the app, not encoded."""
        while not self._has_room():
            self._room.clear()
            await self._room.wait()

    def cancel(self, *handles: RunHandle[Any]) -> int:
        """Cancel functions, wherever they are, and what depends on them. Return how many had yet to end.

        Running ones are stopped as at their time limit. Handles are cancelled at once; from another thread, as soon as the loop
        of the run gets to it.
        """
        if threading.get_ident() != self._thread:
            unfinished = [handle for handle in handles if not handle.done()]
            # Those who wait are woken in the loop.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.cancel, *unfinished)
            return len(unfinished)
        cancelled = 0
        for handle in handles:
            if handle.run is not self:
                cancelled += handle.run.cancel(handle)
            elif not handle.done():
                cancelled += 1
                self._cancelled.append(handle.id)
                handle.end(FunctionCancelled(handle.id))
        if cancelled:
            self._wake()
        return cancelled

    # --- For handles --------------------------------------------------------------------------------------------

    def encoded(self, function_id: FunctionId) -> bytes | memoryview | None:
        """Return the encoded value of a function that is done; None for a stored one that is not in the app."""
        return self._going.runner.growth.encoded(function_id)

    def decode(self, function_id: FunctionId, encoded: bytes | memoryview) -> Any:
        """Decode the value of a function. Raises SerializationError, which names it."""
        try:
            return decode(encoded)
        except SerializationError as error:
            reason = f"the result of function {repr_of(function_id)}: {error}"
            raise SerializationError(reason, function_id) from error

    def want(self, handle: RunHandle[Any]) -> None:
        """Have the stored value of a function that is done fetched; wakes those who wait for it."""
        if handle.id not in self._wanting:
            self._wanting[handle.id] = handle
            if self._going.runner.is_going_on:
                self._going.runner.feed(WantResults([handle.id]))
            else:
                fetching = fetch_after_the_end(handle, self._going.runner)
                task = self.loop.create_task(fetching, name="value of an open run")
                self._fetches.add(task)
                task.add_done_callback(partial(self._fetched, handle))

    def _fetched(self, handle: RunHandle[Any], fetch: "asyncio.Task[None]") -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled() and (error := fetch.exception()) is not None:
            # Whatever it is: without it those who wait would wait for ever.
            handle.end(as_ours(error))
        self.value_arrived(handle.id)

    # --- What the run says: see GrowthListener ------------------------------------------------------------------

    def functions_ended(self, ended: Sequence[EndedFunction]) -> None:
        """See GrowthListener."""
        unfinished = self._unfinished
        for function_id, error, encoded in ended:
            handle = unfinished.pop(function_id, None)
            if handle is not None:
                self._pending -= 1
            else:
                # The value of one that was done may have been lost since.
                handle = self._wanting.get(function_id)
            if handle is None or (handle.state.error is not None and handle.cancelled()):
                continue
            if error is None:
                handle.state.encoded = encoded
            else:
                self._wanting.pop(function_id, None)
            handle.end(error)
        if not self._unfinished:
            self._going.wait.end()
        if self._has_room():
            self._room.set()
        if len(self._calls) or len(self._repeated):
            self._wake()

    def value_arrived(self, function_id: FunctionId) -> None:
        """See GrowthListener."""
        handle = self._wanting.pop(function_id, None)
        if handle is not None:
            handle.state.encoded = self.encoded(function_id)
            handle.state.wake()

    def run_over(self, error: HandoffError | None) -> None:
        """See GrowthListener."""
        self._going.wait.end()
        self._error = error or HandoffError("it has ended")
        unfinished, self._unfinished = self._unfinished, {}
        wanting, self._wanting = self._wanting, {}
        for handle in unfinished.values():
            if not handle.done():
                # Whoever leaves the block gets the error.
                handle.state.is_retrieved = True
                was_cancelled = error is None or isinstance(error, FunctionCancelled)
                handle.end(FunctionCancelled(handle.id) if was_cancelled else error)
        for handle in wanting.values():
            # Whoever waits asks again.
            handle.state.wake()
        self._pending = 0
        self._going.runner.growth.listener = None
        self._room.set()
        self._wake()
