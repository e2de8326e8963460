"""The decisions of a stream: which worker gets which item, what becomes of its result, and what happens when either is lost.

The machine holds the whole truth about a stream, as a runner does about a run. Workers only call code. An item goes along the
edges of the graph (`flow`), is joined where several producers give something for it (`joining`), put in order where one worker
is to see all items in order (`sequencing`), and waits at a stage until a worker has room for it (`stage`). Exactly one outcome
comes out of each item at each vertex: a value, a failure, or that it is skipped; so joins and orders always become whole.

Each result comes out exactly once: only the machine passes results on, and answers of workers that it has given up are ignored.
At most `in_flight` items are between `push` and whoever takes their results, and that bounds every queue here.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from handoff_actors.core.stream.activity import Activity
from handoff_actors.core.stream.back_pressure import BackPressure
from handoff_actors.core.stream.draining import Draining, close
from handoff_actors.core.stream.events import (
    SKIPPED,
    AbortStream,
    DrainStream,
    DropValues,
    InputLost,
    ItemChunk,
    ItemFailure,
    ItemOutcome,
    LaneClosed,
    LaneLost,
    LaneUp,
    ModulesAdded,
    NewItem,
    NodeGone,
    NodeLeaving,
    OwnerGone,
    Pushed,
    PushRoomFreed,
    ResultLost,
    StageChunkEnded,
    StageEnd,
    StageEnded,
    StageGenerated,
    StartLane,
    StreamDrained,
    StreamEffect,
    StreamEvent,
    Taken,
)
from handoff_actors.core.stream.explain import ItemExplainer
from handoff_actors.core.stream.flow import Flow
from handoff_actors.core.stream.items.chunks import CHUNKS_IN_FLIGHT, MOST_ITEMS, groups_of, runs_of
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.core.stream.stage_workers import StageWorkers
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.core.stream.stages.stage import StreamStage
from handoff_actors.core.stream.view import StreamView
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.wire.messages.stage_rows import GenerateMore


class StreamMachine:
    """One stream. See `core.machine.Machine`."""

    def __init__(self, plan: StreamPlan, options: StreamOptions) -> None:
        self._inputs = list(plan.inputs)
        self._options = options
        self._flow = Flow(plan, options)
        self._gate = BackPressure(plan, self._flow, options)
        self._draining = Draining(plan, self._flow, options.in_flight)
        self._stages = list(self._flow.stages.values())
        self._timed_stages = [stage for stage in self._stages if stage.may_wake]
        self._has_join_timeout = options.join_timeout_s is not None
        self._workers = StageWorkers(self._flow, self._draining)
        self._most_in_chunk = max(1, min(MOST_ITEMS, options.in_flight // CHUNKS_IN_FLIGHT))
        self._activity = Activity()
        explainer = ItemExplainer(plan, self._flow, self._gate)
        #: For reports and displays.
        self.view = StreamView(self._flow, options, explainer, self._activity)
        self._was_full = False
        #: The stream was given up: its values go with its run.
        self._is_given_up = False
        self._is_drained = False

    # --- The shape of a machine ---------------------------------------------------------------------------------

    def start(self, _now: float) -> list[StreamEffect]:
        """Start the workers of all stages."""
        return [
            StartLane(number, lane.number)
            for number, stage in self._flow.stages.items()
            for lane in stage.lanes
        ]

    def handle(self, event: StreamEvent, now: float) -> list[StreamEffect]:
        """Take one event."""
        if self._is_over:
            return []
        self._dispatch(event, now)
        return self._settle(now)

    def wake(self, now: float) -> list[StreamEffect]:
        """Act on time limits and pauses that are over."""
        if self._is_over:
            return []
        self._flow.time_out(now)
        for stage in self._flow.stages.values():
            stage.end_pauses(now)
            for lane in stage.overdue(now):
                self._workers.stop_overdue(stage, lane, now)
            for lane in stage.surplus_lanes(now):
                close(lane)
        return self._settle(now)

    @property
    def wake_at(self) -> float | None:
        """The time of the next deadline."""
        if self._is_over:
            return None
        at = self._flow.wake_at if self._has_join_timeout else None
        for stage in self._timed_stages:
            due_at = stage.wake_at
            if due_at is not None and (at is None or due_at < at):
                at = due_at
        return at

    def check(self) -> None:
        """Assert every invariant."""
        if self._is_over:
            return
        self._flow.values.check()
        self._workers.check()
        assert self._draining.has_begun or self.in_flight <= self._options.in_flight

    @property
    def _is_over(self) -> bool:
        return self._is_given_up or self._workers.has_failed

    # --- What the shell may ask ---------------------------------------------------------------------------------

    @property
    def next_number(self) -> int:
        """The number of the next push."""
        return self._flow.next_number

    @property
    def watermark(self) -> int:
        """The number of the oldest push that is in flight, or of the next one: all pushes before it are out."""
        return self._flow.results.oldest if self._flow.results.items else self.next_number

    @property
    def has_room(self) -> bool:
        """True if another item may be pushed."""
        return self.room > 0

    @property
    def room(self) -> int:
        """The number of items that may be pushed now, where they are small."""
        return 0 if self._is_over else self._gate.room

    @property
    def in_flight(self) -> int:
        """The number of items between `push` and whoever takes their results."""
        return self._flow.results.in_flight

    @property
    def nbytes(self) -> int:
        """The bytes of all values that anything in the stream needs."""
        return self._flow.values.nbytes

    def current(self, value: ItemOutcome) -> ItemOutcome | None:
        """Give what stands for a value that was handed out now; None while it is being made again."""
        return self._flow.values.current(value)

    @property
    def stages(self) -> Iterable[StreamStage]:
        """The stages."""
        return self._flow.stages.values()

    # --- Events -------------------------------------------------------------------------------------------------

    def _dispatch(self, event: StreamEvent, now: float) -> None:  # noqa: C901, PLR0912 - one table
        match event:
            case StageChunkEnded():
                self._chunk_ended(event, now)
            case StageEnded():
                self._ended(event, now)
            case Pushed(items):
                self._take_pushes(items)
            case Taken(owner, results):
                self._flow.took(self._flow.results.taken(owner, results))
            case StageGenerated():
                self._generated(event, now)
            case LaneUp():
                self._workers.up(event, now)
            case LaneLost():
                self._workers.lost(event)
            case LaneClosed(stage, lane):
                self._workers.closed(stage, lane)
            case InputLost():
                self._input_lost(event, now)
            case ResultLost(value, reason):
                self._workers.do_again(self._flow.values.lost(value.index, reason))
            case NodeGone(name):
                self._workers.do_again(self._flow.values.lost_with(name))
                self._workers.node_lost(name)
            case NodeLeaving(name):
                self._workers.node_leaving(name)
            case ModulesAdded():
                self._workers.renew()
            case OwnerGone(owner):
                self._flow.took(self._flow.results.owner_gone(owner))
            case DrainStream():
                self._gate.is_closed = self._draining.has_begun = True
            case AbortStream():
                self._is_given_up = True
            case _:
                assert_never(event)

    def _take_pushes(self, items: Sequence[NewItem]) -> None:
        if self._flow.takes_chunks:
            for first, values in groups_of(items, self._most_in_chunk):
                self._pushed(first, values)
        else:
            for item in items:
                self._pushed(item)

    def _pushed(self, new: NewItem, together: Sequence[bytes] = ()) -> None:
        """Take a new item; or it and those that follow, with these values."""
        size = max(1, len(together))
        assert new.number == self._flow.take_numbers(size), "pushes are numbered in order"
        item = self._flow.results.add(new.number, new.owner, size=size)
        # So that it is not over before it has begun.
        item.alive += 1
        given = new.values if size == 1 else [(ItemChunk(together), ())]
        for vertex, (value, keys) in zip(self._inputs, given, strict=True):
            self._flow.emit(vertex, (new.number,), None, value, item, keys)
        self._flow.end(item)

    def _ended(self, event: StageEnded, now: float) -> None:
        stage, lane = self._workers.at(event.place)
        if stage is None or lane is None:
            self._discard(event.ends)
            return
        lane.has_replaced_state = lane.has_replaced_state or event.has_replaced_state
        stage.learn(event.seconds, len(event.ends))
        self._activity.worked(stage.number, lane, event.seconds, len(event.ends), now)
        again: list[Work] = []
        for end in event.ends:
            work, outcome = lane.let_go(end.number), end.outcome
            if work is None:
                self._flow.values.discard(outcome)
                continue
            lane.answered(work)
            if not self._work_ended(work, outcome, stage, end.keys):
                again.append(work)
        stage.retry(again, now)
        stage.rested(lane, now)

    def _work_ended(
        self, work: Work, outcome: ItemOutcome, stage: StreamStage, keys: Sequence[int] = ()
    ) -> bool:
        """Pass on what an item, or a chunk, has come to. False if it is to be tried again."""
        if isinstance(outcome, ItemFailure):
            if self._flow.is_tried_again(work, outcome):
                stage.ended -= 1
                return False
            self._flow.work_failed(work, outcome)
            return True
        work.is_suspect = False
        self._flow.work_ended(work, outcome, keys)
        return True

    def _chunk_ended(self, event: StageChunkEnded, now: float) -> None:
        stage, lane = self._workers.at(event.place)
        work = None if lane is None else lane.outstanding.get(event.number)
        if stage is None or lane is None or work is None:
            for outcome in event.outcomes:
                self._flow.values.discard(outcome)
            return
        lane.has_replaced_state = lane.has_replaced_state or event.has_replaced_state
        stage.learn(event.seconds, len(event.outcomes))
        self._activity.worked(stage.number, lane, event.seconds, len(event.outcomes), now)
        lane.answered(work)
        again: list[Work] = []
        for outcome, count in runs_of(event.outcomes):
            if count < work.size:
                ended = self._flow.split_off(work, count)
                lane.held -= count
                # The time of the next item begins now, or a little earlier.
                work.given_at = now
            else:
                lane.let_go(event.number)
                ended = work
            if not self._work_ended(ended, outcome, stage):
                again.append(ended)
        stage.retry(again, now)
        stage.rested(lane, now)

    def _discard(self, ends: Iterable[StageEnd]) -> None:
        for end in ends:
            self._flow.values.discard(end.outcome)

    def _generated(self, event: StageGenerated, now: float) -> None:
        stage, lane = self._workers.at(event.place)
        work = None if lane is None else lane.outstanding.get(event.number)
        if stage is None or lane is None or work is None:
            self._discard(event.results)
            return
        lane.has_replaced_state = lane.has_replaced_state or event.has_replaced_state
        stage.learn(event.seconds, len(event.results))
        self._activity.worked(stage.number, lane, event.seconds, len(event.results), now)
        lane.answered(work)
        if work.is_made_again:
            self._result_made_again(work, event, lane, stage, now)
        else:
            self._results_came(work, event.results, lane, stage, now)
            if event.is_end:
                lane.let_go(work.number)
                self._generator_ended(work, event.failure, stage, now)
        stage.rested(lane, now)

    def _results_came(
        self, work: Work, results: Sequence[StageEnd], lane: Lane, stage: StreamStage, now: float
    ) -> None:
        if results:
            lane.clear(work)
            work.given_at = now
        for end in results:
            work.credit -= 1
            stage.learn_size(end.outcome)
            if work.is_finish:
                self._draining.gave(work, end)
            else:
                self._flow.result_of_generator(work, end.outcome, end.keys)

    def _result_made_again(
        self, work: Work, event: StageGenerated, lane: Lane, stage: StreamStage, now: float
    ) -> None:
        """Take one result of a generator that was lost; the rest of them are not."""
        if not (event.results or event.is_end):
            return
        lane.let_go(work.number)
        if event.results:
            self._flow.work_ended(work, event.results[0].outcome)
            if not event.is_end:
                lane.rows.append(GenerateMore(work.number, 0))
        elif event.failure is not None and self._flow.is_tried_again(work, event.failure):
            stage.retry([work], now)
        else:
            lost = ItemFailure("lost", b"", "the generator gives fewer results than before")
            self._flow.work_failed(work, event.failure or lost)

    def _generator_ended(
        self, work: Work, failure: ItemFailure | None, stage: StreamStage, now: float
    ) -> None:
        if work.is_finish:
            self._draining.ended(work, failure)
        elif failure is None:
            work.is_suspect = False
            self._flow.work_ended(work, SKIPPED)
        elif self._flow.is_tried_again(work, failure):
            stage.retry([work], now)
        else:
            self._flow.work_failed(work, failure)

    def _input_lost(self, event: InputLost, now: float) -> None:
        stage, lane = self._workers.at(event.place)
        if stage is None or lane is None:
            return
        message = lane.message_with(event.index)
        if message is not None:
            stage.put_back(lane.take_back_from(message))
            stage.rested(lane, now)
        self._workers.do_again(self._flow.values.lost(event.index, event.reason))

    # --- After each event ---------------------------------------------------------------------------------------

    def _settle(self, now: float) -> list[StreamEffect]:
        out: list[StreamEffect] = []
        is_settled = False
        while not is_settled:
            self._flow.settle(now)
            self._workers.close_moving()
            # Before anything is given out: what nobody wants makes room.
            out += self._flow.hand_out()
            if self._draining.has_begun:
                self._workers.effects += self._draining.step(now)
            is_settled = not self._fill(now)
        sent = [lane.take_message() for stage in self._stages for lane in stage.lanes if lane.rows]
        for message in sent:
            if message.needs:
                self._flow.values.sent(message.needs, message.place.node)
        effects, self._workers.effects = self._workers.effects, []
        if self._options.is_observed:
            effects += self._flow.observing.take()
        effects += sent
        effects += out
        dropped = self._flow.values.take_dropped()
        if dropped:
            effects.append(DropValues(dropped))
        effects += self._tell_of_room()
        return effects

    def _fill(self, now: float) -> bool:
        """Give workers what they should have. True if an item turned out to be lost, so that there is more to do."""
        has_changed = False
        is_finishing = self._draining.has_begun and self._draining.is_finishing
        for stage in self._stages:
            if stage.waiting:
                for work in stage.fill(now, self._gate):
                    self._flow.refused_by_loss(work)
                    has_changed = True
            if is_finishing or stage.is_generator:
                for lane in stage.lanes:
                    for work in lane.outstanding.values():
                        stage.more_credit(work, lane, now, self._gate)
            if stage.may_grow and stage.wants_lane(now) and not self._draining.is_closing:
                self._workers.effects.append(StartLane(stage.number, stage.add_lane(now).number))
        return has_changed

    def _tell_of_room(self) -> list[StreamEffect]:
        told: list[StreamEffect] = []
        has_room = self.has_room
        if has_room and self._was_full:
            told.append(PushRoomFreed())
        self._was_full = not has_room
        if (
            self._draining.is_closing
            and not self._is_drained
            and not any(stage.lanes for stage in self.stages)
        ):
            self._is_drained = True
            told.append(StreamDrained())
        return told
