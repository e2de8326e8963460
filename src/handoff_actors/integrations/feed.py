"""Brings calls, which come in from any thread, to an open run of a session, and the outcomes to futures.

Just enough plain calls are handed over to keep every worker busy for a few milliseconds, coroutines as many as may run at
once, and of large calls few; the rest wait here, not encoded, where they can still be cancelled.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, Final

from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.client.session import Session
from handoff_actors.errors import HandoffError, WorkerDied
from handoff_actors.integrations.call_queue import CallQueue, Item
from handoff_actors.integrations.calls import Callers, CallOutcome, Initializer, Kind, attempt, is_async
from handoff_actors.integrations.chaining import ChainedCalls, explained, futures_among
from handoff_actors.text import repr_of
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.payload import Sealed

log = logging.getLogger(__name__)

#: So many bytes of arguments are encoded before other users of the loop get their turn.
MOST_NBYTES_AT_ONCE: Final = 32 << 20
#: So many bytes of arguments are with the run, beyond one call per worker. A process pool holds a few calls, too.
MOST_NBYTES: Final = 128 << 20
#: An executor without calls ends its run after so many seconds, so that no node takes it for work.
IDLE_S: Final = 5.0
#: Seconds for which the number of workers is not asked for again.
_SLOTS_GOOD_FOR_S: Final = 1.0


class Feed:
    """Runs calls. `put`, `cancel_waiting` and `close` may be called in any thread; `serve` runs in the session's loop."""

    def __init__(
        self,
        session: Callable[[], AbstractAsyncContextManager[Session]],
        *,
        most_at_once: int | None,
        initializer: Initializer | None,
        cost: Mapping[str, float] | None,
        nodes: Collection[str] | None,
    ) -> None:
        self._open_session = session
        self._most_at_once = most_at_once
        self._callers = Callers(initializer)
        self._cost = cost
        self._nodes = nodes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._is_woken = False
        self._is_closing = False
        self._is_first = True
        self._is_aborted = False
        self._serving: asyncio.Task[None] | None = None
        self._plain = CallQueue(is_async=False)
        self._coroutines = CallQueue(is_async=True)
        #: The one whose turn it is comes first.
        self._queues = (self._plain, self._coroutines)
        self._chained = ChainedCalls(self._put_ready, self._wake)
        #: Size of the encoded arguments that are with the run.
        self._nbytes = 0
        self._slots_asked_at = float("-inf")
        #: When a call was last with the run.
        self._busy_at = float("-inf")
        #: The reason why no call can be run any more.
        self.broken: BrokenExecutor | None = None

    # --- From any thread

    def put(self, item: Item) -> None:
        """Queue a call; one that takes futures, once these are done."""
        inputs = futures_among(item.args, item.kwargs)
        if inputs:
            self._chained.add(item, inputs)
        else:
            self._put_ready(item)

    def _put_ready(self, item: Item) -> None:
        # The first call counts as running: it starts as soon as there is a session.
        if self._is_first and item.future.set_running_or_notify_cancel():
            self._is_first = False
        (self._coroutines if is_async(item.fn) else self._plain).waiting.append(item)
        self._wake()

    def cancel_waiting(self) -> None:
        """Cancel the calls that have not been handed over."""
        for queue in self._queues:
            kept = []
            for item in queue.take_waiting():
                if item.future.running():
                    kept.append(item)
                else:
                    _cancel(item)
            queue.waiting.extend(kept)
        for item in self._chained.take():
            _cancel(item)

    def close(self) -> None:
        """Have `serve` return once no call is left."""
        self._is_closing = True
        self._is_woken = False
        self._wake()

    def abort(self) -> None:
        """Have `serve` end the running calls, and return."""
        loop, self._is_aborted = self._loop, True
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    def has_work(self) -> bool:
        """True if a call is unfinished."""
        return bool(self._plain or self._coroutines or self._chained)

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not self._is_woken:
            self._is_woken = True
            # A loop that has ended has failed every future.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._changed.set)

    # --- In the loop

    async def serve(self) -> None:
        """Run calls until `close`. However it ends, every future has its outcome then."""
        self._loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task()
        if self._is_aborted:
            self._cancel()
        try:
            async with self._open_session() as session:
                while await self._until_work():
                    await self._serve_run(session)
        except HandoffError as error:
            # The futures get the error.
            self._break("the executor has no session", error)
        finally:
            self._serving = None
            self._break("the executor has ended", sys.exception())

    async def _until_work(self) -> bool:
        """Wait for a call; False if there will be none."""
        while True:
            self._changed.clear()
            self._is_woken = False
            if self.has_work():
                return True
            if self._is_closing:
                return False
            await self._changed.wait()

    async def _serve_run(self, session: Session) -> None:
        """Have one run until there has been no call for a while, or something ends it."""
        # The run is an internal matter: callers see futures, and output as from a process pool.
        run = session.open_run(
            on_failure="continue", max_retries=0, nodes=self._nodes, progress=False, output=False
        )
        has_begun = False
        try:
            async with run, asyncio.TaskGroup() as tasks:
                has_begun = True
                await self._hand_over(session, run, tasks)
        except HandoffError:
            # Calls that were with the run have its error. The next ones get another run, if the session goes on.
            if not has_begun:
                raise
        finally:
            await run.release()

    async def _hand_over(self, session: Session, run: OpenRun, tasks: asyncio.TaskGroup) -> None:
        while not run.is_over:
            self._changed.clear()
            self._is_woken = False
            self._chained.end_refused()
            await self._count_slots(session)
            while not run.is_over and self._hand_over_some(run, tasks):
                if not self._has_waiting:
                    break
                # Encoding takes a while, and others use the loop, too.
                await asyncio.sleep(0)
            now = asyncio.get_running_loop().time()
            if self.has_work():
                self._busy_at = now
            elif self._is_closing or now >= self._busy_at + IDLE_S:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._busy_at + IDLE_S):
                    await self._changed.wait()

    @property
    def _has_waiting(self) -> bool:
        return bool(self._plain.waiting or self._coroutines.waiting)

    async def _count_slots(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._slots_asked_at > _SLOTS_GOOD_FOR_S:
            self._slots_asked_at = now
            offers = await session.discover_nodes()
            usable = [offers[name] for name in offers if self._nodes is None or name in self._nodes]
            for queue in self._queues:
                queue.count_slots(usable, self._cost)

    def _hand_over_some(self, run: OpenRun, tasks: asyncio.TaskGroup) -> bool:
        """Hand over calls of one kind; False where no more may be handed over now."""
        in_flight = len(self._plain.in_flight) + len(self._coroutines.in_flight)
        most_nbytes = min(MOST_NBYTES_AT_ONCE, MOST_NBYTES - self._nbytes)
        if most_nbytes <= 0 and in_flight >= self._plain.slots:
            return False
        for queue in self._queues:
            others = in_flight - len(queue.in_flight)
            most = None if self._most_at_once is None else self._most_at_once - others
            if self._hand_over_of(queue, queue.room(most), most_nbytes, run, tasks):
                # Next time the other queue goes first, so that neither holds up the other one.
                self._queues = self._queues[::-1]
                return True
        return False

    def _hand_over_of(
        self, queue: CallQueue, size: int, most_nbytes: int, run: OpenRun, tasks: asyncio.TaskGroup
    ) -> int:
        self._callers.begin()
        before, count, seen = self._nbytes, 0, set[int]()
        while count < size and (not count or self._nbytes - before < most_nbytes):
            item = queue.next()
            if item is None:
                break
            count += 1
            handle, error = attempt(partial(self._call, run, item, seen))
            if handle is None:
                assert error is not None
                self._resolve(queue, item, partial(item.future.set_exception, explained(error, item)))
                continue
            queue.in_flight.add(item)
            self._nbytes += item.nbytes
            handle.add_done_callback(partial(self._ended, queue, item, tasks))
        return count

    def _call(self, run: OpenRun, item: Item, seen: set[int]) -> RunHandle[CallOutcome]:
        caller: Callable[..., Any] = self._callers.caller_of(item.fn)
        arguments = Sealed.of((item.args, item.kwargs))
        # Calls may share large buffers, which are sent once.
        item.nbytes = arguments.count_nbytes(seen)
        return run.call(caller, extra_args=(arguments,), cost=self._cost)

    # --- Outcomes

    def _ended(
        self, queue: CallQueue, item: Item, tasks: asyncio.TaskGroup, handle: RunHandle[CallOutcome]
    ) -> None:
        if handle.cancelled():
            # With the run: see `_break`.
            return
        error = handle.exception()
        if error is not None:
            # The run may be over.
            self._changed.set()
            ours = _broken(str(error), error) if isinstance(error, WorkerDied) else error
            self._resolve(queue, item, partial(item.future.set_exception, ours))
        elif handle.is_here():
            self._settle(queue, item, handle.result())
        else:
            tasks.create_task(self._fetch(queue, item, handle), name="result of an executor's call")

    async def _fetch(self, queue: CallQueue, item: Item, handle: RunHandle[CallOutcome]) -> None:
        try:
            outcome = await handle
        except HandoffError as error:
            self._resolve(queue, item, partial(item.future.set_exception, error))
        else:
            self._settle(queue, item, outcome)

    def _settle(self, queue: CallQueue, item: Item, outcome: CallOutcome) -> None:
        kind, content, seconds = outcome
        queue.learn(seconds)
        if kind == Kind.PLAIN:
            self._resolve(queue, item, partial(item.future.set_result, content))
        elif kind == Kind.SEALED:
            self._open(queue, item, content)
        elif kind == Kind.RAISED:
            self._resolve(queue, item, partial(item.future.set_exception, decode_exception(content)))
        else:
            error = decode_exception(content)
            if self.broken is None:
                log.critical("exception in initializer", exc_info=error)
            self._break("a worker's initializer failed", error)

    def _open(self, queue: CallQueue, item: Item, content: Sealed) -> None:
        result, error = attempt(content.open)
        if error is None:
            self._resolve(queue, item, partial(item.future.set_result, result))
        else:
            self._resolve(queue, item, partial(item.future.set_exception, error))

    def _resolve(self, queue: CallQueue, item: Item, settle: Callable[[], object]) -> None:
        if item in queue.in_flight:
            queue.in_flight.discard(item)
            self._nbytes -= item.nbytes
        self._busy_at = asyncio.get_running_loop().time()
        if self._is_closing or self._has_waiting:
            self._changed.set()
        if item.future.done():
            return
        try:
            settle()
        except SystemExit:
            # Futures log what else their callbacks raise.
            log.exception("a callback of a future has exited")

    def _break(self, reason: str, cause: BaseException | None) -> None:
        """Run no more calls; unfinished futures get the reason."""
        if self.broken is None:
            self.broken = _broken(reason if cause is None else f"{reason}: {repr_of(cause)}", cause)
        for queue in self._queues:
            for item in queue.in_flight:
                item.fail(self.broken)
            queue.in_flight.clear()
        waiting = [item for queue in self._queues for item in queue.take_waiting()]
        for item in (*waiting, *self._chained.take()):
            if item.future.running() or item.future.set_running_or_notify_cancel():
                item.fail(self.broken)
        self._is_closing = True
        self._changed.set()


def _cancel(item: Item) -> None:
    if item.future.cancel():
        # concurrent.futures.wait learns of a cancelled future only in this way.
        item.future.set_running_or_notify_cancel()


def _broken(reason: str, cause: BaseException | None) -> BrokenExecutor:
    error = BrokenExecutor(reason)
    error.__cause__ = cause
    return error
