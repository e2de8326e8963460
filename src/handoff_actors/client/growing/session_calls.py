"""Single calls, and calls for each item of a source, on an open run that a session has of its own."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from functools import partial
from typing import Any, Final, NamedTuple

from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.client.process.tracebacks import ON_PURPOSE, hide_inside
from handoff_actors.text import repr_of
from handoff_actors.workers.child.running_job import is_worker, running_job
from handoff_actors.workers.protocol import JobKey

#: Items that are mapped ahead of the one whose result is taken.
AHEAD: Final = 2048
#: Seconds for which items are taken from a source before results that are there get their turn.
FILLS_FOR_S: Final = 0.01
#: Seconds for these, and all else. One turn of the loop would not do, as each result takes several, and a source that blocks for each
#: item, such as a camera, leaves no others.
RESTS_FOR_S: Final = 0.001
#: Items that are taken from a source before their calls are made.
AT_ONCE: Final = 64

Source = Iterable[Any] | AsyncIterable[Any]


class HeldRun(NamedTuple):
    """A run of a session's calls that goes on until it is let go of."""

    run: OpenRun
    #: Is called once, in the loop of the run.
    let_go: Callable[[], object]


class SessionCalls:
    """The calls of one session that belong to no graph."""

    def __init__(self, open_run: Callable[[], Awaitable[OpenRun]]) -> None:
        """`open_run` begins a run."""
        self._open_run = open_run
        #: By the function that the calls are in; None: they are in an app.
        self._runs: dict[JobKey | None, OpenRun] = {}
        self._opening = asyncio.Lock()
        #: The tasks and maps of each function that make calls.
        self._callers: dict[JobKey, set[object]] = {}

    async def run(self) -> OpenRun:
        """Return the session's own run, which goes on until the session is closed. Within functions each has one, until it ends."""
        job = running_job()
        if job is not None:
            self._end_with_function(job)
        if (run := self._going_on(job)) is None:
            async with self._opening:
                if (run := self._going_on(job)) is None:
                    run = self._runs[job] = await self._open_run()
        return run

    async def hold(self) -> HeldRun:
        """Return the same run, for a map: its results may be taken in other tasks than the first one, as those of `map_sync` are."""
        run, job = await self.run(), running_job()
        if job is None:
            return HeldRun(run, lambda: None)
        caller = object()
        self._callers[job].add(caller)
        return HeldRun(run, partial(self._caller_ended, job, caller))

    def _going_on(self, job: JobKey | None) -> OpenRun | None:
        run = self._runs.get(job)
        return None if run is None or run.is_over else run

    def _end_with_function(self, job: JobKey) -> None:
        task = asyncio.current_task()
        callers = self._callers.setdefault(job, set())
        if task is not None and task not in callers:
            callers.add(task)
            task.add_done_callback(partial(self._caller_ended, job))

    def _caller_ended(self, job: JobKey, caller: object) -> None:
        callers = self._callers[job]
        callers.discard(caller)
        if callers:
            return
        del self._callers[job]
        run = self._runs.pop(job, None)
        if run is not None:
            run.finish()

    def call(
        self, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]
    ) -> Awaitable[Any]:
        """Return what calls `fn` on a node, and gives its result, once it is awaited. Cancelled, it cancels the call."""
        run = None if is_worker() else self._going_on(None)
        # No coroutine where there is a handle: thousands of calls may be awaited at a time.
        return self._call_in_new_run(fn, args, options) if run is None else _call(run, fn, args, options)

    async def _call_in_new_run(
        self, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]
    ) -> Any:
        return await _call(await self.run(), fn, args, options)

    async def map(
        self,
        fn: Callable[..., Any],
        sources: tuple[Source, ...],
        options: dict[str, Any],
        *,
        ordered: bool,
        return_exceptions: bool,
        ahead: int,
    ) -> AsyncGenerator[Any, None]:
        """Call `fn` for each item of the sources, and give the results."""
        try:
            check_ahead(ahead)
            held = await self.hold()
            calls = _Ahead(held.run, fn, options, ahead, ordered=ordered)
            feeding = asyncio.create_task(calls.feed(sources), name="items of a map")
            try:
                while (handle := calls.next_done() or await calls.next()) is not None:
                    error = handle.exception()
                    if error is None:
                        yield await handle
                    elif return_exceptions:
                        yield error
                    else:
                        raise error
                # What the source has raised comes behind the results of the items before.
                await feeding
            finally:
                feeding.cancel()
                calls.cancel()
                held.let_go()
                await asyncio.wait([feeding])
                if not feeding.cancelled():
                    feeding.exception()
        except ON_PURPOSE as error:
            hide_inside(error, runs_users_code=True)
            raise

    async def close(self) -> None:
        """End the run, and all calls with it."""
        while self._runs:
            _, run = self._runs.popitem()
            await run.abandon()


def _call(
    run: OpenRun, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]
) -> RunHandle[Any]:
    handle = run.call_with(fn, args, options)
    handle.state.is_cancelled_with_waiter = True
    return handle


class _Ahead:
    """Calls that are made ahead of those whose results are taken: by one task, while another one takes them."""

    def __init__(
        self, run: OpenRun, fn: Callable[..., Any], options: dict[str, Any], ahead: int, *, ordered: bool
    ) -> None:
        self._run = run
        self._fn = fn
        self._options = options
        self._ahead = ahead
        self._ordered = ordered
        #: Those whose results have not been taken.
        self._left: dict[RunHandle[Any], None] = {}
        #: Those that are to be taken next: all in order, or those that have ended.
        self._next: deque[RunHandle[Any]] = deque()
        self._is_fed = False
        #: The time at which other tasks get their turn.
        self._holds_loop_until = 0.0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def feed(self, sources: tuple[Source, ...]) -> None:
        """Make the calls, until there are no more items."""
        clock = asyncio.get_running_loop().time
        self._holds_loop_until = clock() + FILLS_FOR_S
        try:
            async with aclosing(self._items(sources)) as parts:
                async for items in parts:
                    self._call(items)
                    if len(self._left) >= self._ahead:
                        self._room.clear()
                        await self._room.wait()
                    elif clock() > self._holds_loop_until:
                        await asyncio.sleep(RESTS_FOR_S)
                    else:
                        continue
                    self._holds_loop_until = clock() + FILLS_FOR_S
        finally:
            self._is_fed = True
            self._changed.set()

    async def _items(self, sources: tuple[Source, ...]) -> AsyncGenerator[Sequence[tuple[Any, ...]], None]:
        """Give the items of several sources side by side, until one of them ends: as many at once as do not have to be waited for."""
        clock = asyncio.get_running_loop().time
        if not all(isinstance(source, Iterable) for source in sources):
            iterators = [_items(source) for source in sources]
            while True:
                try:
                    yield (tuple([await anext(iterator) for iterator in iterators]),)
                except StopAsyncIteration:
                    return
        taken: list[tuple[Any, ...]] = []
        try:
            for items in zip(*sources, strict=False):
                taken.append(items)
                most = min(AT_ONCE, self._ahead - len(self._left))
                if len(taken) >= most or clock() > self._holds_loop_until:
                    part, taken = taken, []
                    yield part
        finally:
            # A source that raises does so behind the items before.
            if taken:
                yield taken

    def _call(self, items: Sequence[tuple[Any, ...]]) -> None:
        for handle in self._run.call_each_with(self._fn, items, self._options):
            self._left[handle] = None
            if self._ordered:
                self._note(handle)
            else:
                handle.add_done_callback(self._note)

    def _note(self, handle: RunHandle[Any]) -> None:
        self._next.append(handle)
        self._changed.set()

    async def next(self) -> RunHandle[Any] | None:
        """Return the next call once it has ended; None after the last one."""
        while (handle := self.next_done()) is None:
            if self._next:
                await self._next[0].wait()
            elif self._is_fed and not self._left:
                return None
            else:
                self._changed.clear()
                await self._changed.wait()
        return handle

    def next_done(self) -> RunHandle[Any] | None:
        """Return the next call if it has ended."""
        if not self._next or not self._next[0].state.is_done:
            return None
        handle = self._next.popleft()
        del self._left[handle]
        # Many at a time: each time that functions are added to a run costs more than one function.
        if 2 * len(self._left) <= self._ahead:
            self._room.set()
        return handle

    def cancel(self) -> None:
        """Cancel what has not been taken."""
        self._run.cancel(*self._left)


async def _items(source: Source) -> AsyncIterator[Any]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
        return
    for item in source:
        yield item


def check_sources(sources: Sequence[object]) -> None:
    """Raise TypeError where there is none, or one that has no items."""
    if not sources:
        raise TypeError(
            "there is no source of items: pass the iterables whose items the function is to be called with"
        )
    for source in sources:
        if not isinstance(source, Iterable | AsyncIterable):
            raise TypeError(f"{repr_of(source)} is no source of items: pass an iterable, or an async one")


def check_ahead(ahead: int) -> None:
    """Raise ValueError for a number of items ahead that is none."""
    if ahead < 1:
        raise ValueError(f"ahead={repr_of(ahead)}: it must be 1 or more")
