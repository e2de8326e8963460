"""The end of a stream: all that is there is finished and taken, each stage's `finish` gives its last results, and the workers are closed."""

from collections.abc import Iterator

from msgspec.structs import replace

from handoff_actors.core.stream.events import ItemFailure, StageEnd, StopLane, Vertex
from handoff_actors.core.stream.flow import Flow
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.core.stream.stages.losses import blamed
from handoff_actors.core.stream.stages.stage import StreamStage
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.wire.messages.stage_rows import CloseStage, FinishStage


class Draining:
    """The steps of a stream's end, and which of them is next."""

    def __init__(self, plan: StreamPlan, flow: Flow, window: int) -> None:
        self.has_begun = False
        self.is_closing = False
        self._flow = flow
        self._window = window
        #: Stages whose `finish` is still to be called, those that come first in front.
        self._to_finish = [vertex.number for vertex in plan.vertices if vertex.function.finish is not None]
        #: Workers that are to call it now.
        self._pending: list[tuple[StreamStage, Lane, Work]] = []
        #: Works of those that do.
        self._finishing: set[int] = set()
        #: For each stage that has one, those to which nothing of it comes.
        self._beside = {
            number: [other for other in flow.stages if other not in _after(plan, number)]
            for number in self._to_finish
        }

    @property
    def is_finishing(self) -> bool:
        """True while `finish` of a worker goes on."""
        return bool(self._finishing)

    def step(self, now: float) -> list[StopLane]:
        """Do what comes next, once nothing else is going on. For a stream of which the end has begun."""
        if self.is_closing or self._finishing or not self._flow.is_quiet:
            return []
        stopped = list(self._stop_starting())
        if not self._pending and self._to_finish:
            stage = self._flow.stages[self._to_finish.pop(0)]
            self._pending = [
                (stage, lane, self._flow.work_of_finish(stage.number))
                for lane in stage.lanes
                if not lane.is_closing
            ]
        if self._pending:
            self._finish(now)
            return stopped
        if self._flow.results.items:
            # What is lost before it is taken is made again, for which the workers have to be there.
            return stopped
        self.is_closing = True
        for stage in self._flow.stages.values():
            for lane in stage.lanes:
                close(lane)
        return stopped

    def _stop_starting(self) -> Iterator[StopLane]:
        """Do without workers beyond the least that are not up: they have nothing to do, and there may be no room for them."""
        for stage in self._flow.stages.values():
            for lane in stage.lanes[stage.least :]:
                if lane.place is None and not lane.is_closing:
                    lane.is_stopping = lane.is_closing = True
                    # It was to finish, and has been stopped since at its time limit.
                    self._pending = [each for each in self._pending if each[1] is not lane]
                    yield StopLane(stage.number, lane.number)

    def _finish(self, now: float) -> None:
        """Have the next worker call `finish`; one after the other, as in a stage of one worker."""
        stage, lane, work = self._pending[0]
        if not lane.is_usable:
            return
        del self._pending[0]
        work.credit = self._window
        stage.hold(work, lane, now)
        self._finishing.add(work.number)
        lane.rows.append(FinishStage(work.number, self._window))

    def again(self, stage: StreamStage, lane: Lane, work: Work) -> None:
        """Call `finish` again, as the worker was lost before it had given anything."""
        self._finishing.discard(work.number)
        self._pending.insert(0, (stage, lane, work))

    def gave(self, work: Work, end: StageEnd) -> None:
        """Pass on what `finish` has given, as an item of its own."""
        number = self._flow.take_numbers()
        self._flow.pass_over(number, self._beside[work.stage])
        self._flow.result_of_finish(work, number, end)

    def ended(self, work: Work, failure: ItemFailure | None) -> None:
        """Note that `finish` has given all its results, or has failed."""
        if failure is not None:
            failure = replace(blamed(failure, work), reason=f"its finish failed: {failure.reason}")
            self._flow.observing.item_failed(self._flow.next_number, failure)
            self.gave(work, StageEnd(work.number, failure))
        self._finishing.discard(work.number)
        assert work.results is not None
        self._flow.end(work.results)


def close(lane: Lane) -> None:
    """Have a worker end, once it has ended its items."""
    if lane.place is not None and not lane.is_stopping and not lane.is_closing:
        lane.rows.append(CloseStage())
    lane.is_closing = True


def _after(plan: StreamPlan, start: Vertex) -> set[Vertex]:
    """The vertices to which something comes from a vertex."""
    found: set[Vertex] = set()
    pending = [start]
    while pending:
        for consumer, _ in plan.vertices[pending.pop()].consumers:
            if consumer not in found:
                found.add(consumer)
                pending.append(consumer)
    return found
