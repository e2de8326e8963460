"""A stream that goes on: its pushes on the way in, and its results on the way out to whoever has pushed them."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.app.streams.stream_actor import StreamActor
from handoff_actors.actors.app.streams.stream_host import StreamHost
from handoff_actors.actors.driver import clock
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.actors.node.actor import INLINE_LIMIT
from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.streaming.inputs import EncodedItem
from handoff_actors.client.streaming.lanes import Lanes
from handoff_actors.client.streaming.outlet import Outlet, fresh
from handoff_actors.client.streaming.push_queue import PushQueue
from handoff_actors.client.streaming.stage_events import StageEvents
from handoff_actors.client.streaming.untaken import Untaken
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.stream.events import (
    FINISH_OWNER,
    DrainStream,
    ItemObserved,
    ModulesAdded,
    NodeLeaving,
    OwnerGone,
    Stored,
    StreamResult,
    Taken,
    Vertex,
    WorkerObserved,
)
from handoff_actors.core.stream.explain import ItemExplanation
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.core.stream.stages.capacity import check_capacity, needs_of
from handoff_actors.errors import AllocationError, HandoffError
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.ids import Resources
from handoff_actors.report.pipeline_report import PipelineReport, WorkerExplanation, explain, report_on


class GoingStream:
    """One stream, within its block. Hears what it comes to: see StreamListener."""

    def __init__(
        self,
        plan: StreamPlan,
        options: StreamOptions,
        run: OpenRun,
        host: StreamHost,
        allocation_timeout_s: float,
    ) -> None:
        """Workers for which there is no room for `allocation_timeout_s`, nor could be beside the others, end the stream."""
        self._loop = asyncio.get_running_loop()
        self.machine = StreamMachine(plan, options)
        self._runner = runner = run.runner
        self._lanes = Lanes(plan, run)
        self._events = None
        if runner.on_event is not None:
            self._events = StageEvents(self.machine.view, runner.plan.dag_id, runner.on_event)
        self.actor = StreamActor(
            runner.run, self.machine, runner.values, INLINE_LIMIT, host, self._lanes, self
        )
        self._queue = PushQueue(self.actor.has_room)
        self._owners = itertools.count(FINISH_OWNER)
        self._outlets: dict[int, Outlet] = {}
        #: For what is pushed by itself, and for what stages give at the end.
        self.plain = self.new_outlet()
        self.untaken = Untaken()
        #: The first workers of the stages, as far as they are not up yet.
        self._starting: set[tuple[Vertex, int]] = set()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._error: HandoffError | None = None
        self._host = host
        self._needs = needs_of(self.machine.stages)
        self._allocation_timeout_s = allocation_timeout_s
        #: Looks whether there is room for those whose node was lost.
        self._look: asyncio.TimerHandle | None = None
        #: By owner: results that were taken, which the machine has yet to be told.
        self._taken: dict[int, int] = {}
        #: When all stages took items, on the clock of the machine.
        self.began_at = clock()
        self._is_draining = False
        self._ended = asyncio.Event()

    # --- Life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all stages, and wait until they take items. Raises the error of the first that can't."""
        if self._events is not None:
            self._events.start()
        self.actor.start()
        self._starting = self._lanes.begin()
        while self._starting:
            missing = len(self._starting)
            await asyncio.wait([self._started], timeout=self._allocation_timeout_s)
            if self._started.done():
                self._started.result()
            elif len(self._starting) == missing:
                check_capacity(self._needs, self._offers())
        self.began_at = clock()

    def node_event(self, event: NodeUp | NodeDown) -> None:
        """Take note that a node drains or is gone. Its workers start elsewhere, if there is room for all in time."""
        if isinstance(event, NodeUp):
            if any(not other.leaving and other.workers for other in self._host.adverts()):
                self.actor.feed(NodeLeaving(event.name))
            return
        self.actor.node_lost(event.name)
        if self._look is None:
            self._look = self._loop.call_later(self._allocation_timeout_s, self._look_for_room)

    def _look_for_room(self) -> None:
        self._look = None
        offers = self._offers()
        if self._error is None and self._lanes.are_elsewhere(offers):
            try:
                check_capacity(self._needs, offers)
            except AllocationError as error:
                self.actor.fail(error)

    def _offers(self) -> dict[str, Resources]:
        return {advert.name: dict(advert.capabilities) for advert in self._host.adverts()}

    def drain(self) -> None:
        """Have nothing more be pushed. Results wait in the app for whoever takes them, and the stream ends without that."""
        if self._is_draining or self._error is not None:
            return
        self._is_draining = True
        self._queue.close(HandoffError("the pipeline is being drained, or has been: it takes no more items"))
        for outlet in list(self._outlets.values()):
            outlet.free()
        self.actor.feed(DrainStream())
        self.untaken.finish_begins_at = self.machine.next_number

    async def until_drained(self) -> None:
        """Wait until all is out, and all stages have ended. Raises HandoffError if the stream fails before that."""
        await self._ended.wait()
        for outlet in list(self._outlets.values()):
            await outlet.until_here()
        if self._error is not None:
            raise fresh(self._error)

    def close(self, error: HandoffError) -> None:
        """End at once. Whoever waits gets the error."""
        self._end(error)
        self.actor.close()
        if self._events is not None:
            self._events.end()
        if self._look is not None:
            self._look.cancel()

    def _end(self, error: HandoffError) -> None:
        if self._error is None and not self._ended.is_set():
            self._error = error
        over = HandoffError(f"the pipeline has ended: {error}")
        over.__cause__ = error
        self._queue.close(over)
        for outlet in list(self._outlets.values()):
            outlet.fail(error)
        if self._starting and not self._started.done():
            self._started.set_exception(error)
            # Whoever waits may have been cancelled: then nobody asks.
            self._started.exception()
        self._ended.set()

    def explain(self) -> list[WorkerExplanation]:
        """Explain each worker of each stage."""
        by_id = {each.function_id: each for each in self._runner.explain()}
        starts = {key: by_id[own] for key, own in self._lanes.ids.items() if own in by_id}
        return explain(self.machine.view, starts)

    def explain_item(self, number: int) -> ItemExplanation:
        """Explain one item."""
        self.actor.hand_over()
        explanation = self.machine.view.explain(number)
        if self._error is not None and explanation.state == "in flight":
            return replace(explanation, reason=f"the pipeline has ended: {self._error}")
        return explanation

    def report(self) -> PipelineReport:
        """Report on the stages."""
        return report_on(self.machine.view, self.began_at, clock())

    @property
    def has_room(self) -> bool:
        """True if another item may be pushed now."""
        return self.actor.has_room()

    @property
    def watermark(self) -> int:
        """The number of the first push of which something is still to be taken."""
        self._tell_taken()
        waiting = [outlet.oldest for outlet in self._outlets.values()]
        return min([self.machine.watermark, *(each for each in waiting if each is not None)])

    def check_loop(self) -> None:
        """Raise HandoffError in another event loop: nothing would wake those who wait there."""
        if asyncio.get_running_loop() is not self._loop:
            raise HandoffError(
                "the pipeline belongs to the event loop of its block, and this is another one: in another thread, use"
                " asyncio.run_coroutine_threadsafe(pipeline.call(value), loop).result(), with that loop"
            )

    def renew_workers(self) -> None:
        """Have workers start again, as there are modules that they lack."""
        self.actor.feed(ModulesAdded())

    # --- Items --------------------------------------------------------------------------------------------------

    def new_outlet(self) -> Outlet:
        """Begin to hand out results to somebody. `let_go` ends it. Raises HandoffError as `check_loop`."""
        self.check_loop()
        outlet = Outlet(next(self._owners), self)
        self._outlets[outlet.owner] = outlet
        return outlet

    def let_go(self, outlet: Outlet) -> None:
        """Drop what has not been taken, and what comes: nobody takes it any more."""
        if self._outlets.pop(outlet.owner, None) is not None:
            self._tell_taken()
            if not outlet.is_complete:
                self.actor.feed(OwnerGone(outlet.owner))
            outlet.drop()

    def drop_rest(self) -> None:
        """Take what pushes and `finish` give from now on, in the place of whoever would iterate, and count it in `untaken`."""
        if self._outlets.pop(self.plain.owner, None) is not None:
            rest = self.plain.drop()
            self.untaken.add(rest)
            self.taken(self.plain.owner, sum(not arrival.is_taken for arrival in rest))

    def push_now(self, outlet: Outlet, item: EncodedItem) -> int | None:
        """Push an item if there is room, for which nobody else waits, and return its number; else None."""
        if not self._queue.is_open:
            return None
        outlet.pushed += 1
        return self.actor.push(outlet.owner, item)

    async def push(self, outlet: Outlet, item: EncodedItem) -> int:
        """Push an item once there is room, and return its number. Raises HandoffError once the stream takes no more, and as `check_loop`."""
        self.check_loop()
        number = self.push_now(outlet, item)
        if number is not None:
            return number

        def push() -> int:
            # Before the machine has it, which may hand it out at once.
            outlet.pushed += 1
            return self.actor.push(outlet.owner, item)

        return await self._queue.push(push)

    # --- Called by outlets, see ResultSource --------------------------------------------------------------------

    def fetch(self, value: Stored, done: Callable[[Buffer | FetchFailure], None]) -> Callable[[], None]:
        """See ResultSource."""
        return self.actor.fetch(value, done)

    def taken(self, owner: int, results: int) -> None:
        """See ResultSource. Whatever one turn of the loop takes is told at once: the machine looks at all stages each time."""
        if not self._taken:
            self._loop.call_soon(self._tell_taken)
        self._taken[owner] = self._taken.get(owner, 0) + results

    def _tell_taken(self) -> None:
        taken, self._taken = self._taken, {}
        for owner, results in taken.items():
            self.actor.feed(Taken(owner, results))

    # --- Called by the actor, see StreamListener ----------------------------------------------------------------

    def lane_up(self, stage: Vertex, lane: int, node: str) -> None:
        """See StreamListener."""
        self._lanes.up(stage, lane, node)
        self._starting.discard((stage, lane))
        if not (self._starting or self._started.done()):
            self._started.set_result(None)

    def results_ready(self, owner: int, results: Sequence[StreamResult]) -> None:
        """See StreamListener."""
        outlet = self._outlets.get(owner)
        if outlet is None:
            # Whoever leaves `call` or `map` early knows of it.
            if owner == self.plain.owner:
                self.untaken.add(results)
            self.taken(owner, sum(result.size for result in results))
        else:
            outlet.arrived(results)

    def items_out(self, owner: int, count: int) -> None:
        """See StreamListener."""
        outlet = self._outlets.get(owner)
        if outlet is not None:
            outlet.items_out(count)

    def observed(self, seen: ItemObserved | WorkerObserved) -> None:
        """See StreamListener."""
        if self._events is not None:
            self._events.observed(seen)

    def room_freed(self) -> None:
        """See StreamListener."""
        self._queue.wake()

    def stream_failed(self, error: HandoffError) -> None:
        """See StreamListener."""
        self._end(error)

    def stream_drained(self) -> None:
        """See StreamListener."""
        for outlet in list(self._outlets.values()):
            outlet.end()
        self._ended.set()
