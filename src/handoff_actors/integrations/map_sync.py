"""A map for code that has no event loop. Its sources are read in the thread that takes the results."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar, overload

from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.client.growing.session_calls import AHEAD, FILLS_FOR_S, check_ahead, check_sources
from handoff_actors.client.process.tracebacks import ON_PURPOSE, InsideHidden, hide_inside
from handoff_actors.errors import HandoffError
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.integrations.background import BackgroundSession, shared

ResultT = TypeVar("ResultT")

#: Results that are taken from the loop at once, and the seconds that further ones are taken for.
_MOST_AT_ONCE: Final = 1024
_TAKING_S: Final = 0.01


@overload
def map_sync(
    fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    ahead: int = AHEAD,
    **options: Any,
) -> Iterator[ResultT]: ...
@overload
def map_sync(
    fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    ahead: int = AHEAD,
    **options: Any,
) -> Iterator[ResultT]: ...
@overload
def map_sync(
    fn: Callable[..., ResultT | Subgraph[ResultT]],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    ahead: int = AHEAD,
    **options: Any,
) -> Iterator[ResultT]: ...
@overload
def map_sync(
    fn: Callable[..., Any],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: bool,
    ahead: int = AHEAD,
    **options: Any,
) -> Iterator[Any]: ...
def map_sync(
    fn: Callable[..., Any],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: bool = False,
    ahead: int = AHEAD,
    **options: Any,
) -> Iterator[Any]:
    """Call a function for each item of a source, and give the results: `for y in handoff.map_sync(f, xs)`.

    As `call_sync`, for code without an event loop. Plain sources are read in the calling thread, between results, and may
    call functions themselves; async ones in the session's loop. `Session.map` has options and errors.
    """
    with InsideHidden():
        check_sources(sources)
        check_ahead(ahead)
        background = shared()
        plain = [source for source in sources if isinstance(source, Iterable)]
        if len(plain) == len(sources):
            calls = _Calls(background, fn, options, ordered=ordered, ahead=ahead)
            return calls.results(zip(*plain, strict=False), return_exceptions=return_exceptions)
        results = background.session.map(
            fn, *sources, ordered=ordered, return_exceptions=return_exceptions, ahead=ahead, **options
        )
        return _results_of(background, results)


class _Calls:
    """Calls that one thread makes, and whose results it takes, by turns."""

    def __init__(
        self,
        background: BackgroundSession,
        fn: Callable[..., Any],
        options: dict[str, Any],
        *,
        ordered: bool,
        ahead: int,
    ) -> None:
        self._background = background
        self._fn = fn
        self._options = options
        self._ordered = ordered
        self._ahead = ahead
        #: Those whose results have not been taken, in order.
        self._left: dict[RunHandle[Any], None] = {}
        #: Of those, where any may be next: those that have ended, in that order, and those that the loop has yet to watch.
        self._done: deque[RunHandle[Any]] = deque()
        self._unwatched: deque[RunHandle[Any]] = deque()
        self._changed = asyncio.Event()
        self._is_source_left = True
        #: What the source has raised, which comes behind the results of the items before.
        self._error: Exception | None = None

    def results(self, items: Iterator[tuple[Any, ...]], *, return_exceptions: bool) -> Iterator[Any]:
        """Give the results of the calls for these items."""
        try:
            run, let_go = self._background.run(lambda session: session._calls.hold())  # noqa: SLF001 - maps are calls of the session's own run
            try:
                while self._is_source_left or self._left:
                    if self._is_source_left and 2 * len(self._left) <= self._ahead:
                        self._fill(run, items)
                    for result, error in self._background.run(lambda _: self._ended()):
                        if error is None:
                            yield result
                        elif return_exceptions:
                            yield error
                        else:
                            raise error
                if self._error is not None:
                    raise self._error
            finally:
                run.cancel(*self._left)
                # A loop that has ended has no use for it.
                with suppress(RuntimeError):
                    run.loop.call_soon_threadsafe(let_go)
        except ON_PURPOSE as error:
            hide_inside(error, runs_users_code=True)
            raise

    def _fill(self, run: OpenRun, items: Iterator[tuple[Any, ...]]) -> None:
        """Make calls ahead; not for long where results are there that can be taken."""
        until = time.monotonic() + FILLS_FOR_S
        while len(self._left) < self._ahead:
            if not self._call_next(run, items):
                self._is_source_left = False
                return
            if time.monotonic() > until:
                if self._may_take():
                    return
                until = time.monotonic() + FILLS_FOR_S

    def _call_next(self, run: OpenRun, items: Iterator[tuple[Any, ...]]) -> bool:
        try:
            item = next(items, None)
            if item is None:
                return False
            handle = run.call(self._fn, *item, **self._options)
        except Exception as error:  # noqa: BLE001 - the source is the user's
            self._error = error
            return False
        self._left[handle] = None
        if not self._ordered:
            self._unwatched.append(handle)
        return True

    def _may_take(self) -> bool:
        """True if the result that is to be given next is there; in any order: if one is."""
        if self._ordered:
            return next(iter(self._left)).done()
        return bool(self._done) or any(handle.done() for handle in self._unwatched)

    async def _ended(self) -> list[tuple[Any, HandoffError | None]]:
        """Take results, many at a time, as each time costs two changes of threads; wait for the first one."""
        while self._unwatched:
            self._unwatched.popleft().add_done_callback(self._note)
        clock = asyncio.get_running_loop().time
        taken: list[tuple[Any, HandoffError | None]] = []
        until = clock() + _TAKING_S
        while self._left and len(taken) < _MOST_AT_ONCE and clock() < until:
            handle = self._next()
            if handle is not None:
                taken.append(await _outcome_of(handle))
                del self._left[handle]
                continue
            if taken:
                break
            await self._wait()
            until = clock() + _TAKING_S
        return taken

    def _next(self) -> RunHandle[Any] | None:
        if not self._ordered:
            return self._done.popleft() if self._done else None
        first = next(iter(self._left))
        return first if first.done() else None

    def _note(self, handle: RunHandle[Any]) -> None:
        self._done.append(handle)
        self._changed.set()

    async def _wait(self) -> None:
        if self._ordered:
            await next(iter(self._left)).wait()
            return
        self._changed.clear()
        await self._changed.wait()


async def _outcome_of(handle: RunHandle[Any]) -> tuple[Any, HandoffError | None]:
    try:
        return await handle, None
    except HandoffError as error:
        return None, error


def _results_of(background: BackgroundSession, results: AsyncGenerator[Any, None]) -> Iterator[Any]:
    try:
        is_left = True
        try:
            while is_left:
                # Many at a time: each time costs two changes of threads.
                ready: list[Any] = []
                try:
                    is_left = background.run(lambda _, ready=ready: _take(results, ready))  # type: ignore[misc]
                finally:
                    # What has come before an error, too.
                    yield from ready
        finally:
            background.run(lambda _: results.aclose())
    except ON_PURPOSE as error:
        hide_inside(error, runs_users_code=True)
        raise


async def _take(results: AsyncGenerator[Any, None], ready: list[Any]) -> bool:
    """Take results for a moment, and tell whether there may be more."""
    clock = asyncio.get_running_loop().time
    taking_until = clock() + _TAKING_S
    async for result in results:
        ready.append(result)
        if len(ready) == _MOST_AT_ONCE or clock() > taking_until:
            return True
    return False
