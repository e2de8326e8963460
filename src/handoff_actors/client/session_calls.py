"""Single calls, and calls for each item of a source, on an open run that a session has of its own."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from handoff_actors.client.open_run import OpenRun
from handoff_actors.client.run_handle import RunHandle
from handoff_actors.text import repr_of
from handoff_actors.workers.child.running_job import is_worker, running_job
from handoff_actors.workers.protocol import JobKey

#: Items that are mapped ahead of the one whose result is taken.
AHEAD: Final = 2048

Source = Iterable[Any] | AsyncIterable[Any]


class SessionCalls:
    """The calls of one session that belong to no graph."""

    def __init__(self, open_run: Callable[[], Awaitable[OpenRun]]) -> None:
        """`open_run` begins a run."""
        self._open_run = open_run
        #: By the function that the calls are in; None: they are in an app.
        self._runs: dict[JobKey | None, OpenRun] = {}
        self._opening = asyncio.Lock()
        #: The tasks of each function that make calls.
        self._callers: dict[JobKey, set[asyncio.Task[Any]]] = {}

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

    def _going_on(self, job: JobKey | None) -> OpenRun | None:
        run = self._runs.get(job)
        return None if run is None or run.is_over else run

    def _end_with_function(self, job: JobKey) -> None:
        task = asyncio.current_task()
        callers = self._callers.setdefault(job, set())
        if task is not None and task not in callers:
            callers.add(task)
            task.add_done_callback(partial(self._caller_ended, job))

    def _caller_ended(self, job: JobKey, task: asyncio.Task[Any]) -> None:
        callers = self._callers[job]
        callers.discard(task)
        if callers:
            return
        del self._callers[job]
        run = self._runs.pop(job, None)
        if run is not None:
            run.finish()

    async def call(self, fn: Callable[..., Any], args: tuple[object, ...], options: dict[str, Any]) -> Any:
        """Call `fn` on a node and return its result. Cancelled, it cancels the call."""
        run = (None if is_worker() else self._going_on(None)) or await self.run()
        handle = run.call(fn, *args, **options)
        try:
            return await handle
        except asyncio.CancelledError:
            handle.cancel()
            raise

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
        if ahead < 1:
            raise ValueError(f"ahead={repr_of(ahead)}: it must be 1 or more")
        run = await self.run()
        items = _zipped(sources)
        calls = _Ahead(run, fn, options, ahead)
        in_turn = calls.in_order(items) if ordered else calls.as_they_end(items)
        try:
            async with aclosing(in_turn):
                async for handle in in_turn:
                    error = handle.exception()
                    if error is None:
                        yield await handle
                    elif return_exceptions:
                        yield error
                    else:
                        raise error
        finally:
            run.cancel(*calls.unfinished)

    async def close(self) -> None:
        """End the run, and all calls with it."""
        while self._runs:
            _, run = self._runs.popitem()
            await run.abandon()


class _Ahead:
    """Calls that are made ahead of those whose results are taken."""

    def __init__(self, run: OpenRun, fn: Callable[..., Any], options: dict[str, Any], ahead: int) -> None:
        self._run = run
        self._fn = fn
        self._options = options
        self._ahead = ahead
        self.unfinished: dict[RunHandle[Any], None] = {}

    def _call(self, item: tuple[Any, ...]) -> RunHandle[Any]:
        handle = self._run.call(self._fn, *item, **self._options)
        self.unfinished[handle] = None
        return handle

    async def in_order(self, items: AsyncIterator[tuple[Any, ...]]) -> AsyncGenerator[RunHandle[Any], None]:
        """Give the handles in the order of the items, each once it has ended."""
        waiting: deque[RunHandle[Any]] = deque()
        is_left = True
        while is_left or waiting:
            # Many at a time: each time that functions are added to a run costs more than one function.
            if is_left and 2 * len(waiting) <= self._ahead:
                while is_left and len(waiting) < self._ahead:
                    item = await anext(items, None)
                    is_left = item is not None
                    if item is not None:
                        waiting.append(self._call(item))
                continue
            handle = waiting.popleft()
            if not handle.done():
                await handle.wait()
            self.unfinished.pop(handle)
            yield handle

    async def as_they_end(
        self, items: AsyncIterator[tuple[Any, ...]]
    ) -> AsyncGenerator[RunHandle[Any], None]:
        """Give the handles as they end."""
        ended: asyncio.Queue[RunHandle[Any]] = asyncio.Queue()
        is_left = True
        while is_left or self.unfinished:
            if is_left and 2 * len(self.unfinished) <= self._ahead:
                while is_left and len(self.unfinished) < self._ahead:
                    item = await anext(items, None)
                    is_left = item is not None
                    if item is not None:
                        self._call(item).add_done_callback(ended.put_nowait)
                continue
            handle = await ended.get()
            self.unfinished.pop(handle)
            yield handle


async def _zipped(sources: tuple[Source, ...]) -> AsyncIterator[tuple[Any, ...]]:
    """Give the items of several sources side by side, until one of them ends."""
    if all(isinstance(source, Iterable) for source in sources):
        for items in zip(*sources, strict=False):
            yield items
        return
    iterators = [_items(source) for source in sources]
    while True:
        try:
            yield tuple([await anext(iterator) for iterator in iterators])
        except StopAsyncIteration:
            return


async def _items(source: Source) -> AsyncIterator[Any]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
        return
    for item in source:
        yield item


def check_source(source: object) -> None:
    """Raise TypeError for anything that has no items."""
    if not isinstance(source, Iterable | AsyncIterable):
        raise TypeError(f"{repr_of(source)} is no source of items: pass an iterable, or an async one")
