"""Simulated streams: the real machine, with workers, nodes and links that are slow, die, and lose values.

Values are whole numbers. Each stage computes a number of what it takes by a rule that is made of the seed, so that what must
come out of a push is known without any machine: see `StreamOracle`.
"""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from handoff_actors.core.stream.events import (
    SKIPPED,
    DrainStream,
    DropValues,
    InputLost,
    ItemChunk,
    ItemFailure,
    ItemObserved,
    ItemOut,
    ItemOutcome,
    ItemSkipped,
    LaneClosed,
    LaneLost,
    LanePlace,
    LaneUp,
    ModulesAdded,
    NewItem,
    NodeGone,
    NodeLeaving,
    OwnerGone,
    Pushed,
    PushRoomFreed,
    ResultLost,
    ResultsReady,
    SendToStage,
    StageChunkEnded,
    StageEnd,
    StageEnded,
    StageGenerated,
    StartLane,
    StopLane,
    Stored,
    StreamDrained,
    StreamEvent,
    StreamFailed,
    StreamResult,
    Taken,
    Vertex,
    WorkerObserved,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.errors import HandoffError
from handoff_actors.graph.function import Function
from handoff_actors.graph.streams.stream_plan import StreamPlan, StreamVertex
from handoff_actors.wire.messages.stage_rows import (
    CloseStage,
    FinishStage,
    Generate,
    GenerateMore,
    RunBatch,
    RunChunk,
    RunItem,
    ToStage,
    ValueRow,
)

_PRIME: Final = 1_000_003
#: Worlds of these seeds, and those behind, are chains, in which items are pushed together and travel in chunks.
CHAINS_FROM: Final = 1_000_000_000
#: Simulated seconds after which a world that has not ended is stuck.
_TOO_LONG_S: Final = 100_000.0


def _code() -> None:
    """Stand for the code of a stage."""


@dataclass
class Rule:
    """What a stage does with an item."""

    salt: int
    #: Shares of 1,000, by the hash of what it takes.
    skips: int = 0
    fails: int = 0
    raises_once: int = 0
    kills_once: int = 0
    kills: int = 0
    hangs_once: int = 0
    hangs: int = 0
    #: At most so many results of a generator.
    most: int = 0
    stores: int = 0
    seconds: float = 0.001

    def hash_of(self, values: tuple[int, ...]) -> int:
        mixed = self.salt
        for value in values:
            mixed = (mixed * 31 + value + 7) % _PRIME
        return mixed

    def fate(self, values: tuple[int, ...]) -> str:
        at = self.hash_of((*values, 17)) % 1000
        for name in ("skips", "fails", "raises_once", "kills_once", "kills", "hangs_once", "hangs"):
            at -= getattr(self, name)
            if at < 0:
                return name
        return ""

    def results(self, values: tuple[int, ...]) -> list[int]:
        return [
            self.hash_of((*values, place)) for place in range(self.hash_of((*values, 3)) % (self.most + 1))
        ]


Result = tuple[str, Any]


class StreamOracle:
    """What has to come out of a push."""

    def __init__(self, plan: StreamPlan, rules: dict[Vertex, Rule]) -> None:
        self._plan, self._rules = plan, rules

    def results(self, pushed: tuple[int, ...]) -> list[Result]:
        """The results in order: ("value", by sink) or ("failure", stage)."""
        known: dict[Vertex, dict[tuple[int, ...], Any]] = {
            number: {(): value} for number, value in zip(self._plan.inputs, pushed, strict=True)
        }
        for vertex in self._plan.vertices:
            if not vertex.is_input:
                known[vertex.number] = self._at(vertex, [known[each] for each in vertex.producers])
        sinks = [known[sink] for sink in self._plan.sinks]
        results: list[Result] = []
        for key in sorted(sinks[0]):
            outcomes = {sink: values[key] for sink, values in zip(self._plan.sinks, sinks, strict=True)}
            failed = next(
                (each for each in outcomes.values() if isinstance(each, str) and each != "skipped"), None
            )
            if failed is not None:
                results.append(("failure", failed))
            elif any(each != "skipped" for each in outcomes.values()):
                results.append(("value", outcomes))
        return results

    def _at(
        self, vertex: StreamVertex, given: list[dict[tuple[int, ...], Any]]
    ) -> dict[tuple[int, ...], Any]:
        found: dict[tuple[int, ...], Any] = {}
        for key in given[0]:
            values = tuple(each[key] for each in given)
            failed = next((each for each in values if isinstance(each, str) and each != "skipped"), None)
            if failed is not None or "skipped" in values:
                found[key] = failed or "skipped"
            else:
                found |= self._called(vertex, key, values)
        return found

    def _called(
        self, vertex: StreamVertex, key: tuple[int, ...], values: tuple[int, ...]
    ) -> dict[tuple[int, ...], Any]:
        rule = self._rules[vertex.number]
        fate = rule.fate(values)
        if fate in {"fails", "kills", "hangs"}:
            return {key: f"{vertex.number}"}
        if vertex.is_generator:
            return {(*key, place): value for place, value in enumerate(rule.results(values))}
        return {key: "skipped" if fate == "skips" else rule.hash_of(values)}


def _numbers(values: Any) -> tuple[int, ...]:
    """The values of a row, in which this world has put numbers."""
    return tuple(values)


@dataclass(eq=False)
class SimulatedLane:
    """A worker."""

    place: LanePlace
    stage: Vertex
    lane: int
    rows: list[ToStage] = field(default_factory=list)
    current: ToStage | None = None
    is_busy: bool = False
    is_dead: bool = False
    #: Generators that wait for credit: the results that are left, and how many may be sent.
    open: dict[int, tuple[list[int], int]] = field(default_factory=dict)
    stored: int = 0


class StreamWorld:
    """One stream from its first push to its end."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        random = self.random
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.plan, self.rules = make_plan(random, is_chain=seed >= CHAINS_FROM)
        self.pushes_together = Random(seed + 2).choice([1, 5, 64]) if seed >= CHAINS_FROM else 1
        self.max_retries = random.choice([0, 0, 1, 3])
        self._set_limits(seed)
        self.options = StreamOptions(
            in_flight=random.choice([1, 2, 5, 20, 64] if seed < CHAINS_FROM else [8, 64, 400]),
            in_flight_nbytes=random.choice([1, 50, 1000, 10**9]),
            ordered=random.random() < 0.7,
            join_timeout_s=random.choice([None, None, None, 0.05]),
            max_retries=self.max_retries,
            is_observed=True,
        )
        #: Items that `on_event` was told to have failed, and workers that it was told to be up.
        self.told_failed: set[int] = set()
        self.events_fed = 0
        self.told_up: set[tuple[Vertex, int, str]] = set()
        self.oracle = StreamOracle(self.plan, self.rules)
        self.machine = StreamMachine(self.plan, self.options)
        self.nodes = [f"n{number}" for number in range(random.randint(1, 3))]
        self.stores: dict[str, dict[int, int]] = {name: {} for name in [*self.nodes, ""]}
        self.lanes: dict[tuple[Vertex, int], SimulatedLane] = {}
        self._attempts = itertools.count(1)
        self._indices = itertools.count(1 << 20)
        #: What was done once to an item, so that it is not done again.
        self._once: set[tuple[Vertex, tuple[int, ...]]] = set()
        #: The worker to which the items of a key go.
        self._lane_of_key: dict[tuple[Vertex, int], int] = {}
        #: Workers that were stopped while they were starting.
        self._stopped: set[tuple[Vertex, int]] = set()
        #: Stages at which a whole batch has hung, so that items which do not hang may have failed with the others.
        self._hung_batches: set[Vertex] = set()
        #: When an item that has failed may be tried again, by its number at its stage.
        self._not_before: dict[int, float] = {}
        #: Items that were on a worker when it died for no fault of theirs.
        self._died: set[int] = set()
        self.deaths = random.choice([0.0, 0.0, 0.002, 0.01])
        self.node_losses = random.choice([0, 0, 1, 3])
        self.pushes = random.randint(1, 60)
        if seed >= CHAINS_FROM:
            self._prefer_chunks()
        self.is_leaving = False
        #: A node that drains.
        self.leaver = random.choice(self.nodes[1:]) if len(self.nodes) > 1 and random.random() < 0.3 else None
        #: An owner that leaves, and when.
        self.leaves: tuple[int, float] | None = (
            (random.randint(0, 2), random.random()) if random.random() < 0.2 else None
        )
        #: The shell is so late to wake the machine: events that come meanwhile are first.
        self.wakes_after_s = Random(seed + 1).choice([0.0, 0.0, 0.002, 0.05])
        #: When workers have to start again for further modules.
        renewing = Random(seed + 5)
        self.renewals = [renewing.random() * 0.5 for _ in range(renewing.choice([0, 0, 0, 2]))]
        #: Share of the results that are gone when the app fetches them.
        self._fetches = Random(seed + 3)
        self.result_losses = self._fetches.choice([0.0, 0.0, 0.1, 0.5])
        #: Results that are not in the app yet, by owner.
        self.handed_out: dict[int, deque[StreamResult]] = {}
        #: How often a result was lost, by the index that it had first.
        self._losses = Counter[int]()
        self.is_slow_to_take = random.random() < 0.3
        self.pushed: dict[int, tuple[int, ...]] = {}
        self.owner_of: dict[int, int] = {}
        self.taken: dict[int, list[StreamResult]] = {}
        self.order_taken: dict[int, list[int]] = {}
        self.out: set[int] = set()
        self.is_drained = False
        self.failed: HandoffError | None = None

    def _prefer_chunks(self) -> None:
        """Make items of a chain so many and so short that they travel together."""
        self.pushes *= 5
        for rule in self.rules.values():
            rule.seconds = self.random.choice([0.00001, 0.00001, 0.001])
            rule.stores = self.random.choice([0, 0, 0, rule.stores])

    def _set_limits(self, seed: int) -> None:
        if not self.max_retries:
            for rule in self.rules.values():
                rule.raises_once = rule.hangs_once = 0
        self._let_batches_hang(Random(seed + 2))
        self._have_pauses(Random(seed + 4))

    def _let_batches_hang(self, random: Random) -> None:
        if random.random() < 0.6:
            return
        for vertex in self.plan.vertices:
            if vertex.is_batched:
                vertex.function.timeout = 0.5
                rule = self.rules[vertex.number]
                rule.hangs_once = random.choice([0, 50, 200]) if self.max_retries else 0
                rule.hangs = random.choice([0, 20])

    def _have_pauses(self, random: Random) -> None:
        for vertex in self.plan.vertices:
            if not vertex.is_input and random.random() < 0.2:
                vertex.function.retry_backoff = (random.choice([0.02, 1.0]), 2.0, 2.0)

    # --- Time ---------------------------------------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def run(self) -> None:
        """Run to the end. Raises AssertionError for anything that is not as it must be."""
        self.perform(self.machine.start(self.now))
        self.later(0.0, self._push)
        if self.leaves is not None:
            self.later(self.leaves[1], self._leave)
        if self.leaver is not None:
            self.later(self.random.random() * 0.5, self._leave_node)
        for at in self.renewals:
            self.later(at, lambda: self.feed(ModulesAdded()))
        for _ in range(self.node_losses):
            self.later(self.random.random() * 0.5, self._lose_node)
        while not (self.is_drained and not self._has_untaken) and self.failed is None:
            self._step()
        if "while finish gave the last results" in str(self.failed) and self._may_lose_workers:
            return
        if self.failed is not None:
            raise AssertionError(f"the stream has failed: {self.failed}")
        self._check_end()

    @property
    def _may_lose_workers(self) -> bool:
        return self.node_losses > 0 or self.deaths > 0

    @property
    def _has_untaken(self) -> bool:
        return bool(self.machine.in_flight)

    def _step(self) -> None:
        wake_at = self.machine.wake_at
        if self._events and (wake_at is None or self._events[0][0] <= wake_at + self.wakes_after_s):
            self.now, _, action = heapq.heappop(self._events)
            action()
        else:
            assert wake_at is not None, f"nothing goes on: {self._where()}"
            self.now = max(self.now, wake_at + self.wakes_after_s)
            self.perform(self.machine.wake(self.now))
        assert self.now < _TOO_LONG_S, f"it takes for ever: {self._where()}"
        self.machine.check()

    def _where(self) -> str:
        return f"{len(self.pushed)} of {self.pushes} pushed, {self.machine.in_flight} in flight, drained: {self.is_drained}"

    def feed(self, event: StreamEvent) -> None:
        if isinstance(event, StageEnded):
            self._note_pauses(event)
        self.perform(self.machine.handle(event, self.now))
        self.events_fed += 1
        if self.events_fed % 10 == 0 and not self.machine._is_over:
            self._explain()

    def _explain(self) -> None:
        """Ask where each item is: those in flight are somewhere."""
        for number in self.machine._flow.results.items:
            assert self.machine.view.explain(number).places, f"item {number} is nowhere"

    def _note_pauses(self, event: StageEnded) -> None:
        stage, lane = self.machine._workers.at(event.place)
        backoff = None if stage is None else stage.vertex.function.retry_backoff
        if lane is None or backoff is None:
            return
        for end in event.ends:
            if isinstance(end.outcome, ItemFailure) and end.number in lane.outstanding:
                self._not_before[end.number] = self.now + backoff[0] / 2

    def _check_pause(self, row: ToStage) -> None:
        match row:
            case RunItem(number):
                numbers = [number]
            case RunBatch(items):
                numbers = [number for number, _ in items]
            case _:
                numbers = []
        for number in numbers:
            assert self.now >= self._not_before.get(number, 0.0), f"{row} comes before its pause is over"

    # --- The app ------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        while self.machine.has_room and len(self.pushed) < self.pushes:
            self.feed(Pushed(self._new_items()))
            if self.random.random() < 0.2:
                self.later(self.random.random() * 0.01, self._push)
                return
        if len(self.pushed) == self.pushes:
            self.feed(DrainStream())

    def _new_items(self) -> list[NewItem]:
        most = min(self.machine.room, self.pushes_together, self.pushes - len(self.pushed))
        number = self.machine.next_number
        items: list[NewItem] = []
        for place in range(self.random.randint(1, most) if most > 1 else 1):
            items.append(self._new_item(number + place))
            if any(isinstance(value, Stored) for value, _ in items[-1].values):
                # Whether there is room for another depends on the bytes of this one.
                break
        return items

    def _new_item(self, number: int) -> NewItem:
        values = tuple(self.random.randrange(_PRIME) for _ in self.plan.inputs)
        owner = self.random.choice([0, 0, 1, 2])
        self.pushed[number], self.owner_of[number] = values, owner
        given: list[tuple[bytes | Stored, list[int]]] = []
        for vertex, value in zip(self.plan.inputs, values, strict=True):
            given.append((self._keep(value, "", 200), self._keys(vertex, value)))
        return NewItem(number, owner, given)

    def _keep(self, value: int, node: str, stores: int) -> bytes | Stored:
        if self.random.randrange(1000) >= stores:
            return b"%d" % value
        index = next(self._indices)
        self.stores[node][index] = value
        return Stored(index, self.random.choice([10, 100]), node)

    def _keys(self, vertex: Vertex, value: int) -> list[int]:
        targets = [target for target, _ in self.plan.vertices[vertex].consumers]
        return [value % 7 for target in targets if self.plan.vertices[target].function.key is not None]

    def _leave(self) -> None:
        assert self.leaves is not None
        owner, _ = self.leaves
        self.feed(OwnerGone(owner))
        self.handed_out.get(owner, deque()).clear()

    def _take(self, owner: int, results: list[StreamResult]) -> None:
        for result in results:
            self.taken.setdefault(result.number, []).append(result)
            self.order_taken.setdefault(owner, []).append(result.number)
        if self.is_slow_to_take:
            for _ in results:
                self.later(self.random.random() * 0.05, lambda: self.feed(Taken(owner, 1)))
        else:
            self.later(0.0, lambda: self.feed(Taken(owner, len(results))))

    # --- Effects ------------------------------------------------------------------------------------------------

    def perform(self, effects: list[Any]) -> None:
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Any) -> None:  # noqa: C901, PLR0912 - one table
        match effect:
            case StartLane(stage, lane):
                self._stopped.discard((stage, lane))
                self.later(self.random.random() * 0.1, lambda: self._lane_up(stage, lane))
            case SendToStage(place, rows, needs):
                self.later(self._latency(place), lambda: self._receive(place, list(rows), list(needs)))
            case ResultsReady(owner, results):
                self.handed_out.setdefault(owner, deque()).extend(
                    each for result in results for each in _apart(result)
                )
                self._fetch(owner)
            case ItemOut(_, number, count):
                out = range(number, number + count)
                assert self.out.isdisjoint(out), "an item is out twice"
                self.out.update(out)
            case PushRoomFreed():
                self.later(0.0, self._push)
            case StopLane(stage, lane):
                self._stop(stage, lane)
            case DropValues(values):
                for value in values:
                    self.stores[value.node].pop(value.index, None)
            case ItemObserved(change, number):
                if change == "failed":
                    self.told_failed.add(number)
            case WorkerObserved(stage, lane, node, is_up):
                assert (stage, lane, node) in self.told_up or is_up, "a worker is gone that was not there"
                (self.told_up.add if is_up else self.told_up.remove)((stage, lane, node))
            case StreamFailed(error):
                self.failed = error
            case StreamDrained():
                self.is_drained = True
            case _:
                raise AssertionError(effect)

    def _latency(self, place: LanePlace) -> float:
        # Messages to one place keep their order.
        return 0.001 + place.attempt % 7 * 0.0001

    def _fetch(self, owner: int) -> None:
        """Bring the results of an owner into the app, one after the other, and have it take them."""
        results = self.handed_out[owner]
        while results:
            result = self._with_values(results[0])
            if result is None:
                self.later(0.01, lambda: self._fetch(owner))
                return
            results.popleft()
            self._take(owner, [result])

    def _with_values(self, result: StreamResult) -> StreamResult | None:
        """The result with numbers in place of values; None while one of them can't be had."""
        if isinstance(result.outcome, ItemFailure):
            assert result.number in self.told_failed, "an item has failed that nobody was told of"
            return result
        numbers = {sink: self._number(value) for sink, value in result.outcome.items()}
        return None if None in numbers.values() else StreamResult(result.number, numbers)

    def _number(self, value: ItemOutcome) -> Any:
        now = self.machine.current(value)
        if isinstance(now, Stored):
            assert isinstance(value, Stored)
            if self._fetches.random() < self.result_losses and self._losses[value.index] < 2:
                self._losses[value.index] += 1
                self.stores[now.node].pop(now.index, None)
            if now.index not in self.stores[now.node]:
                self.later(0.001, lambda: self.feed(ResultLost(now, "it is not there")))
            return self.stores[now.node].get(now.index)
        if isinstance(now, ItemFailure):
            return "lost"
        assert not isinstance(now, ItemChunk)
        return "skipped" if isinstance(now, ItemSkipped) else None if now is None else int(now)

    # --- Workers ------------------------------------------------------------------------------------------------

    def _lane_up(self, stage: Vertex, lane: int) -> None:
        if self.machine._is_over or (stage, lane) in self._stopped:
            return
        staying = [name for name in self.nodes if not (self.is_leaving and name == self.leaver)]
        node = self.random.choice(staying or self.nodes)
        place = LanePlace(node, stage * 100 + lane, next(self._attempts))
        self.lanes[stage, lane] = SimulatedLane(place, stage, lane)
        self.feed(LaneUp(stage, lane, place))

    def _at(self, place: LanePlace) -> SimulatedLane | None:
        return next((each for each in self.lanes.values() if each.place == place and not each.is_dead), None)

    def _receive(self, place: LanePlace, rows: list[ToStage], needs: list[Stored]) -> None:
        lane = self._at(place)
        if lane is None:
            return
        for value in needs:
            if value.index not in self.stores[value.node]:
                self.feed(InputLost(place, value.index, "nobody has it"))
                return
            # A copy on the node of the worker, under the same name.
            self.stores[place.node][value.index] = self.stores[value.node][value.index]
        self._values = {value.index: self.stores[value.node][value.index] for value in needs}
        for row in rows:
            self._check_pause(row)
        lane.rows += [self._with_numbers(row) for row in rows]
        self._work(lane)

    def _with_numbers(self, row: ToStage) -> ToStage:
        def number(value: ValueRow) -> Any:
            return int(value) if isinstance(value, bytes) else self._values[value[0]]

        match row:
            case RunItem(item, values):
                return RunItem(item, [number(value) for value in values])
            case RunChunk(item, values):
                return RunChunk(item, [number(value) for value in values])
            case RunBatch(items, chunks):
                return RunBatch(
                    [(item, [number(value) for value in values]) for item, values in items], chunks
                )
            case Generate(item, values, skipped, credit):
                return Generate(item, [number(value) for value in values], skipped, credit)
        return row

    def _work(self, lane: SimulatedLane) -> None:
        if lane.is_busy or lane.is_dead or not lane.rows:
            return
        lane.is_busy = True
        row = lane.current = lane.rows.pop(0)
        seconds = self.rules[lane.stage].seconds * self.random.random() * 2

        def end() -> None:
            if lane.is_dead:
                return
            if self._hangs(lane, row):
                # Until the time limit of the stage is over.
                return
            lane.is_busy = False
            if self.random.random() < self.deaths and not self._has_died_before(row):
                self._note_death(row)
                self._kill(lane)
                return
            self._end(lane, row, seconds)
            self._work(lane)

        self.later(seconds, end)

    def _hangs(self, lane: SimulatedLane, row: ToStage) -> bool:
        if isinstance(row, RunBatch):
            if not any(self._item_hangs(lane.stage, _numbers(values)) for values in row.values):
                return False
            self._hung_batches.add(lane.stage)
            return True
        if isinstance(row, RunChunk):
            return self._chunk_hangs(lane, row)
        return isinstance(row, RunItem | Generate) and self._item_hangs(lane.stage, _numbers(row.values))

    def _chunk_hangs(self, lane: SimulatedLane, chunk: RunChunk) -> bool:
        for place, value in enumerate(chunk.values):
            if self._item_hangs(lane.stage, (value,)):  # type: ignore[arg-type] # this world has put a number there
                if place and self.random.random() < 0.5:
                    self._chunk_ended(lane, chunk.number, chunk.values[:place], 0.0)
                return True
        return False

    def _item_hangs(self, stage: Vertex, values: tuple[int, ...]) -> bool:
        rule = self.rules[stage]
        if rule.fate(values) == "hangs_once" and (stage, values) in self._once:
            return False
        if rule.fate(values) == "hangs_once":
            self._once.add((stage, values))
        return rule.fate(values) in {"hangs", "hangs_once"}

    def _end(self, lane: SimulatedLane, row: ToStage, seconds: float) -> None:  # noqa: C901 - one table
        match row:
            case RunItem(item, values):
                self._ended(lane, item, values, seconds)
            case RunChunk(item, values):
                self._chunk_ended(lane, item, values, seconds)
            case RunBatch():
                self._batch_ended(lane, row, seconds)
            case Generate(item, values, skipped, credit):
                self._generate(lane, item, _numbers(values), skipped, credit, seconds)
            case GenerateMore(item, credit):
                if item in lane.open and not credit:
                    del lane.open[item]
                elif item in lane.open:
                    left, before = lane.open[item]
                    lane.open[item] = left, before + credit
                    self._give(lane, item, seconds)
            case FinishStage(item, credit):
                lane.open[item] = [lane.place.index, 5], credit
                self._give(lane, item, seconds)
            case CloseStage():
                lane.is_dead = True
                self.later(0.001, lambda: self.feed(LaneClosed(lane.stage, lane.lane)))

    def _ended(self, lane: SimulatedLane, item: int, values: Sequence[Any], seconds: float) -> None:
        came = self._outcomes(lane, [values])
        if came is None:
            self._kill(lane)
        else:
            self._reply(lane, StageEnded(lane.place, [StageEnd(item, *came[0])], seconds))

    def _batch_ended(self, lane: SimulatedLane, batch: RunBatch, seconds: float) -> None:
        events: list[StreamEvent] = []
        for item, values in batch.items:
            if item in batch.chunks:
                came = self._outcomes(lane, [(value,) for value in values])
                given = [outcome for outcome, _ in came or []]
                events.append(StageChunkEnded(lane.place, item, given, seconds))
            else:
                came = self._outcomes(lane, [values])
                ends = [StageEnd(item, *each) for each in came or []]
                events.append(StageEnded(lane.place, ends, seconds))
            if came is None:
                self._drop_values_of(events)
                self._kill(lane)
                return
        for event in events:
            self._reply(lane, event)

    def _drop_values_of(self, events: Sequence[StreamEvent]) -> None:
        """What was made before goes with the worker."""
        for event in events:
            if isinstance(event, StageEnded):
                self._drop([end.outcome for end in event.ends])
            elif isinstance(event, StageChunkEnded):
                self._drop(event.outcomes)

    def _drop(self, outcomes: Sequence[ItemOutcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Stored):
                del self.stores[outcome.node][outcome.index]

    def _outcomes(
        self, lane: SimulatedLane, items: Sequence[Sequence[Any]]
    ) -> list[tuple[ItemOutcome, list[int]]] | None:
        """What items end with; None: one of them kills the worker."""
        rule = self.rules[lane.stage]
        outcomes: list[tuple[ItemOutcome, list[int]]] = []
        for values in items:
            taken = _numbers(values)
            self._check_key(lane, taken)
            fate = self._fate(lane, taken)
            if fate == "kills":
                self._drop([outcome for outcome, _ in outcomes])
                return None
            outcomes.append(self._outcome(lane, rule, fate, taken))
        return outcomes

    def _check_key(self, lane: SimulatedLane, values: tuple[int, ...]) -> None:
        if self.plan.vertices[lane.stage].function.key is not None:
            known = self._lane_of_key.setdefault((lane.stage, values[0] % 7), lane.lane)
            assert known == lane.lane, "a key is divided among workers"

    def _chunk_ended(self, lane: SimulatedLane, item: int, values: Sequence[Any], seconds: float) -> None:
        outcomes: list[ItemOutcome] = []
        for value in values:
            came = self._outcomes(lane, [(value,)])
            if came is None:
                self._drop(outcomes)
                self._kill(lane)
                return
            outcomes.append(came[0][0])
            if self.random.random() < 0.1:
                self._reply(lane, StageChunkEnded(lane.place, item, outcomes, seconds))
                outcomes = []
        if outcomes:
            self._reply(lane, StageChunkEnded(lane.place, item, outcomes, seconds))

    def _fate(self, lane: SimulatedLane, values: tuple[int, ...]) -> str:
        fate = self.rules[lane.stage].fate(values)
        if fate.endswith("_once"):
            key = lane.stage, values
            if key in self._once:
                return ""
            self._once.add(key)
            return {"kills_once": "kills", "raises_once": "raises", "hangs_once": "hangs"}[fate]
        return fate

    def _outcome(
        self, lane: SimulatedLane, rule: Rule, fate: str, values: tuple[int, ...]
    ) -> tuple[ItemOutcome, list[int]]:
        if fate == "skips":
            return SKIPPED, []
        if fate in {"fails", "raises"}:
            return ItemFailure("exception", b"", fate, "never" if fate == "fails" else ""), []
        value = rule.hash_of(values)
        return self._keep(value, lane.place.node, rule.stores), self._keys(lane.stage, value)

    def _generate(
        self,
        lane: SimulatedLane,
        item: int,
        values: tuple[int, ...],
        skipped: int,
        credit: int,
        seconds: float,
    ) -> None:
        fate = self._fate(lane, values)
        if fate == "kills":
            self._kill(lane)
        elif fate in {"fails", "raises"}:
            failure = ItemFailure("exception", b"", fate, "never" if fate == "fails" else "")
            self._reply(lane, StageGenerated(lane.place, item, [], True, failure, seconds))
        else:
            lane.open[item] = self.rules[lane.stage].results(values)[skipped:], credit
            self._give(lane, item, seconds)

    def _give(self, lane: SimulatedLane, item: int, seconds: float) -> None:
        left, credit = lane.open.pop(item)
        given, left = left[:credit], left[credit:]
        if left:
            lane.open[item] = left, credit - len(given)
        rule = self.rules[lane.stage]
        ends = [
            StageEnd(item, self._keep(value, lane.place.node, rule.stores), self._keys(lane.stage, value))
            for value in given
        ]
        if ends or not left:
            self._reply(lane, StageGenerated(lane.place, item, ends, not left, None, seconds))

    def _reply(self, lane: SimulatedLane, event: StreamEvent) -> None:
        def arrive() -> None:
            # A node passes on what a worker said before it died, unless the node is gone, too.
            if lane.place.node in self.nodes:
                self.feed(event)

        self.later(self._latency(lane.place), arrive)

    # --- Losses -------------------------------------------------------------------------------------------------

    def _kill(self, lane: SimulatedLane) -> None:
        if lane.is_dead:
            return
        lane.is_dead = True
        stage, number = lane.stage, lane.lane
        if self.random.random() < 0.8:
            self.later(0.05, lambda: self._lane_up(stage, number))
        else:
            error = HandoffError("it was lost too often")
            self.later(0.05, lambda: self.feed(LaneLost(stage, number, error, is_loss=True)))

    def _stop(self, stage: Vertex, number: int) -> None:
        lane = self.lanes.get((stage, number))
        if lane is None or lane.is_dead:
            # It starts, which it does no more.
            self._stopped.add((stage, number))
        else:
            lane.is_dead = True
        self.later(0.05, lambda: self.feed(LaneClosed(stage, number)))

    def _has_died_before(self, row: ToStage | None) -> bool:
        """True for items that must not seem to kill their workers."""
        return not self._died.isdisjoint(_numbers_in(row))

    def _note_death(self, row: ToStage | None) -> None:
        self._died.update(_numbers_in(row))

    def _leave_node(self) -> None:
        """Have a node drain, and say so more than once, as it does with each advert."""
        self.is_leaving = True
        for _ in range(3):
            self.later(self.random.random() * 0.2, lambda: self.feed(NodeLeaving(self.leaver or "")))

    def _lose_node(self) -> None:
        if len(self.nodes) == 1:
            return
        name = self.random.choice(self.nodes)
        here = [lane for lane in self.lanes.values() if lane.place.node == name and not lane.is_dead]
        if any(self._has_died_before(lane.current) for lane in here):
            self.later(0.05, self._lose_node)
            return
        for lane in here:
            self._note_death(lane.current)
        self.nodes.remove(name)
        self.stores[name].clear()
        for lane in list(self.lanes.values()):
            if lane.place.node == name:
                self._kill(lane)
        self.later(0.02, lambda: self.feed(NodeGone(name)))

    # --- What must hold -----------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        for number, values in self.pushed.items():
            assert number in self.out, f"item {number} is not out"
            if self.leaves is None or self.owner_of[number] != self.leaves[0]:
                self._check_results(number, self.oracle.results(values), self.taken.get(number, []))
        self._check_finish()
        if self.options.ordered:
            for owner, numbers in self.order_taken.items():
                pushed = [number for number in numbers if number in self.pushed]
                assert pushed == sorted(pushed), f"the results of {owner} are not in order"
        left = {name: values for name, values in self.stores.items() if values}
        assert not left, f"values are left: {left}"
        self._check_memory()

    def _check_memory(self) -> None:
        """Nothing is kept in the machine of what is over."""
        flow = self.machine._flow
        values = flow.values
        kept = [
            values._users,
            values._places,
            values._makers,
            values._replaced,
            values._copies,
            flow.results._owners,
        ]
        kept += [queue._numbers for stage in flow.stages.values() for queue in stage.queues]
        assert not any(kept), f"the machine keeps {[each for each in kept if each]}"
        assert flow.is_quiet, "something waits"
        assert values.nbytes == 0, f"{values.nbytes} bytes are not released"

    def _check_finish(self) -> None:
        """Each worker of a stage gives two results at the end, which come out where the stage is a sink."""
        [*sinks] = self.plan.sinks
        if len(sinks) > 1 or self.plan.vertices[sinks[0]].function.finish is None or self.leaves is not None:
            return
        last = [results for number, results in self.taken.items() if number not in self.pushed]
        values = [
            result for results in last for result in results if not isinstance(result.outcome, ItemFailure)
        ]
        stages = [vertex for vertex in self.plan.vertices if vertex.function.finish is not None]
        if len(stages) == 1:
            assert len(values) % 2 == 0, f"finish has given {values}"
            assert len(values) >= 2, "finish was not called"

    def _check_results(self, number: int, expected: list[Result], results: list[StreamResult]) -> None:
        if any(map(self._is_for_others, results)):
            return
        assert len(results) == len(expected), f"item {number}: {results} and not {expected}"
        seen = [self._as_expected(result) for result in results]
        if not self.options.ordered:
            found = [each for each in seen if not self._is_excused(each)]
            assert not Counter(map(repr, found)) - Counter(map(repr, expected)), (
                f"item {number}: {seen} and not {expected}"
            )
            return
        for one, other in zip(seen, expected, strict=True):
            assert one == other or self._is_excused(one), f"item {number}: {one} and not {other}"

    def _is_for_others(self, result: StreamResult) -> bool:
        """True if an item may have failed for what others have done, whatever it would have come to."""
        failure = result.outcome
        if not isinstance(failure, ItemFailure):
            return False
        if failure.kind == "join_timeout":
            return True
        # A batch that hangs costs each of its items a try, which may be the last that it has.
        is_tried_out = failure.attempts == self.max_retries + 1 and failure.kind in {"timeout", "exception"}
        return is_tried_out and failure.stage in self._hung_batches

    def _as_expected(self, result: StreamResult) -> Result:
        if isinstance(result.outcome, ItemFailure):
            return ("failure", f"{result.outcome.stage}" if result.outcome.kind != "lost" else "lost")
        return ("value", dict(result.outcome))

    def _is_excused(self, result: Result) -> bool:
        """A value that was lost with its node, and can't be made again."""
        return (self.node_losses > 0 or self.result_losses > 0) and "lost" in repr(result)


def _numbers_in(row: ToStage | None) -> list[int]:
    """The numbers of the works that a worker has with a row."""
    match row:
        case RunBatch(items):
            return [number for number, _ in items]
        case RunItem() | RunChunk() | Generate() | GenerateMore():
            return [row.number]
        case _:
            return []


def _apart(result: StreamResult) -> list[StreamResult]:
    """The results of the items of a chunk."""
    if isinstance(result.outcome, ItemFailure):
        return [result]
    [(sink, value), *_] = result.outcome.items()
    if not isinstance(value, ItemChunk):
        return [result]
    return [StreamResult(result.number + place, {sink: each}) for place, each in enumerate(value.values)]


def make_plan(random: Random, *, is_chain: bool) -> tuple[StreamPlan, dict[Vertex, Rule]]:
    """Make a graph, with a rule for each stage."""
    inputs = 1 if is_chain else random.choice([1, 1, 1, 2])
    vertices = [
        StreamVertex(number, Function(f"in{number}", [], None, type="input")) for number in range(inputs)
    ]
    rules: dict[Vertex, Rule] = {}
    has_losses = random.random() < 0.5
    for number in range(inputs, inputs + random.randint(1, 6)):
        vertex = _make_stage(number, vertices, random, is_chain=is_chain)
        rules[number] = rule = _make_rule(random, has_losses=has_losses, is_generator=vertex.is_generator)
        if vertex.function.timeout is not None and not vertex.function.batch_size:
            rule.hangs_once, rule.hangs = random.choice([0, 50]), random.choice([0, 20])
        vertices.append(vertex)
    return _finished(vertices, rules)


def _make_stage(
    number: Vertex, before: list[StreamVertex], random: Random, *, is_chain: bool
) -> StreamVertex:
    first = before[-1] if is_chain else random.choice(before[-3:])
    alike = [each for each in before if _behind(each, before) == _behind(first, before) and not is_chain]
    producers = {
        first.number,
        *(each.number for each in random.sample(alike, random.randint(0, min(2, len(alike))))),
    }
    is_generator = random.random() < 0.15 and not is_chain
    options: dict[str, Any] = {}
    if not is_generator and random.random() < 0.2:
        options["batch_size"] = random.choice([1, 3, 8])
        if random.random() < 0.5:
            options["batch_timeout"] = random.choice([0.01, 0.5])
    if len(producers) == 1 and random.random() < 0.2:
        options["key"] = _code
    if random.random() < 0.4:
        options["parallelism"] = random.choice([2, 3, (1, 4)])
    if random.random() < 0.15:
        options["timeout"] = 0.5
    vertex = StreamVertex(number, Function(f"s{number}", [], _code, **options), tuple(sorted(producers)))
    vertex.is_generator = is_generator
    vertex.depth = len(_generators(vertex, before))
    if random.random() < 0.2:
        vertex.function.init = vertex.function.finish = _code
    return vertex


def _generators(vertex: StreamVertex, before: list[StreamVertex]) -> tuple[int, ...]:
    """The generators on the way to a vertex."""
    return _behind(before[vertex.producers[0]], before) if vertex.producers else ()


def _behind(vertex: StreamVertex, before: list[StreamVertex]) -> tuple[int, ...]:
    """The generators on the way to what comes out of a vertex."""
    return (*_generators(vertex, before), *((vertex.number,) if vertex.is_generator else ()))


def _make_rule(random: Random, *, has_losses: bool, is_generator: bool) -> Rule:
    some = random.choice([0, 0, 50, 200])
    return Rule(
        random.randrange(_PRIME),
        skips=0 if is_generator else some,
        fails=random.choice([0, 0, 50]),
        raises_once=random.choice([0, 50]),
        kills_once=random.choice([0, 50]) if has_losses else 0,
        kills=random.choice([0, 0, 20]) if has_losses else 0,
        most=random.choice([0, 1, 3, 12]) if is_generator else 0,
        stores=random.choice([0, 0, 300, 1000]),
        seconds=random.choice([0.00001, 0.001, 0.02]),
    )


def _finished(
    vertices: list[StreamVertex], rules: dict[Vertex, Rule]
) -> tuple[StreamPlan, dict[Vertex, Rule]]:
    """The plan of what leads to the last vertex, or to one behind the same generators."""

    used = {producer for vertex in vertices for producer in vertex.producers}
    sinks = [
        vertex
        for vertex in vertices
        if vertex.number not in used and _behind(vertex, vertices) == _behind(vertices[-1], vertices)
    ]
    needed = {sink.number for sink in sinks}
    for vertex in reversed(vertices):
        if vertex.number in needed:
            needed.update(vertex.producers)
    numbers = {old: new for new, old in enumerate(sorted(needed))}
    kept = [vertices[old] for old in numbers]
    for vertex in kept:
        vertex.number = numbers[vertex.number]
        vertex.producers = tuple(numbers[producer] for producer in vertex.producers)
    for vertex in kept:
        for position, producer in enumerate(vertex.producers):
            kept[producer].consumers.append((vertex.number, position))
    for vertex in kept:
        if vertex.function.finish is not None and _is_joined_behind(vertex, kept):
            vertex.function.finish = None
    inputs = [vertex.number for vertex in kept if vertex.is_input]
    plan = StreamPlan("simulated", kept, inputs, [vertex.number for vertex in kept if not vertex.consumers])
    return plan, {numbers[old]: rule for old, rule in rules.items() if old in numbers}


def _is_joined_behind(vertex: StreamVertex, vertices: list[StreamVertex]) -> bool:
    """True if something behind a vertex also takes from one that is not: what `finish` gives would find nothing to be joined with."""
    behind = {vertex.number}
    for other in vertices:
        if behind.intersection(other.producers):
            behind.add(other.number)
            if not behind.issuperset(other.producers):
                return True
    return sum(not other.consumers for other in vertices) > 1


def run_stream_world(seed: int) -> None:
    """Run the world of a seed."""
    StreamWorld(seed).run()
