"""The workers of all stages: where they are, and what becomes of their items when they are lost, stopped, moved or closed."""

from collections.abc import Iterable

from handoff_actors.core.stream.draining import Draining, close
from handoff_actors.core.stream.events import (
    ItemFailure,
    LaneLost,
    LanePlace,
    LaneUp,
    StartLane,
    StopLane,
    StreamEffect,
    StreamFailed,
    Vertex,
)
from handoff_actors.core.stream.flow import Flow
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.core.stream.stages.losses import MOST_FAILED_STARTS, state_loss, to_do_again
from handoff_actors.core.stream.stages.stage import MOST_DEATHS, StreamStage
from handoff_actors.errors import HandoffError
from handoff_actors.text import repr_of


class StageWorkers:
    """The workers of one stream."""

    def __init__(self, flow: Flow, draining: Draining) -> None:
        self._flow = flow
        self._draining = draining
        #: Those that are up.
        self._at: dict[LanePlace, tuple[StreamStage, Lane]] = {}
        #: Those that are to end once they have ended their items, as their node drains.
        self._moving: list[tuple[StreamStage, Lane]] = []
        #: The stream can't go on.
        self.has_failed = False
        self.effects: list[StreamEffect] = []

    def at(self, place: LanePlace) -> tuple[StreamStage, Lane] | tuple[None, None]:
        """Find the worker that is at a place, and its stage."""
        return self._at.get(place, (None, None))

    def check(self) -> None:
        """Assert every invariant."""
        for place, (stage, lane) in self._at.items():
            assert lane.place == place, "a worker is known by another place"
            assert all(work.stage == stage.number for work in lane.outstanding.values())
        for stage in self._flow.stages.values():
            for lane in stage.lanes:
                assert lane.place is not None or not lane.outstanding, "a worker that is not there has items"

    # --- Comings and goings -------------------------------------------------------------------------------------

    def up(self, event: LaneUp, now: float) -> None:
        """Take note that a worker takes items, in place of any earlier one of its lane."""
        stage = self._flow.stages[event.stage]
        lane = stage.lane(event.lane)
        if lane is None or lane.place == event.place:
            return
        if lane.place is not None and not self._lose(stage, lane, "its worker was lost"):
            return
        lane.place, lane.was_up, lane.failed_starts, lane.idle_since = event.place, True, 0, now
        self._at[event.place] = stage, lane
        self._flow.observing.worker_up(stage.number, lane.number, lane.node)
        if lane.is_closing:
            lane.is_closing = False
            close(lane)

    def lost(self, event: LaneLost) -> None:
        """Start a worker again whose function has failed, unless it would fail again."""
        stage = self._flow.stages[event.stage]
        lane = stage.lane(event.lane)
        if lane is None:
            return
        if not (event.is_loss or lane.is_stopping):
            self._fail(event.error)
            return
        if lane.is_closing:
            self.closed(event.stage, event.lane)
            return
        if not lane.was_up and not lane.is_stopping:
            lane.failed_starts += 1
            if lane.failed_starts >= MOST_FAILED_STARTS:
                self._fail(event.error)
                return
        if self._lose(stage, lane, str(event.error)):
            self.effects.append(StartLane(stage.number, lane.number))

    def closed(self, number: Vertex, lane_number: int) -> None:
        """Take note that a worker has ended as it was to; one that moves, or was stopped, starts again."""
        stage = self._flow.stages[number]
        lane = stage.lane(lane_number)
        if lane is None:
            return
        if lane.is_closing and not (lane.is_moving and not self._draining.is_closing):
            self._forget_place(stage, lane, "it is not needed any more")
            stage.put_back(lane.lose())
            stage.lanes.remove(lane)
        elif self._lose(stage, lane, _why_ended(lane), is_blamed=not lane.is_closing):
            self.effects.append(StartLane(number, lane_number))

    def node_lost(self, name: str) -> None:
        """Take back what the workers of a node had, which is no fault of their items. They start again elsewhere by themselves."""
        for place, (stage, lane) in list(self._at.items()):
            if place.node == name:
                self._lose(stage, lane, f"node {name} is gone", is_blamed=False)

    def node_leaving(self, name: str) -> None:
        """Move the workers of a node, once they have ended their items; those whose state counts stay for as long as the node does."""
        self._move(name)

    def renew(self) -> None:
        """Start workers again, once they have ended their items; those whose state counts stay."""
        self._move(None)

    def _move(self, node: str | None) -> None:
        for stage, lane in self._at.values():
            is_meant = node is None or lane.node == node
            if is_meant and lane.is_usable and stage.vertex.function.finish is None:
                lane.is_moving = True
                self._moving.append((stage, lane))

    def close_moving(self) -> None:
        """Close the workers that are to move and have ended their items."""
        moving, self._moving = self._moving, []
        for stage, lane in moving:
            if not lane.is_moving or lane.is_closing:
                continue
            if state_loss(stage, lane) is not None:
                lane.is_moving = False
            elif lane.outstanding:
                self._moving.append((stage, lane))
            else:
                close(lane)

    # --- Losses -------------------------------------------------------------------------------------------------

    def _lose(self, stage: StreamStage, lane: Lane, reason: str, *, is_blamed: bool = True) -> bool:
        """Take back what a worker had that is gone. False if the stream can't go on without its state."""
        is_blamed = is_blamed and not lane.is_stopping
        # That of a worker that was stopped has been looked at before.
        error = None if lane.is_stopping else state_loss(stage, lane)
        if error is not None:
            self._fail(error)
            return False
        self._forget_place(stage, lane, reason)
        # One that was to move starts elsewhere, whatever has ended it.
        lane.is_closing = lane.is_closing and not (lane.is_moving and not self._draining.is_closing)
        node, works = lane.node, lane.lose()
        # Which of them has killed it is not known.
        works = [single for work in works for single in self._flow.singles(work)]
        if works and works[0].is_finish:
            # What is made again meanwhile has come later.
            stage.put_back(works[1:])
            return self._finish_lost(stage, lane, works[0], is_blamed=is_blamed)
        again, given_up = to_do_again(works, stage, node) if is_blamed else (works, [])
        stage.put_back(again)
        stage.ended += len(given_up)
        for work, failure in given_up:
            self._flow.work_failed(work, failure)
        return True

    def _forget_place(self, stage: StreamStage, lane: Lane, reason: str) -> None:
        if lane.place is not None:
            del self._at[lane.place]
            self._flow.observing.worker_gone(stage.number, lane.number, lane.node, reason)

    def _finish_lost(self, stage: StreamStage, lane: Lane, work: Work, *, is_blamed: bool) -> bool:
        work.deaths += is_blamed
        if work.given:
            name = repr_of(stage.vertex.function.id)
            self._fail(HandoffError(f"stage {name} has lost its worker while finish gave the last results"))
            return False
        if work.deaths < MOST_DEATHS:
            self._draining.again(stage, lane, work)
        else:
            reason = f"its worker has died {work.deaths} times"
            self._draining.ended(work, ItemFailure("worker", b"", reason, attempts=work.deaths))
        return True

    def stop_overdue(self, stage: StreamStage, lane: Lane, now: float) -> None:
        """Stop a worker whose item has taken too long. What it had beside that is done again."""
        late = stage.late(lane)
        error = None if late[0].is_finish else state_loss(stage, lane)
        if error is not None:
            self._fail(error)
            return
        seconds = stage.vertex.function.timeout
        reason = f"it took longer than its time limit of {seconds} s"
        failure = ItemFailure("timeout", b"", reason, node=lane.node)
        lane.is_stopping = True
        self.effects.append(StopLane(stage.number, lane.number))
        if late[0].size > 1 and not stage.is_batched:
            # Which of its items takes so long is not known: from now on each is on a worker alone.
            lane.let_go(late[0].number)
            alone = self._flow.singles(late[0])
            for work in alone:
                work.is_suspect = True
            stage.put_back(alone)
            return
        for work in late:
            lane.let_go(work.number)
        again: list[Work] = []
        for work in [single for chunk in late for single in self._flow.singles(chunk)]:
            if work.is_finish:
                self._draining.ended(work, failure)
            elif self._flow.is_tried_again(work, failure):
                again.append(work)
            else:
                stage.ended += 1
                self._flow.work_failed(work, failure)
        stage.retry(again, now)

    def do_again(self, works: Iterable[Work]) -> None:
        """Have values made again that are lost."""
        for work in works:
            work.is_made_again = True
            self._flow.stages[work.stage].put_back([work])

    def _fail(self, error: HandoffError) -> None:
        if not self.has_failed:
            self.has_failed = True
            self.effects.append(StreamFailed(error))


def _why_ended(lane: Lane) -> str:
    return "its node drains" if lane.is_moving else "it was stopped at its time limit"
