"""The handle of a function of an open run: an argument of later functions, and a future."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import Any, Final, Protocol, TypeVar

from handoff_actors.client.process.tracebacks import ON_PURPOSE, InsideHidden, hide_inside
from handoff_actors.errors import FunctionCancelled, HandoffError
from handoff_actors.graph.argument import Handle, RunValue
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

log = logging.getLogger(__name__)

ResultT_co = TypeVar("ResultT_co", covariant=True)
_NOTHING: Final = object()


class HandleOwner(Protocol):
    """The run of a handle."""

    loop: asyncio.AbstractEventLoop

    def encoded(self, function_id: FunctionId) -> bytes | memoryview | None:
        """Return the encoded value of a function that is done; None for a stored one that is not in the app."""

    def decode(self, function_id: FunctionId, encoded: bytes | memoryview) -> Any:
        """Decode the value of a function. Raises SerializationError, which names it."""

    def want(self, handle: "RunHandle[Any]") -> None:
        """Have the stored value of a function that is done fetched; wakes those who wait for it."""

    def cancel(self, *handles: "RunHandle[Any]") -> int:
        """Cancel functions, and what depends on them. Return how many had yet to end."""

    def value_of(self, handle: "RunHandle[Any]") -> RunValue:
        """Return the value of a function that is done as an argument of functions of other runs."""

    def let_go(self, function_id: FunctionId) -> None:
        """Take note that there is no handle of a function any more. May be called in any thread."""


class HandleState:
    """The state of a handle's function, which only the run's loop uses."""

    __slots__ = (
        "callbacks", "encoded", "error", "is_cancelled_with_waiter", "is_done", "is_retrieved", "value", "waiters"
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_done = False
        self.error: HandoffError | None = None
        #: Its encoded value, until that is asked for; None for one that is stored on a node.
        self.encoded: bytes | memoryview | None = None
        self.value: Any = _NOTHING
        #: True once somebody has asked how it ended.
        self.is_retrieved = False
        #: None: there are none. Thousands of handles may be waited for at a time, each with a waiter and no callback.
        self.callbacks: list[tuple[Callable[[Any], object], Context]] | None = None
        #: Of those who wait for the end, or for the value. A list only where there are several: the garbage collector looks at
        #: each object of thousands of handles again and again.
        self.waiters: asyncio.Future[None] | list[asyncio.Future[None]] | None = None
        #: Cancelling whoever awaits it cancels the function, too.
        self.is_cancelled_with_waiter = False

    def new_waiter(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
        """Return what to wait for."""
        waiter: asyncio.Future[None] = loop.create_future()
        if self.waiters is None:
            self.waiters = waiter
        elif isinstance(self.waiters, list):
            self.waiters.append(waiter)
        else:
            self.waiters = [self.waiters, waiter]
        return waiter

    def wake(self) -> None:
        """Wake all who wait."""
        waiters, self.waiters = self.waiters, None
        if waiters is None:
            return
        for waiter in waiters if isinstance(waiters, list) else (waiters,):
            if not waiter.done():
                waiter.set_result(None)


class RunHandle(Handle[ResultT_co], frozen=True, eq=False, weakref=True):
    """The result to come of one function of an open run.

    Among the arguments of later calls it stands for the result, which need not pass through the app. For everything else
    it behaves as asyncio's futures do: `await` it, any number of times, or use it with `asyncio.gather`, `wait`, `wait_for`
    and `as_completed`. Cancelling whoever awaits it never cancels the function; `cancel` does.
    """

    run: HandleOwner
    state: HandleState

    def value_elsewhere(self) -> RunValue | None:
        """Return the value as an argument of functions of other runs; None unless the function is done."""
        return self.run.value_of(self) if self.state.is_done and self.state.error is None else None

    def __await__(self) -> Generator[Any, None, ResultT_co]:
        state = self.state
        try:
            while state.value is _NOTHING:
                if state.error is not None:
                    state.is_retrieved = True
                    raise self._fresh(state.error)
                if state.is_done and self._load():
                    break
                waiter = state.new_waiter(self.run.loop)
                if state.is_done:
                    self.run.want(self)
                yield from waiter
        except ON_PURPOSE as error:
            if state.is_cancelled_with_waiter and isinstance(error, asyncio.CancelledError):
                self.cancel()
            hide_inside(error)
            raise
        state.is_retrieved = True
        value: ResultT_co = state.value
        return value

    async def wait(self) -> None:
        """Wait until the function has ended, well or not."""
        while not self.state.is_done:
            await self.state.new_waiter(self.run.loop)

    def _load(self) -> bool:
        state = self.state
        encoded = state.encoded if state.encoded is not None else self.run.encoded(self.id)
        if encoded is None:
            return False
        state.value, state.encoded = self.run.decode(self.id, encoded), None
        return True

    def is_here(self) -> bool:
        """Return whether the function is done and its result is in the app, so that `result` gives it."""
        state = self.state
        return state.error is None and (state.value is not _NOTHING or (state.is_done and self._load()))

    def _fresh(self, error: HandoffError) -> HandoffError | asyncio.CancelledError:
        """Return what is raised. Each time that one object is raised, frames are added to those it has."""
        if isinstance(error, FunctionCancelled):
            return asyncio.CancelledError(str(error))
        return error.with_traceback(None)

    def done(self) -> bool:
        """Return whether the function has ended: well, with an error, or cancelled."""
        return self.state.is_done

    def cancelled(self) -> bool:
        """Return whether the function was cancelled."""
        return isinstance(self.state.error, FunctionCancelled)

    def result(self) -> ResultT_co:
        """Return the result of a function that is done, if it is in the app; await the handle for any other.

        :raises CancelledError: The function was cancelled.
        :raises HandoffError: The function has failed, and this is its error.
        :raises InvalidStateError: The function has not ended, or its result is still on a node.
        """
        state = self.state
        try:
            state.is_retrieved = True
            if state.error is not None:
                raise self._fresh(state.error)
            if state.value is _NOTHING and not (state.is_done and self._load()):
                where = "is still on a node" if state.is_done else "is not there yet"
                raise asyncio.InvalidStateError(
                    f"the result of function {repr_of(self.id)} {where}: await the handle"
                )
        except ON_PURPOSE as error:
            hide_inside(error)
            raise
        value: ResultT_co = state.value
        return value

    def exception(self) -> HandoffError | None:
        """Return the error of a function that has failed, None for one that is done.

        :raises CancelledError: The function was cancelled.
        :raises InvalidStateError: The function has not ended.
        """
        state = self.state
        if state.is_done and state.error is None:
            state.is_retrieved = True
            return None
        with InsideHidden():
            if state.error is None:
                raise asyncio.InvalidStateError(
                    f"function {repr_of(self.id)} has not ended: await the handle"
                )
            state.is_retrieved = True
            error = self._fresh(state.error)
            if isinstance(error, asyncio.CancelledError):
                raise error
            return error

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - as asyncio's have it
        """Cancel the function, wherever it is, and all that depend on it. Return whether it had yet to end."""
        return self.run.cancel(self) > 0

    def add_done_callback(
        self, callback: Callable[["RunHandle[Any]"], object], *, context: Context | None = None
    ) -> None:
        """Have the loop call `callback` with this handle once the function has ended."""
        if self.state.is_done:
            self.run.loop.call_soon(callback, self, context=context)
        else:
            if self.state.callbacks is None:
                self.state.callbacks = []
            self.state.callbacks.append((callback, copy_context() if context is None else context))

    def remove_done_callback(self, callback: Callable[["RunHandle[Any]"], object]) -> int:
        """Call `callback` no more. Return how many times it was there."""
        callbacks = self.state.callbacks or []
        left = [entry for entry in callbacks if entry[0] != callback]
        removed = len(callbacks) - len(left)
        self.state.callbacks = left
        return removed

    def end(self, error: HandoffError | None) -> None:
        """Take note that the function has ended. For its run alone."""
        state = self.state
        is_first = not state.is_done
        state.is_done, state.error = True, error
        if state.waiters:
            state.wake()
        if is_first and state.callbacks is not None:
            callbacks, state.callbacks = state.callbacks, None
            for callback, context in callbacks:
                self.run.loop.call_soon(callback, self, context=context)

    def __del__(self) -> None:
        state = self.state
        if (
            state.error is not None
            and not state.is_retrieved
            and not isinstance(state.error, FunctionCancelled)
        ):
            log.error("function %r has failed, and nobody has asked: %s", self.id, state.error)
        self.run.let_go(self.id)

    def __repr__(self) -> str:
        state = self.state
        how = "pending" if not state.is_done else "done" if state.error is None else "failed"
        return f"RunHandle(id={repr_of(self.id)}, {'cancelled' if self.cancelled() else how})"
