"""A read-only view of a stream: all that reports, displays and the shell may know of its stages."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from handoff_actors.core.stream.activity import Activity
from handoff_actors.core.stream.events import Vertex
from handoff_actors.core.stream.explain import ItemExplainer, ItemExplanation
from handoff_actors.core.stream.flow import Flow
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.core.stream.stages.lane import BusySpan, Lane
from handoff_actors.core.stream.stages.stage import StreamStage
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.members import MOST_STAGE_NODES, MOST_STAGES, StageProgress
from handoff_actors.wire.messages.nested import MAX_LABEL

#: The shares of time are those of so many seconds.
RECENT_S: Final = 5.0

#: "waiting" for input, "working" on items, "moving" off its node once it has ended those that it has, or "closing".
StageWorkerState: TypeAlias = Literal["starting", "waiting", "working", "moving", "stopping", "closing"]


class StageWorkerFacts(Struct, frozen=True):
    """One worker of a stage, as it is now."""

    #: Its number among those of the stage.
    number: int
    state: StageWorkerState
    #: The name of its node; "" while it is on none.
    node: str
    #: Items that it has been given and that have not ended.
    items: int

    @property
    def is_up(self) -> bool:
        """True if it has made its state."""
        return bool(self.node)


class StageFacts(Struct, frozen=True):
    """One stage, as it is now."""

    number: Vertex
    function_id: FunctionId
    #: Items that have ended here, well or not; of a generator, its results.
    ended: int
    #: Items that have failed here, and attempts that were followed by another.
    failed: int
    retried: int
    #: Items that no worker has been given.
    queued: int
    workers: Sequence[StageWorkerFacts]

    @property
    def workers_up(self) -> int:
        """The number of workers that have made their states."""
        return sum(worker.is_up for worker in self.workers)

    @property
    def with_workers(self) -> int:
        """The number of items that workers have been given."""
        return sum(worker.items for worker in self.workers)


class StreamView:
    """The facts of one stream as they are when they are asked for."""

    def __init__(
        self, flow: Flow, options: StreamOptions, explainer: ItemExplainer, activity: Activity
    ) -> None:
        self._flow = flow
        self._activity = activity
        self._explainer = explainer
        #: The number of items that may be between `push` and whoever takes their results.
        self.in_flight_at_most = options.in_flight

    @property
    def in_flight(self) -> int:
        """The number of items between `push` and whoever takes their results."""
        return self._flow.results.in_flight

    @property
    def pushed(self) -> int:
        """The number of items that have been pushed, or given by `finish`."""
        return self._flow.next_number

    @property
    def failed(self) -> int:
        """The number of items that have failed."""
        return self._flow.observing.failed_items

    def stages(self) -> list[StageFacts]:
        """List the stages, in the order of the graph."""
        return [self._facts_of(stage) for stage in self._flow.stages.values()]

    def busy_shares(self, began_at: float, now: float) -> dict[Vertex, float]:
        """The share of the last seconds in which the code of each stage ran, over all its workers, from 0 to 1."""
        since = self._activity.kept_since(max(began_at, now - RECENT_S))
        busy_s = self._activity.busy_since(since)
        return {
            stage.number: _share(stage, busy_s.get(stage.number, 0.0), since, now)
            for stage in self._flow.stages.values()
        }

    def progress(self) -> list[StageProgress]:
        """Tell how far the stages are, for monitors."""
        return [_progress_of(stage) for stage in self.stages()[:MOST_STAGES]]

    @property
    def busy_spans(self) -> Iterable[BusySpan]:
        """The latest times in which workers were busy."""
        return self._activity.spans

    def explain(self, number: int) -> ItemExplanation:
        """Explain where the item of a push is, or how it has ended."""
        return self._explainer.explain(number)

    def _facts_of(self, stage: StreamStage) -> StageFacts:
        observing = self._flow.observing
        workers = [
            StageWorkerFacts(lane.number, _state_of(lane), lane.node, lane.held) for lane in stage.lanes
        ]
        return StageFacts(
            stage.number,
            stage.vertex.function.id,
            stage.ended,
            observing.failed[stage.number],
            observing.retried[stage.number],
            stage.waiting,
            workers,
        )


def _share(stage: StreamStage, busy_s: float, since: float, now: float) -> float:
    at_once = max(1, len(stage.lanes)) * stage.concurrency
    busy_s += sum(_under_way_s(stage, lane, since, now) for lane in stage.lanes)
    return min(1.0, busy_s / ((now - since) * at_once)) if now > since else 0.0


def _under_way_s(stage: StreamStage, lane: Lane, since: float, now: float) -> float:
    """The time that a worker has taken for what it has not answered, as far as it works."""
    if not (lane.is_generating if stage.is_generator else lane.outstanding):
        return 0.0
    given_at = min(work.given_at for work in lane.outstanding.values())
    began_at = max(since, given_at, 0.0 if lane.span is None else lane.span.ended_at)
    return (now - began_at) * min(stage.concurrency, len(lane.outstanding))


def _progress_of(stage: StageFacts) -> StageProgress:
    nodes = sorted({worker.node for worker in stage.workers if worker.is_up})
    return StageProgress(
        repr_of(stage.function_id, MAX_LABEL),
        nodes[:MOST_STAGE_NODES],
        stage.workers_up,
        stage.ended,
        stage.failed,
        stage.queued,
        stage.with_workers,
    )


def _state_of(lane: Lane) -> StageWorkerState:
    if lane.is_stopping:
        return "stopping"
    if lane.place is None:
        return "starting"
    if lane.is_moving:
        return "moving"
    if lane.is_closing:
        return "closing"
    return "working" if lane.outstanding else "waiting"
