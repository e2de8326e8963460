"""Explain where an item of a stream is, and what it waits for; or how it has ended, as far as that is known.

All queues are looked through for it, so nothing is kept for the sake of questions.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from handoff_actors.core.stream.back_pressure import BackPressure
from handoff_actors.core.stream.events import ItemFailure, Vertex
from handoff_actors.core.stream.flow import OUTPUT, Flow
from handoff_actors.core.stream.items.results import PushedItem
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.core.stream.stages.stage import StreamStage
from handoff_actors.core.stream.stages.work_queue import current_values
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

#: "queued" for a worker or on one, "working" on one, "joining" with what comes of other functions, "ordering" behind earlier items, or a
#: "result" that is not taken.
PlaceState: TypeAlias = Literal["queued", "working", "joining", "ordering", "result"]


class ItemPlace(Struct, frozen=True):
    """The place of one part of an item: of what a branch, or a result of a generator, has come to."""

    state: PlaceState
    #: Id of the function of the stage; None at the output.
    function_id: FunctionId
    #: What it waits for, for people; "" while it is worked on.
    reason: str = ""
    #: The worker that has it, by its number in the stage, and that one's node; None where none has it.
    worker: int | None = None
    node: str | None = None
    #: The functions that have yet to give their part of it, where it joins.
    waits_for: tuple[FunctionId, ...] = ()

    def __str__(self) -> str:
        at = "at the output" if self.function_id is None else f"at function {repr_of(self.function_id)}"
        on = "" if self.node is None else f", on worker {self.worker} on node {self.node!r}"
        return f"{self.state} {at}{on}{': ' if self.reason else ''}{self.reason}"


class ItemExplanation(Struct, frozen=True):
    """An item of a stream: where it is and why, or how it has ended."""

    #: The number of its push.
    number: int
    #: "in flight", "done" where its results have been taken, "failed", or "not pushed".
    state: Literal["in flight", "done", "failed", "not pushed"]
    #: Its parts, while it is in flight.
    places: tuple[ItemPlace, ...] = ()
    #: For people: why it has failed, or why it gets no further.
    reason: str = ""

    def __str__(self) -> str:
        is_where = "" if self.state == "failed" else f" is {self.state}"
        reason = f": {self.reason}" if self.reason else ""
        return "\n".join([f"item {self.number}{is_where}{reason}", *[f"  {each}" for each in self.places]])


class ItemExplainer:
    """Explains the items of one stream."""

    def __init__(self, plan: StreamPlan, flow: Flow, gate: BackPressure) -> None:
        self._flow = flow
        self._gate = gate
        self._ids = [vertex.function.id for vertex in plan.vertices]

    def explain(self, number: int) -> ItemExplanation:
        """Explain the item of a push."""
        failure = self._flow.observing.failures.get(number)
        reason = "" if failure is None else self._reason_of(failure)
        if number >= self._flow.next_number or number < 0:
            return ItemExplanation(number, "not pushed")
        item = self._flow.results.item_of(number)
        if item is None:
            return ItemExplanation(number, "done" if failure is None else "failed", reason=reason)
        places = [*self._at_stages(number), *self._between(number), *self._results(item, number)]
        return ItemExplanation(number, "in flight", tuple(places), reason)

    def _reason_of(self, failure: ItemFailure) -> str:
        at = "" if failure.stage is None else f" at function {repr_of(self._ids[failure.stage])}"
        on = f" on node {failure.node!r}" if failure.node else ""
        return f"it has failed{at}{on}: {failure.reason}"

    # --- At stages ----------------------------------------------------------------------------------------------

    def _at_stages(self, number: int) -> Iterator[ItemPlace]:
        for stage in self._flow.stages.values():
            for lane in stage.lanes:
                for before, work in _parts_of(number, lane.outstanding.values()):
                    yield self._on_worker(stage, lane, work, before)
            for queue in stage.queues:
                for before, work in _parts_of(number, queue):
                    yield ItemPlace("queued", self._ids[stage.number], self._why_queued(stage, work, before))
            for _ in _parts_of(number, stage.pauses):
                yield ItemPlace("queued", self._ids[stage.number], "it has failed, and its pause is not over")

    def _on_worker(self, stage: StreamStage, lane: Lane, work: Work, before: int) -> ItemPlace:
        state: PlaceState = "working"
        reason = ""
        if stage.is_generator:
            if work.credit <= 0:
                reason = "its generator waits until results that it has given are taken"
        elif not stage.is_batched and before >= stage.concurrency:
            state, reason = "queued", f"{before} other(s) of the worker go first"
        return ItemPlace(state, self._ids[stage.number], reason, lane.number, lane.node)

    def _why_queued(self, stage: StreamStage, work: Work, before: int) -> str:
        gate = self._gate
        if not any(lane.is_usable for lane in stage.lanes):
            return "no worker of the function takes items now"
        if current_values(work, gate) is None:
            return "a value that it takes was lost, and is being made again"
        if work.is_suspect:
            return "a worker that had it has died: it waits until it can be on one alone"
        if not gate.may_start(work):
            return "there are as many bytes in flight as in_flight_mb allows: older items go first"
        if stage.is_batched and not all(lane.outstanding for lane in stage.lanes):
            return "its batch is not complete"
        if before:
            return f"{before} other(s) go first"
        return "the workers have as much to do as they should"

    # --- Between stages, and behind them ------------------------------------------------------------------------

    def _between(self, number: int) -> Iterator[ItemPlace]:
        for target, missing in self._flow.joining(number):
            ids = tuple([self._ids[vertex] for vertex in missing])
            named = ", ".join(map(repr_of, ids))
            yield ItemPlace("joining", self._id_of(target), f"waits for {named}", waits_for=ids)
        for target, first in self._flow.ordering(number):
            reason = (
                "an earlier result of its own comes first" if first == number else f"item {first} comes first"
            )
            yield ItemPlace("ordering", self._id_of(target), reason)

    def _results(self, item: PushedItem, number: int) -> Iterator[ItemPlace]:
        for first in self._flow.results.held_up(item):
            reason = (
                "an earlier result of its own comes first" if first == number else f"item {first} comes first"
            )
            yield ItemPlace("ordering", None, reason)
        if self._flow.results.is_made_again(item, number):
            yield ItemPlace("result", None, "a value of it was lost, and is being made again")
        if self._flow.results.is_untaken(item, number):
            yield ItemPlace("result", None, "it has not been taken")

    def _id_of(self, target: Vertex) -> FunctionId:
        return None if target == OUTPUT else self._ids[target]


def _parts_of(number: int, works: Iterable[Work]) -> Iterator[tuple[int, Work]]:
    """Find the works that an item is part of, each with the number of the items before it."""
    before = 0
    for work in works:
        if work.is_of(number):
            yield before + work.offset_of(number), work
        before += work.size
