"""Turns calls, which come in from any thread, into runs of a session, and the outcomes into results of futures.

Just enough plain calls are handed over to keep every worker busy for a few milliseconds, coroutines as many as may run at
once, and of large calls few; the rest wait here, not encoded, where they can still be cancelled. Short functions share a
run, which costs far less than one each. One that takes long has a run of its own, so that a failure of its neighbour's run
never ends it.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Final

from handoff_actors.client.session import Session
from handoff_actors.errors import FunctionFailed, HandoffError, SerializationError, WorkerDied
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function
from handoff_actors.ids import FunctionId
from handoff_actors.integrations.call_queue import CallQueue, Item
from handoff_actors.integrations.calls import CallOutcome, Initializer, Kind, attempt, caller_of, is_async
from handoff_actors.integrations.chaining import ChainedCalls, check_captures, explained, futures_among
from handoff_actors.text import repr_of
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.payload import Sealed

log = logging.getLogger(__name__)

#: So many bytes of arguments are encoded for one run: a call with more has a run of its own.
MOST_NBYTES_PER_RUN: Final = 32 << 20
#: So many bytes of arguments are with runs, beyond one call per worker. A process pool holds a few calls, too.
MOST_NBYTES: Final = 128 << 20
#: Seconds for which the number of workers is not asked for again.
_SLOTS_GOOD_FOR_S: Final = 1.0


class Batch:
    """Calls of one queue that go out in one run. `items` has them by their ids in it, until they have their outcome."""

    def __init__(
        self, queue: CallQueue, initializer: Initializer | None, cost: Mapping[str, float] | None
    ) -> None:
        self.queue = queue
        #: It is among the queue's `shared_runs`.
        self.is_shared = False
        self.items: dict[int, Item] = {}
        self.dag = DAG()
        #: Size of the encoded arguments. Calls may share large ones, which are sent once.
        self.nbytes = 0
        self._initializer = initializer
        self._cost = cost
        self._callers: dict[int, Callable[..., object]] = {}
        #: By id: the buffers that have been counted. They stay alive within the calls.
        self._counted: set[int] = set()

    def add(self, item: Item) -> BaseException | None:
        """Encode a call and add it; return the error if it can't be encoded."""
        sealed, error = attempt(partial(self._seal, item))
        if error is not None:
            return explained(error, item)
        assert sealed is not None
        caller, arguments = sealed
        number = len(self.dag)
        self.items[number] = item
        self.dag.add_function(Function(number, (), caller, extra_args=(arguments,), cost=self._cost))
        self.nbytes += arguments.count_nbytes(self._counted)
        return None

    def _seal(self, item: Item) -> tuple[Callable[..., object], Sealed]:
        caller = self._callers.get(id(item.fn))
        if caller is None:
            check_captures(item.fn)
            caller = self._callers[id(item.fn)] = caller_of(item.fn, self._initializer)
        return caller, Sealed.of((item.args, item.kwargs))


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
        self._initializer = initializer
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
        #: Size of the encoded arguments of all runs.
        self._nbytes = 0
        self._runs = 0
        self._slots_asked_at = float("-inf")
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
        queue = self._coroutines if is_async(item.fn) else self._plain
        if self._is_first and item.future.set_running_or_notify_cancel():
            self._is_first = False
            queue.again.append(item)
        else:
            queue.waiting.append(item)
        self._wake()

    def cancel_waiting(self) -> None:
        """Cancel the calls that have not been handed over."""
        for item in self._take_waiting():
            if item.future.cancel():
                # concurrent.futures.wait learns of a cancelled future only in this way.
                item.future.set_running_or_notify_cancel()

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

    def _take_waiting(self) -> list[Item]:
        return [*self._chained.take(), *(item for queue in self._queues for item in queue.take_waiting())]

    # --- In the loop

    async def serve(self) -> None:
        """Run calls until `close`. However it ends, every future has its outcome then."""
        self._loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task()
        if self._is_aborted:
            self._cancel()
        try:
            async with self._open_session() as session, asyncio.TaskGroup() as tasks:
                await self._hand_over(session, tasks)
        except HandoffError as error:
            # The futures get the error.
            self._break("the executor has no session", error)
        finally:
            self._serving = None
            self._break("the executor has ended", sys.exception())

    async def _hand_over(self, session: Session, tasks: asyncio.TaskGroup) -> None:
        while not self._is_closing or self.has_work():
            self._changed.clear()
            self._is_woken = False
            self._chained.end_refused()
            await self._count_slots(session)
            while batch := self._next_batch():
                tasks.create_task(self._run(session, batch), name="calls of an executor")
                # Encoding takes a while, and others use the loop, too.
                await asyncio.sleep(0)
            # Without a call in flight, too: runs that are about to end leave no room for those that wait.
            if not self._is_closing or self._count_in_flight() or self._runs or self._chained:
                await self._changed.wait()

    async def _count_slots(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._slots_asked_at > _SLOTS_GOOD_FOR_S:
            self._slots_asked_at = now
            offers = await session.discover_nodes()
            usable = [offers[name] for name in offers if self._nodes is None or name in self._nodes]
            for queue in self._queues:
                queue.count_slots(usable, self._cost)

    def _count_in_flight(self) -> int:
        return len(self._plain.in_flight) + len(self._coroutines.in_flight)

    def _next_batch(self) -> Batch | None:
        """Encode calls for one run; None where no more may be handed over now."""
        in_flight = self._count_in_flight()
        most_nbytes = min(MOST_NBYTES_PER_RUN, MOST_NBYTES - self._nbytes)
        if most_nbytes <= 0 and in_flight >= self._plain.slots:
            return None
        for queue in self._queues:
            others = in_flight - len(queue.in_flight)
            most = None if self._most_at_once is None else self._most_at_once - others
            batch = self._batch_of(queue, queue.room(most, self._plain.slots), most_nbytes)
            if batch is not None:
                # Next time the other queue goes first, so that neither holds up the other one.
                self._queues = self._queues[::-1]
                return batch
        return None

    def _batch_of(self, queue: CallQueue, size: int, most_nbytes: int) -> Batch | None:
        if size < 1:
            return None
        batch = Batch(queue, self._initializer, self._cost)
        while len(batch.items) < size and (not batch.items or batch.nbytes < most_nbytes):
            item = queue.next()
            if item is None:
                break
            error = batch.add(item)
            if error is None:
                queue.in_flight.add(item)
            else:
                self._resolve(queue, item, partial(item.future.set_exception, error))
        if not batch.items:
            return None
        self._nbytes += batch.nbytes
        self._runs += 1
        batch.is_shared = not queue.is_long
        queue.shared_runs += batch.is_shared
        return batch

    async def _run(self, session: Session, batch: Batch) -> None:
        queue = batch.queue
        grows_old = asyncio.get_running_loop().call_later(queue.young_s, self._count_no_more, batch)
        try:
            settle = partial(self._settle, batch)
            # The runs are an internal matter: callers see futures, and output as from a process pool.
            await session.execute_distributed(
                batch.dag, max_retries=0, nodes=self._nodes, on_result=settle, progress=False, output=False
            )
        except HandoffError as error:
            self._ended(batch, error)
        finally:
            # If this is cancelled, some are not done, and `_break` ends them.
            queue.in_flight.difference_update(item for item in batch.items.values() if item.future.done())
            # The run's objects refer to it until garbage is collected; the calls and arguments must not stay as long.
            batch.items.clear()
            del batch.dag
            grows_old.cancel()
            self._count_no_more(batch)
            self._runs -= 1
            self._nbytes -= batch.nbytes
            self._changed.set()

    def _count_no_more(self, batch: Batch) -> None:
        batch.queue.shared_runs -= batch.is_shared
        batch.is_shared = False
        self._changed.set()

    # --- Outcomes

    def _settle(self, batch: Batch, number: FunctionId, outcome: CallOutcome) -> None:
        kind, content, seconds = outcome
        queue = batch.queue
        queue.learn(seconds)
        # From here on only the caller keeps the future, and with it the result.
        item = batch.items.pop(number, None)  # type: ignore[call-overload]  # its ids are numbers
        if item is None:
            # The call had its outcome: a value that was lost has been made again.
            return
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
        queue.in_flight.discard(item)
        self._changed.set()
        if item.future.done():
            return
        try:
            settle()
        except SystemExit:
            # Futures log what else their callbacks raise.
            log.exception("a callback of a future has exited")

    def _ended(self, batch: Batch, error: HandoffError) -> None:
        """Handle the failure of a run: if it is due to one function, the other calls run again; else all of them fail."""
        left = [item for item in batch.items.values() if not item.future.done()]
        if isinstance(error, FunctionFailed | SerializationError) and isinstance(error.function_id, int):
            culprit = batch.items[error.function_id]
            culprit.fail(_broken(str(error), error) if isinstance(error, WorkerDied) else error)
            again = [item for item in left if item is not culprit]
            batch.queue.in_flight.difference_update(again)
            batch.queue.again.extend(again)
            return
        for item in left:
            item.fail(error)

    def _break(self, reason: str, cause: BaseException | None) -> None:
        """Run no more calls; unfinished futures get the reason."""
        if self.broken is None:
            self.broken = _broken(reason if cause is None else f"{reason}: {repr_of(cause)}", cause)
        for queue in self._queues:
            for item in (*queue.in_flight, *queue.again):
                item.fail(self.broken)
        for item in self._take_waiting():
            if item.future.set_running_or_notify_cancel():
                item.fail(self.broken)
        for queue in self._queues:
            queue.in_flight.clear()
            queue.again.clear()
        self._is_closing = True
        self._changed.set()


def _broken(reason: str, cause: BaseException | None) -> BrokenExecutor:
    error = BrokenExecutor(reason)
    error.__cause__ = cause
    return error
