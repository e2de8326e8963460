"""Turns calls, which come in from any thread, into runs of a session, and the outcomes into results of futures.

Just enough calls are handed over to keep every worker busy for a few milliseconds, and of large ones few; the rest wait
here, not encoded, where they can still be cancelled. Short functions share a run, which costs far less than one each. A
function that takes longer than `LONG_S` has a run of its own, so that a failure of its neighbour's run never ends it.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, Final

from handoff_actors.client.session import Session
from handoff_actors.errors import FunctionFailed, HandoffError, SerializationError, WorkerDied
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function
from handoff_actors.ids import FunctionId
from handoff_actors.integrations.calls import CallOutcome, Initializer, Kind, attempt, caller_of
from handoff_actors.moving_average import UNKNOWN, peak_smoothed
from handoff_actors.text import repr_of
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.payload import Sealed

log = logging.getLogger(__name__)

#: A function that takes this long, or whose duration is unknown, shares its run with no other.
LONG_S: Final = 0.005
#: Seconds of work that nodes have beyond the running functions.
AHEAD_S: Final = 0.05
#: Making and sending this many calls holds the loop for a few milliseconds.
MOST_PER_RUN: Final = 250
#: So many bytes of arguments are encoded for one run: a call with more has a run of its own.
MOST_NBYTES_PER_RUN: Final = 32 << 20
#: So many bytes of arguments are with runs, beyond one call per worker. A process pool holds a few calls, too.
MOST_NBYTES: Final = 128 << 20
#: The most runs of short functions at a time, beyond one per worker.
SHARED_RUNS: Final = 4
#: The weight of a new measurement in the estimate of a function's seconds when functions get faster.
_DECAY: Final = 0.1
#: The least duration of a function, whatever the clock says.
_LEAST_S: Final = 1e-5
#: Seconds for which the number of workers is not asked for again.
_SLOTS_GOOD_FOR_S: Final = 1.0


class Item:
    """A call whose future a caller has."""

    __slots__ = ("args", "fn", "future", "kwargs")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], future: "Future[Any]"
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future

    def fail(self, error: BaseException) -> None:
        """Fail the future, unless it is done."""
        if not self.future.done():
            self.future.set_exception(error)


class Batch:
    """Calls that go out in one run. `items` has them by their ids in it, until they have their outcome."""

    def __init__(self, initializer: Initializer | None, cost: Mapping[str, float] | None) -> None:
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
        if sealed is None:
            return error
        caller, arguments = sealed
        number = len(self.dag)
        self.items[number] = item
        self.dag.add_function(Function(number, (), caller, extra_args=(arguments,), cost=self._cost))
        self.nbytes += arguments.count_nbytes(self._counted)
        return None

    def _seal(self, item: Item) -> tuple[Callable[..., object], Sealed]:
        caller = self._callers.get(id(item.fn))
        if caller is None:
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
        self._waiting: deque[Item] = deque()
        #: Calls to run again, which can no longer be cancelled: another function has ended their run.
        self._again: deque[Item] = deque()
        self._in_flight: set[Item] = set()
        #: Size of the encoded arguments of all runs.
        self._nbytes = 0
        self._runs = 0
        self._slots = 1
        self._slots_asked_at = float("-inf")
        #: Seconds that a function is expected to take: rises at once, falls slowly.
        self._expected_s = UNKNOWN
        #: The reason why no call can be run any more.
        self.broken: BrokenExecutor | None = None

    # --- From any thread

    def put(self, item: Item) -> None:
        """Queue a call. The first one counts as running: it starts as soon as there is a session."""
        if self._is_first and item.future.set_running_or_notify_cancel():
            self._is_first = False
            self._again.append(item)
        else:
            self._waiting.append(item)
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
        return bool(self._waiting or self._again or self._in_flight)

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not self._is_woken:
            self._is_woken = True
            # A loop that has ended has failed every future.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._changed.set)

    def _take_waiting(self) -> list[Item]:
        taken: list[Item] = []
        # Two threads may take from it.
        with suppress(IndexError):
            while self._waiting:
                taken.append(self._waiting.popleft())
        return taken

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
            await self._count_slots(session)
            while batch := self._next_batch():
                tasks.create_task(self._run(session, batch), name="calls of an executor")
                # Encoding takes a while, and others use the loop, too.
                await asyncio.sleep(0)
            # Without a call in flight, too: runs that are about to end leave no room for those that wait.
            if not self._is_closing or self._in_flight or self._runs:
                await self._changed.wait()

    async def _count_slots(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._slots_asked_at > _SLOTS_GOOD_FOR_S:
            self._slots_asked_at = now
            offers = await session.discover_nodes()
            usable = [offers[name] for name in offers if self._nodes is None or name in self._nodes]
            self._slots = max(1, sum(_slots_of(offer, self._cost) for offer in usable))

    def _room(self) -> int:
        """Return how many more calls may be handed over, in one run, now."""
        is_long = self._expected_s >= LONG_S
        window = self._slots + int(self._slots * AHEAD_S / self._expected_s)
        window = min(self._most_at_once or window, window)
        room = window - len(self._in_flight)
        if is_long:
            return min(room, 1)
        # Neither tiny runs, nor one run for each call that comes in: calls that wait a moment longer share one.
        if self._runs >= self._slots + SHARED_RUNS or room < min(window // 4, len(self._waiting)):
            return 0
        return min(room, MOST_PER_RUN)

    def _next_batch(self) -> Batch | None:
        """Encode calls for one run; None where no more may be handed over now."""
        size = self._room()
        most_nbytes = min(MOST_NBYTES_PER_RUN, MOST_NBYTES - self._nbytes)
        if size < 1 or (most_nbytes <= 0 and len(self._in_flight) >= self._slots):
            return None
        batch = Batch(self._initializer, self._cost)
        while len(batch.items) < size and (not batch.items or batch.nbytes < most_nbytes):
            item = self._next_item()
            if item is None:
                break
            error = batch.add(item)
            if error is None:
                self._in_flight.add(item)
            else:
                self._resolve(item, partial(item.future.set_exception, error))
        if not batch.items:
            return None
        self._nbytes += batch.nbytes
        self._runs += 1
        return batch

    def _next_item(self) -> Item | None:
        if self._again:
            return self._again.popleft()
        while True:
            try:
                item = self._waiting.popleft()
            except IndexError:
                return None
            if item.future.set_running_or_notify_cancel():
                return item

    async def _run(self, session: Session, batch: Batch) -> None:
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
            self._in_flight.difference_update(item for item in batch.items.values() if item.future.done())
            # The run's objects refer to it until garbage is collected; the calls and arguments must not stay as long.
            batch.items.clear()
            del batch.dag
            self._runs -= 1
            self._nbytes -= batch.nbytes
            self._changed.set()

    # --- Outcomes

    def _settle(self, batch: Batch, number: FunctionId, outcome: CallOutcome) -> None:
        kind, content, seconds = outcome
        self._expected_s = peak_smoothed(self._expected_s, max(seconds, _LEAST_S), _DECAY)
        # From here on only the caller keeps the future, and with it the result.
        item = batch.items.pop(number, None)  # type: ignore[call-overload]  # its ids are numbers
        if item is None:
            # The call had its outcome: a value that was lost has been made again.
            return
        if kind == Kind.PLAIN:
            self._resolve(item, partial(item.future.set_result, content))
        elif kind == Kind.SEALED:
            self._open(item, content)
        elif kind == Kind.RAISED:
            self._resolve(item, partial(item.future.set_exception, decode_exception(content)))
        else:
            error = decode_exception(content)
            if self.broken is None:
                log.critical("exception in initializer", exc_info=error)
            self._break("a worker's initializer failed", error)

    def _open(self, item: Item, content: Sealed) -> None:
        result, error = attempt(content.open)
        if error is None:
            self._resolve(item, partial(item.future.set_result, result))
        else:
            self._resolve(item, partial(item.future.set_exception, error))

    def _resolve(self, item: Item, settle: Callable[[], object]) -> None:
        self._in_flight.discard(item)
        self._changed.set()
        if not item.future.done():
            settle()

    def _ended(self, batch: Batch, error: HandoffError) -> None:
        """Handle the failure of a run: if it is due to one function, the other calls run again; else all of them fail."""
        left = [item for item in batch.items.values() if not item.future.done()]
        if isinstance(error, FunctionFailed | SerializationError) and isinstance(error.function_id, int):
            culprit = batch.items[error.function_id]
            culprit.fail(_broken(str(error), error) if isinstance(error, WorkerDied) else error)
            again = [item for item in left if item is not culprit]
            self._in_flight.difference_update(again)
            self._again.extend(again)
            return
        for item in left:
            item.fail(error)

    def _break(self, reason: str, cause: BaseException | None) -> None:
        """Run no more calls; unfinished futures get the reason."""
        if self.broken is None:
            self.broken = _broken(reason if cause is None else f"{reason}: {repr_of(cause)}", cause)
        for item in (*self._in_flight, *self._again):
            item.fail(self.broken)
        for item in self._take_waiting():
            if item.future.set_running_or_notify_cancel():
                item.fail(self.broken)
        self._in_flight.clear()
        self._again.clear()
        self._is_closing = True
        self._changed.set()


def _broken(reason: str, cause: BaseException | None) -> BrokenExecutor:
    error = BrokenExecutor(reason)
    error.__cause__ = cause
    return error


def _slots_of(offer: Mapping[str, float], cost: Mapping[str, float] | None) -> int:
    """Return how many functions a node runs at once."""
    shares = [offer.get(resource, 0.0) / amount for resource, amount in (cost or {}).items() if amount]
    return int(min(shares, default=offer.get("cpu", 1.0)))
