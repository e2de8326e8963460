"""The calls of an open run on their way to the run: many at a time, in order, and no more than there is room for."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.client.growing.open_run_facts import OpenRunFacts
from handoff_actors.client.growing.taken_results import TakenResults
from handoff_actors.core.run.events import CancelFunctions, EndGrowth, LetGo
from handoff_actors.errors import MissingFunctionError
from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.graph.growing_dag import GrowingDAG, outer_ids
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.repeated_calls import RepeatedCalls, plan_of
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

if TYPE_CHECKING:
    from handoff_actors.client.growing.run_handle import RunHandle

#: Functions that are added to the run at once: encoding them holds the loop for a few milliseconds.
PART_SIZE: Final = 400
#: Functions without handles are let go of once there are so many, or after so many seconds: to forget one takes the time of a
#: fifth of a call, and further ones a fraction of that. But at once where the run has values that are large, or functions with
#: names of the user's, who may give one again.
MOST_RELEASED: Final = 64
RELEASED_FOR_S: Final = 0.01
#: For errors.
NOT_IN_THE_RUN: Final = "which is not in the run, or not any more: keep its handle, and pass that"


class OpenRunFeed(OpenRunFacts):
    """The part of an open run that brings functions to the run, and word of those that are cancelled or let go of."""

    loop: asyncio.AbstractEventLoop
    #: Set when there is something to bring.
    _changed: asyncio.Event

    def __init__(self, max_pending: int | None) -> None:
        """With `max_pending`, so many functions are with the run and have yet to end at most."""
        if max_pending is not None and max_pending < 1:
            raise ValueError(f"max_pending={repr_of(max_pending)}: it must be 1 or more, or None")
        self._max_pending = max_pending
        self._calls = GrowingDAG()
        self._repeated = RepeatedCalls()
        #: Other calls that were there before the first of the repeated ones, and go before them.
        self._before_repeated = 0
        #: The functions of graphs that are added as a whole.
        self._graphs: deque[dict[FunctionId, Function]] = deque()
        #: Handles of functions that have yet to end.
        self._unfinished: dict[FunctionId, RunHandle[Any]] = {}
        #: Functions that are with the run and have yet to end.
        self._pending = 0
        self._taken = TakenResults()
        #: No function is brought to the run before it has a handle, whatever thread adds it.
        self._adding = threading.RLock()
        #: Functions without handles. A timer runs as long as there are some, then they are due.
        self._released: deque[FunctionId] = deque()
        self._has_release_timer = False
        self._is_release_due = False
        self._has_names = False
        self._cancelled: list[FunctionId] = []
        self._is_closing = False
        self._is_woken = False
        #: That of the loop; 0 before the run begins.
        self._thread = 0

    def _has_room(self) -> bool:
        if self._max_pending is None:
            return True
        return self._pending + len(self._calls) + len(self._repeated) < self._max_pending

    def _wake(self) -> None:
        if self._is_woken or not self._thread:
            return
        self._is_woken = True
        if threading.get_ident() == self._thread:
            self._changed.set()
            return
        # A loop that has ended has no use for it.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._changed.set)

    def let_go(self, function_id: FunctionId) -> None:
        """Take note that there is no handle of a function any more. May be called in any thread."""
        self._released.append(function_id)
        if self._is_release_due or not (self._thread and (runner := self._going.runner).is_going_on):
            return
        if len(self._released) >= MOST_RELEASED or self._has_names or runner.has_large_values:
            self._is_release_due = True
            self._wake()
        elif not self._has_release_timer:
            self._has_release_timer = True
            # As in `_wake`; what ends a loop may leave handles behind.
            with suppress(RuntimeError):
                if threading.get_ident() == self._thread:
                    self._set_release_timer()
                else:
                    self.loop.call_soon_threadsafe(self._set_release_timer)

    def _set_release_timer(self) -> None:
        self.loop.call_later(RELEASED_FOR_S, self._release)

    def _release(self) -> None:
        self._has_release_timer = False
        if self._released:
            self._is_release_due = True
            self._wake()

    async def _feed(self) -> None:
        """Bring calls, graphs and what is let go to the run, in order."""
        runner = self._going.runner
        while runner.is_going_on:
            self._changed.clear()
            self._is_woken = False
            if self._unfinished:
                self._going.wait.begin()
            await self._feed_functions()
            self._feed_rest(runner)
            if self._is_closing and not (len(self._calls) or len(self._repeated) or self._graphs):
                runner.feed(EndGrowth())
            await self._changed.wait()

    async def _feed_functions(self) -> None:
        while len(self._repeated) or self._graphs or len(self._calls):
            # Graphs and repeated calls take results of no other function. Calls that came after these may take theirs,
            # hence the order of counting: other threads may add some meanwhile.
            calls, earlier, graphs = len(self._calls), self._before_repeated, len(self._graphs)
            for _ in range(graphs):
                await self._add(self._graphs.popleft())
            if earlier and not await self._feed_calls(earlier):
                return
            if not await self._feed_repeated(len(self._repeated)):
                return
            if calls > earlier and not await self._feed_calls(calls - earlier):
                return

    async def _feed_calls(self, count: int) -> bool:
        """Add the first of the calls that are unlike earlier ones; False if there was no room for all of them."""
        while count > 0:
            with self._adding:
                functions = self._calls.take(self._most_in_part(count))
                self._before_repeated = max(0, self._before_repeated - len(functions))
            if not functions:
                return False
            count -= len(functions)
            await self._add(functions)
        return True

    async def _feed_repeated(self, count: int) -> bool:
        """Add the first of the repeated calls; False if there was no room for all of them."""
        while count > 0:
            with self._adding:
                part = self._repeated.take(self._most_in_part(count))
            if not part:
                return False
            count -= len(part)
            self._pending += len(part)
            await self._add_plan(plan_of(part, self.dag_id))
        return True

    def _most_in_part(self, count: int) -> int:
        most = min(count, PART_SIZE)
        return most if self._max_pending is None else max(0, min(most, self._max_pending - self._pending))

    async def _add(self, functions: dict[FunctionId, Function]) -> None:
        if not self._are_known(outer_ids(functions)):
            functions = self._without_lost(functions)
        self._pending += sum(function.type == "regular" for function in functions.values())
        await self._add_plan(Plan.of(functions, self.dag_id, outer_ids(functions)))
        with self._adding:
            for function in functions.values():
                self._taken.count(function, -1)

    def _are_known(self, outer: Iterable[FunctionId]) -> bool:
        return all(map(self._going.runner.plan.index_of.__contains__, outer))

    def _without_lost(self, functions: Mapping[FunctionId, Function]) -> dict[FunctionId, Function]:
        """End the functions that take what has been forgotten since they were called, as they had an id and no handle."""
        left: dict[FunctionId, Function] = {}
        known = self._going.runner.plan.index_of
        for function in functions.values():
            missing = next(
                (each for each in producer_ids(function) if each not in left and each not in known), None
            )
            if missing is None:
                left[function.id] = function
                continue
            with self._adding:
                self._taken.count(function, -1)
            self._lack(function.id, missing)
        return left

    def _lack(self, function_id: FunctionId, missing: FunctionId) -> None:
        handle = self._unfinished.pop(function_id, None)
        if handle is not None and not handle.done():
            handle.end(MissingFunctionError(function_id, missing, where=NOT_IN_THE_RUN))

    async def _add_plan(self, plan: Plan) -> None:
        growth = self._going.runner.growth
        encoded, found = await self._going.encode(plan)
        missing = next((each for each in plan.outer if not self._are_known([each])), None)
        if missing is not None:
            # It has been forgotten while this was encoded.
            self._pending -= len(plan.index_of)
            for function_id in plan.index_of:
                self._lack(function_id, missing)
            return
        # Hooks come after the functions, and nobody has handles of them.
        growth.add(encoded, range(len(plan.index_of)), found, self._take_released())
        # Others may be added all the time, if it takes a while.
        self._feed_rest(self._going.runner)

    def _feed_rest(self, runner: RunnerActor) -> None:
        if self._cancelled:
            known = runner.plan.index_of
            runner.feed(CancelFunctions([each for each in self._cancelled if each in known]))
            # For want of room some may not be with the run yet.
            self._cancelled = [
                each for each in self._cancelled if each in self._unfinished and each not in known
            ]
        if released := self._take_released():
            runner.feed(LetGo(released))

    def _take_released(self) -> list[FunctionId]:
        """Take off the functions without handles, once they are due, but for those that a call takes which has yet to be brought to the run."""
        if not (self._is_release_due or self._taken.has_free):
            return []
        self._is_release_due = False
        released = [self._released.popleft() for _ in range(len(self._released))]
        with self._adding:
            return self._taken.let_go(released)
