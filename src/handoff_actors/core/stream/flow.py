"""Moves outcomes along the edges of a stream's graph: to joins, into order, to the queues of stages, and to the results."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from handoff_actors.core.stream.events import (
    FINISH_OWNER,
    SKIPPED,
    ItemChunk,
    ItemFailure,
    ItemOut,
    ItemOutcome,
    ItemSkipped,
    ResultsReady,
    StageEnd,
    Stored,
    StreamResult,
    Vertex,
)
from handoff_actors.core.stream.items.chunks import is_chain, part, size_of
from handoff_actors.core.stream.items.joining import Join
from handoff_actors.core.stream.items.keys import Key
from handoff_actors.core.stream.items.results import ItemResults, PushedItem, result_of, values_of
from handoff_actors.core.stream.items.scope import Scope
from handoff_actors.core.stream.items.sequencing import Sequencer
from handoff_actors.core.stream.items.values import StreamValues
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.observing import StreamObserving
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.core.stream.stages.losses import blamed, retry_of
from handoff_actors.core.stream.stages.stage import StreamStage
from handoff_actors.graph.streams.stream_plan import StreamPlan, StreamVertex

#: In place of a vertex: where the results are joined.
OUTPUT = -1


#: One outcome on one edge: the target and the position there, the key; with a closing, the number of results before it; the
#: outcome, the hash of its key, and the scope in which it counts as alive. A plain tuple, as there is one per item and stage.
_Token: TypeAlias = tuple[Vertex, int, Key, int | None, ItemOutcome, int | None, Scope]


class _Edge(NamedTuple):
    target: Vertex
    position: int
    #: Where among the hashes of a value the one for this consumer is; None: it takes items by no key.
    key_slot: int | None


#: All outcomes for a vertex, with the other fields of a token.
_Entry: TypeAlias = tuple[Key, int | None, Sequence[ItemOutcome], int | None, Scope]


class Flow:
    """The edges of one stream, with what waits between them."""

    def __init__(self, plan: StreamPlan, options: StreamOptions) -> None:
        self.stages = {
            vertex.number: StreamStage(vertex, options, gives_keys=_gives_keys(vertex, plan))
            for vertex in plan.vertices
            if not vertex.is_input
        }
        self.values = StreamValues()
        last = plan.vertices[plan.sinks[0]]
        self._length = last.depth + last.is_generator + 1
        self.results = ItemResults(self._length, ordered=options.ordered)
        #: Pushes that come together may go on as one.
        self.takes_chunks = is_chain(plan) and all(
            self.stages[stage].takes_chunks for stage, _ in plan.vertices[plan.inputs[0]].consumers
        )
        self._edges = [self._edges_of(vertex, plan) for vertex in plan.vertices]
        self._joins: dict[Vertex, Join] = {
            number: Join(len(stage.vertex.producers), options.join_timeout_s)
            for number, stage in self.stages.items()
            if len(stage.vertex.producers) > 1
        }
        self._sinks = list(plan.sinks)
        if len(plan.sinks) > 1:
            self._joins[OUTPUT] = Join(len(plan.sinks), options.join_timeout_s)
        self._timed_joins = [] if options.join_timeout_s is None else list(self._joins.values())
        self._sequencers: dict[Vertex, Sequencer[_Entry]] = {
            number: Sequencer(stage.vertex.depth + 1)
            for number, stage in self.stages.items()
            if options.ordered and stage.is_in_order
        }
        self._tokens: deque[_Token] = deque()
        self._next_work = 1
        #: The number of the next item that is pushed, or given by `finish`.
        self.next_number = 0
        self.observing = StreamObserving(is_on=options.is_observed)
        self._out: list[ItemOut] = []

    def _edges_of(self, vertex: StreamVertex, plan: StreamPlan) -> list[_Edge]:
        if not vertex.consumers:
            return [_Edge(OUTPUT, list(plan.sinks).index(vertex.number), None)]
        edges: list[_Edge] = []
        keyed = 0
        for target, position in vertex.consumers:
            is_keyed = self.stages[target].is_keyed
            edges.append(_Edge(target, position, keyed if is_keyed else None))
            keyed += is_keyed
        return edges

    # --- Along the edges ----------------------------------------------------------------------------------------

    def take_numbers(self, count: int = 1) -> int:
        """Give the next items their numbers. Returns the first of these."""
        self.next_number += count
        return self.next_number - count

    def emit(
        self,
        vertex: Vertex,
        key: Key,
        count: int | None,
        outcome: ItemOutcome,
        scope: Scope,
        keys: Sequence[int] = (),
        maker: Work | None = None,
    ) -> None:
        """Send an outcome, or a closing, to all that take from a vertex. It arrives with `settle`."""
        edges = self._edges[vertex]
        scope.alive += len(edges)
        self.values.hold(outcome, len(edges), maker)
        for target, position, key_slot in edges:
            lane_hash = None if key_slot is None or not keys else keys[key_slot]
            self._tokens.append((target, position, key, count, outcome, lane_hash, scope))

    def settle(self, now: float) -> None:
        """Let everything arrive that is on its way along edges."""
        while self._tokens:
            self._arrive(self._tokens.popleft(), now)

    def _arrive(self, token: _Token, now: float) -> None:
        target, position, key, count, outcome, lane_hash, scope = token
        join = self._joins.get(target)
        if join is None:
            self._pass(target, (key, count, (outcome,), lane_hash, scope), now)
            return
        outcomes = join.add(key, count, position, outcome, scope, now)
        if outcomes is None:
            return
        if not outcomes:
            self.values.release(outcome)
            self.end(scope)
            return
        self.end(scope, len(outcomes) - 1)
        self._pass(target, (key, count, outcomes, lane_hash, scope), now)

    def time_out(self, now: float) -> None:
        """Give up items that have waited too long in a join."""
        for target, join in self._joins.items():
            for key, arrived, scope in join.timed_out(now):
                for outcome in arrived:
                    self.values.release(outcome)
                stage = None if target == OUTPUT else target
                failure = ItemFailure("join_timeout", b"", "not all of its inputs came in time", stage=stage)
                self.observing.item_failed(key[0], failure)
                self.end(scope, len(arrived) - 1)
                self._pass(target, (key, None, (failure,), None, scope), now)

    @property
    def wake_at(self) -> float | None:
        """The time at which the first join times out."""
        times = (join.wake_at for join in self._timed_joins)
        return min((time for time in times if time is not None), default=None)

    def _pass(self, target: Vertex, entry: _Entry, now: float) -> None:
        if target == OUTPUT:
            self._to_results(entry)
            return
        sequencer = self._sequencers.get(target)
        if sequencer is None:
            self._enter(self.stages[target], entry, now)
            return
        for each in sequencer.add(entry[0], entry[1], entry, size_of(entry[2])):
            self._enter(self.stages[target], each, now)

    def pass_over(self, number: int, stages: Sequence[Vertex]) -> None:
        """Have stages expect nothing of an item that only others get."""
        for stage in stages:
            sequencer = self._sequencers.get(stage)
            if sequencer is not None:
                count = None if self.stages[stage].vertex.depth == 0 else 0
                held = sequencer.add((number,), count, None)
                assert not held, "something goes on while finish gives its results"

    def _enter(self, stage: StreamStage, entry: _Entry, now: float) -> None:
        key, count, outcomes, lane_hash, scope = entry
        if count is not None:
            self._pass_on(stage, key, count, outcomes[0], scope)
            return
        is_inline = True
        for outcome in outcomes:
            if isinstance(outcome, bytes | ItemChunk):
                continue
            is_inline = False
            if not isinstance(outcome, Stored):
                self._refuse(stage, key, outcomes, scope)
                return
        size = size_of(outcomes)
        work = Work(self._next_work, stage.number, key, list(outcomes), scope, lane_hash, is_inline, size)
        self._next_work += 1
        for each in [work] if stage.takes_chunks else self.singles(work):
            stage.add(each, now)

    def _refuse(self, stage: StreamStage, key: Key, outcomes: Sequence[ItemOutcome], scope: Scope) -> None:
        """Pass on that an item has failed, or is skipped, without calling the code."""
        failure = next((outcome for outcome in outcomes if isinstance(outcome, ItemFailure)), SKIPPED)
        for outcome in outcomes:
            self.values.release(outcome)
        self._pass_on(stage, key, 0 if stage.is_generator else None, failure, scope)

    def _pass_on(
        self, stage: StreamStage, key: Key, count: int | None, outcome: ItemOutcome, scope: Scope
    ) -> None:
        self.emit(stage.number, key, count, outcome, scope)
        self.end(scope)

    # --- Chunks -------------------------------------------------------------------------------------------------

    def split_off(self, work: Work, count: int) -> Work:
        """Take the first items off a chunk at a stage, as work of their own. All others stay what the work is about."""
        [chunk] = work.values
        assert isinstance(chunk, ItemChunk), "it is one item"
        assert isinstance(work.scope, PushedItem), "no generator has given a chunk"
        first = Work(
            self._next_work, work.stage, work.key, [part(chunk, 0, count)], self.results.split_off(work.scope, count),
            is_inline=True, size=count, message=work.message, queued_at=work.queued_at, given_at=work.given_at,
        )  # fmt: skip
        self._next_work += 1
        work.key = (work.scope.number,)
        work.values = [part(chunk, count, work.size)]
        work.size -= count
        return first

    def singles(self, work: Work) -> list[Work]:
        """Divide a chunk into works of one item each."""
        return [*(self.split_off(work, 1) for _ in range(work.size - 1)), work]

    # --- Ends of works ------------------------------------------------------------------------------------------

    def work_ended(self, work: Work, outcome: ItemOutcome, keys: Sequence[int] = ()) -> None:
        """Pass on what an item has come to at a stage."""
        if work.is_made_again:
            work.is_made_again = False
            self.values.made_again(work, outcome)
            return
        count = work.given if self.stages[work.stage].is_generator else None
        if isinstance(outcome, Stored):
            # Its values stay until nothing needs that any more.
            work.result = outcome
            self.emit(work.stage, work.key, count, outcome, work.scope, keys, work)
        else:
            self.emit(work.stage, work.key, count, outcome, work.scope, keys)
            for value in work.values:
                self.values.release(value)
        if work.results is not None:
            self.end(work.results)
        self.end(work.scope)

    def work_failed(self, work: Work, failure: ItemFailure) -> None:
        """Pass on that an item has failed for good at a stage."""
        blamed_one = blamed(failure, work)
        work.is_suspect = False
        if not work.is_made_again:
            self.observing.item_failed(work.key[0], blamed_one)
        self.work_ended(work, blamed_one)

    def is_tried_again(self, work: Work, failure: ItemFailure) -> bool:
        """Count a failure, and tell whether the item is tried again."""
        is_tried_again = retry_of(work, failure, self.stages[work.stage])
        if is_tried_again:
            self.observing.item_retried(work.key[0], work.stage, failure, work.failures)
        return is_tried_again

    def refused_by_loss(self, work: Work) -> None:
        """Pass on that an item can't be worked on, as a value that it takes is lost for good."""
        values = map(self.values.current, work.values)
        failure = next((value for value in values if isinstance(value, ItemFailure)), None)
        assert failure is not None
        self.observing.item_failed(work.key[0], failure)
        self.work_ended(work, failure)

    def work_of_finish(self, stage: Vertex) -> Work:
        """Make the work of calling `finish` of a stage."""
        work = Work(self._next_work, stage, (), [], Scope(), is_finish=True)
        self._next_work += 1
        work.results = Scope(None, 1)
        return work

    def result_of_finish(self, work: Work, number: int, end: StageEnd) -> None:
        """Pass on a result of `finish`, as an item of its own."""
        item = self.results.add(number, FINISH_OWNER, work.results)
        vertex = self.stages[work.stage].vertex
        depth = vertex.depth + vertex.is_generator
        work.given += 1
        # So that it is not over before all of it is under way.
        item.alive += 1
        self.emit(work.stage, (number,) + (0,) * depth, None, end.outcome, item, end.keys)
        for parts in range(depth, 0, -1):
            self.emit(work.stage, (number,) + (0,) * (parts - 1), 1, SKIPPED, item)
        self.end(item)

    def result_of_generator(self, work: Work, outcome: ItemOutcome, keys: Sequence[int]) -> None:
        """Pass on one result of a generator."""
        if work.results is None:
            work.results = work.scope.part()
            work.results.alive += 1
        maker = None
        if isinstance(outcome, Stored):
            maker = Work(
                self._next_work, work.stage, work.key, work.values, work.scope, work.lane_hash, work.is_inline,
                result=outcome, given=work.given,
            )  # fmt: skip
            self._next_work += 1
            self.values.share(maker.values)
        key = (*work.key, work.given)
        work.given += 1
        self.emit(work.stage, key, None, outcome, work.results, keys, maker)

    # --- Results ------------------------------------------------------------------------------------------------

    def _to_results(self, entry: _Entry) -> None:
        key, count, given, _, scope = entry
        result = result_of(key[0], dict(zip(self._sinks, given, strict=False)))
        if result is None or isinstance(result.outcome, ItemFailure):
            # A failure of one sink stands for all of them.
            for outcome in given:
                self.values.release(outcome)
        self.results.came(key, count, result, scope)
        if result is None:
            self.end(scope)

    def hand_out(self) -> list[ResultsReady | ItemOut]:
        """The results that can be handed out, and the items of which no more comes."""
        ready: list[ResultsReady] = []
        if self.results.has_changed:
            ready, unwanted = self.results.hand_out(self._current)
            self.took(unwanted)
        out, self._out = self._out, []
        return [*ready, *out]

    def _current(self, result: StreamResult) -> StreamResult | None:
        """A result that is complete now. Until it is taken, values of it that are lost are made again: see `current`."""
        if isinstance(result.outcome, ItemFailure):
            return result
        values: dict[Vertex, bytes | Stored | ItemChunk | ItemSkipped] = {}
        failure: ItemFailure | None = None
        for sink, value in result.outcome.items():
            now = self.values.current(value)
            if now is None:
                return None
            if isinstance(now, ItemFailure):
                failure = now
            else:
                # What stands for it later is found by the one that was first.
                values[sink] = value if isinstance(value, Stored) and isinstance(now, Stored) else now
        if failure is not None:
            self.observing.item_failed(result.number, failure)
        return StreamResult(result.number, failure or values)

    def took(self, results: Sequence[tuple[StreamResult, Scope]]) -> None:
        """Let go of results that were taken."""
        for result, scope in results:
            for value in values_of(result):
                self.values.release(value)
            self.end(scope)

    def end(self, scope: Scope, count: int = 1) -> None:
        """Note that so much of a scope has ended."""
        if scope.alive > count:
            scope.alive -= count
            return
        for over in scope.end(count):
            if isinstance(over, PushedItem):
                self.results.forget(over)
                self._out.append(ItemOut(over.owner, over.number, over.size))

    # --- For drain ----------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """True if nothing waits or is worked on anywhere, but for results that have not been taken."""
        return (
            all(stage.is_empty for stage in self.stages.values())
            and not any(map(len, self._joins.values()))
            and not any(map(len, self._sequencers.values()))
        )

    # --- For explanations ---------------------------------------------------------------------------------------

    def joining(self, number: int) -> Iterator[tuple[Vertex, list[Vertex]]]:
        """Find the joins in which parts of an item wait, each with the producers that have not given theirs."""
        for target, join in self._joins.items():
            producers = self._sinks if target == OUTPUT else self.stages[target].vertex.producers
            for missing in join.missing(number):
                yield target, [producers[position] for position in missing]

    def ordering(self, number: int) -> Iterator[tuple[Vertex, int]]:
        """Find the stages that parts of an item wait before for their turn, each with the item whose turn it is."""
        for target, sequencer in self._sequencers.items():
            if sequencer.holds(number):
                yield target, sequencer.next_number


def _gives_keys(vertex: StreamVertex, plan: StreamPlan) -> bool:
    return any(plan.vertices[consumer].function.key is not None for consumer, _ in vertex.consumers)
