"""A session for code that has no event loop."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from handoff_actors.client.execute_options import ExecuteOptions
from handoff_actors.client.process.forks import Owner
from handoff_actors.client.process.interrupts import after_interrupt
from handoff_actors.client.process.tracebacks import InsideHidden
from handoff_actors.client.run import Run
from handoff_actors.client.session import Session
from handoff_actors.errors import HandoffError
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.integrations.loop_thread import LoopThread
from handoff_actors.workers.child.loading import check_may_start

T = TypeVar("T")
ResultT = TypeVar("ResultT")


class BackgroundSession:
    """A session on an event loop in a thread of its own. Use with `with`, or call `close`; else it ends with the program."""

    session: Session
    #: The loop in which the session runs.
    loop: asyncio.AbstractEventLoop

    def __init__(self, *args: Any, **options: Any) -> None:
        """Start a session, with the arguments and errors of `Session`."""
        check_may_start("a session")
        self._owner = Owner("session", "make a session of its own in the fork")
        self._make_session = partial(Session, *args, **options)
        self._is_open: Future[None] = Future()
        self._thread = LoopThread("handoff session", self._live, self._end)
        self._thread.start()
        self._is_open.result()

    @property
    def has_cluster(self) -> bool:
        """True if the session may use nodes of other processes, or machines."""
        return self.session._is_within_cluster or self.session._hub.is_in_cluster  # noqa: SLF001 - who has no thread of its own need not know

    def run(self, main: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function with the session, and return its result.

        The coroutine is cancelled if waiting for it is interrupted, for example by Ctrl-C.
        """
        check_may_start("a run")
        self.check_process()
        future = asyncio.run_coroutine_threadsafe(main(self.session), self.loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def execute(self, dag: DAG, **options: Unpack[ExecuteOptions]) -> Run:
        """Run a DAG. See `Session.execute_distributed` for options and errors."""
        return self.run(lambda session: session.execute_distributed(dag, **options))

    def close(self) -> None:
        """End the session and everything that runs in it. In a fork of its process, nothing happens."""
        if self._owner.is_here():
            self._thread.finish()

    def check_process(self) -> None:
        """Raise HandoffError in a fork of the process that has made it."""
        self._owner.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with after_interrupt() if isinstance(error, KeyboardInterrupt) else nullcontext():
            self.close()

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._completion = asyncio.Event()
        try:
            async with self._make_session() as self.session:
                self._is_open.set_result(None)
                await self._completion.wait()
        except (HandoffError, ValueError, OSError) as error:
            if self._is_open.done():
                raise
            self._is_open.set_exception(error)

    def _end(self) -> None:
        if not self._thread.end.done():
            self.loop.call_soon_threadsafe(self._completion.set)


_lock = threading.Lock()
_shared: list[BackgroundSession] = []
# A fork has none of its parent's threads, and makes a session of its own; with the lock no thread of its parent's has it.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
os.register_at_fork(after_in_child=_shared.clear)


def shared() -> BackgroundSession:
    """Return the session that integrations of this process use by default: the cluster of HANDOFF_SEEDS, or a node."""
    with _lock:
        if not _shared:
            # Dask and joblib have their own ways to show progress.
            _shared.append(BackgroundSession(progress=False))
        return _shared[0]


@overload
def call_sync(
    fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
    *args: object,
    **options: Any,
) -> ResultT: ...
@overload
def call_sync(
    fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
    *args: object,
    **options: Any,
) -> ResultT: ...
@overload
def call_sync(
    fn: Callable[..., ResultT | Subgraph[ResultT]],
    *args: object,
    **options: Any,
) -> ResultT: ...
def call_sync(fn: Callable[..., Any], *args: object, **options: Any) -> Any:
    """Call a function on a node while this thread waits, and return its result.

    May be called anywhere, for example in a script or a notebook. The session that it uses lives in a thread of its own, until
    the program ends. `Session.call` has options and errors.
    """
    with InsideHidden():
        return shared().run(lambda session: session.call(fn, *args, **options))
