"""`concurrent.futures.Executor` over a cluster, or over this machine's cores."""

import asyncio
import os
import secrets
import threading
import weakref
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent import futures
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from itertools import chain, islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from handoff_actors.actors.node.host.capabilities import own_capabilities
from handoff_actors.client.process.forks import Owner
from handoff_actors.client.process.interrupts import after_interrupt
from handoff_actors.client.session import Session
from handoff_actors.integrations.call_queue import Item
from handoff_actors.integrations.calls import Initializer, is_async
from handoff_actors.integrations.feed import Feed
from handoff_actors.integrations.loop_thread import LoopThread, is_interpreter_ending
from handoff_actors.platforms import check_nodes_run_here
from handoff_actors.workers.child.loading import check_may_start
from handoff_actors.workers.child.running_job import is_worker

if TYPE_CHECKING:
    from handoff_actors.integrations.background import BackgroundSession

P = ParamSpec("P")
T = TypeVar("T")

_SHUT = "cannot schedule new futures after shutdown"
_ENDING = "cannot schedule new futures after interpreter shutdown"


class Executor(futures.Executor):
    """Runs functions on the workers of a cluster, with the interface of `concurrent.futures.Executor`.

    A worker that dies is replaced, and its functions run again; only a function that kills its worker again and again
    ends with BrokenExecutor, and the others go on.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[object] = (),
        session: "Session | BackgroundSession | None" = None,
        seeds: Sequence[str] | None = None,
        cost: Mapping[str, float] | None = None,
        nodes: Collection[str] | None = None,
    ) -> None:
        """Use a session whose loop is running here, or in the background; the cluster of `seeds`; or that of HANDOFF_SEEDS or HANDOFF_JOIN_FILE.

        Within a function the cluster is the one that the function runs on. Without a cluster, the first function starts
        `max_workers` processes here, by default one per core; with one, at most `max_workers` functions are with its nodes at
        any time. Thousands of coroutines share one more process of each node. `initializer` is called with `initargs` once
        in each worker process, before its first function. Each function claims `cost`, and runs on one of `nodes`, if given.
        Raises ValueError, TypeError, RuntimeError if a `session` is of another loop, and UnsupportedPlatform where there is
        neither a cluster nor Linux.
        """
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if session is not None and seeds is not None:
            raise ValueError("give a session or seeds, not both")
        #: The session's loop, if the session isn't ours.
        self._loop = None if session is None else _loop_of(session)
        #: None before the start of what a fork lacks.
        self._owner = None if session is None else _owner()
        is_named = os.environ.get("HANDOFF_SEEDS") or os.environ.get("HANDOFF_JOIN_FILE")
        is_given = is_worker() or is_named if seeds is None else seeds
        is_own_node = session is None and not is_given
        open_session = _own_node(max_workers) if is_own_node else partial(_given, session, seeds)
        self._feed = Feed(
            open_session,
            most_at_once=None if is_own_node else max_workers,
            initializer=initializer and Initializer(secrets.token_hex(8), initializer, initargs),
            cost=cost,
            nodes=nodes,
        )
        self._lock = threading.Lock()
        self._is_shut = False
        self._thread: LoopThread | None = None
        #: Done once no work is left.
        self._end: futures.Future[None] | None = None
        # An executor that is forgotten still does its work, and leaves nothing behind.
        weakref.finalize(self, self._feed.close).atexit = False

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> futures.Future[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]: ...

    def submit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[Any]:
        """Schedule `fn(*args, **kwargs)`; the coroutine of a coroutine function is awaited.

        For an argument that is a future, the function gets its result, and is submitted once that is there; a future that
        fails, or is cancelled, does so to this call.
        Raises RuntimeError after `shutdown`, BrokenExecutor, UnguardedStart.
        """
        check_may_start("a run")
        if self._owner is not None:
            self._owner.check()
        future: futures.Future[Any] = futures.Future()
        with self._lock:
            if self._feed.broken is not None:
                raise futures.BrokenExecutor(str(self._feed.broken)) from self._feed.broken.__cause__
            if self._is_shut:
                raise RuntimeError(_SHUT)
            if is_interpreter_ending():
                raise RuntimeError(_ENDING)
            if self._end is None:
                self._start()
            self._feed.put(Item(fn, args, kwargs, future))
        return future

    @overload  # type: ignore[override]  # later Pythons have more options
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[Any]:
        """Map as `concurrent.futures.ProcessPoolExecutor.map` does, `timeout` in seconds.

        Chunks of `chunksize` calls are rarely needed: short functions are sent together. Coroutine functions have none.
        Raises a call's exception, and TimeoutError.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        # Within a chunk coroutines would wait for one another.
        if chunksize == 1 or is_async(fn):
            return super().map(fn, *iterables, timeout=timeout, **options)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return chain.from_iterable(super().map(partial(_run_chunk, fn), chunks, timeout=timeout, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; with `wait`, return once all calls are done. Ctrl-C meanwhile ends them.

        Waiting is impossible in the thread of a session's loop, and raises RuntimeError if calls are unfinished: use
        `async with`, or `await asyncio.to_thread(executor.shutdown)`.
        """
        if self._is_forked():
            return
        with self._lock:
            self._is_shut = True
            if cancel_futures:
                self._feed.cancel_waiting()
            self._feed.close()
            end, thread = self._end, self._thread
        if not wait or end is None:
            return
        if thread is None and _current_loop() is self._loop:
            if self._feed.has_work():
                raise RuntimeError("waiting here would block the loop that the calls need; await it instead")
            return
        try:
            _wait_for(end, thread)
        except KeyboardInterrupt:
            # Calls may take for ever, and the terminal's signal has not reached them.
            with after_interrupt():
                self.terminate_workers()
                _wait_for(end, thread)
            raise

    def terminate_workers(self) -> None:
        """Accept no more calls, cancel the waiting ones, and end the running ones, which get BrokenExecutor.

        Returns at once.
        """
        if not self._is_forked():
            self.shutdown(wait=False, cancel_futures=True)
            self._feed.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, KeyboardInterrupt):
            self.shutdown()
            return
        with after_interrupt():
            self.terminate_workers()
            self.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Ctrl-C is a cancellation here.
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self.terminate_workers()
        self.shutdown(wait=False)
        if self._end is not None and not self._is_forked():
            await asyncio.wait([asyncio.wrap_future(self._end)])

    def _is_forked(self) -> bool:
        """Tell whether this is a fork of the process that has the calls: here nothing of them is to be ended."""
        return self._owner is not None and not self._owner.is_here()

    def _start(self) -> None:
        feed = self._feed
        self._owner = self._owner or _owner()
        if self._loop is not None:
            self._end = asyncio.run_coroutine_threadsafe(feed.serve(), self._loop)
            return
        thread = LoopThread("handoff executor", feed.serve, feed.close, feed.abort)
        thread.start()
        self._thread, self._end = thread, thread.end


@asynccontextmanager
async def _given(
    session: "Session | BackgroundSession | None", seeds: Sequence[str] | None
) -> AsyncIterator[Session]:
    if session is not None:
        yield session if isinstance(session, Session) else session.session
    else:
        async with Session(seeds) as ours:
            yield ours


def _own_node(workers: int | None) -> Callable[[], AbstractAsyncContextManager[Session]]:
    check_nodes_run_here()

    def open_session() -> Session:
        offer = own_capabilities()
        return Session((), offer if workers is None else offer | {"cpu": float(workers)}, workers=workers)

    return open_session


def _wait_for(end: "futures.Future[None]", thread: LoopThread | None) -> None:
    if thread is not None:
        thread.join()
        return
    # `terminate_workers` cancels it.
    with suppress(futures.CancelledError):
        end.result()


def _owner() -> Owner:
    return Owner("executor", "make an executor of its own in the fork")


def _loop_of(session: "Session | BackgroundSession") -> asyncio.AbstractEventLoop:
    if not isinstance(session, Session):
        session.check_process()
        return session.loop
    loop = _current_loop()
    if loop is None:
        raise RuntimeError("make an executor over a session where the session's loop runs")
    return loop


def _current_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _chunks(items: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _run_chunk(fn: Callable[..., T], chunk: Iterable[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in chunk]
