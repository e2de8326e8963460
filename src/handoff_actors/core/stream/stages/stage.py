"""One stage of a stream: the items that wait for it, and which of its workers gets which."""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, cast

from handoff_actors.core.stream.events import ItemOutcome, Stored
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.core.stream.stages.pauses import Pauses
from handoff_actors.core.stream.stages.work_queue import Gate, WorkQueue, current_values, is_lost
from handoff_actors.graph.streams.stream_plan import StreamVertex
from handoff_actors.moving_average import smoothed
from handoff_actors.wire.messages.stage_rows import (
    Generate,
    GenerateMore,
    RunBatch,
    RunChunk,
    RunItem,
    ValueRow,
)

#: A worker is given about so much to do beyond what it works on, so that it never waits for a message.
AHEAD_S: Final = 0.005
#: Overhead of a worker per item, besides the user's code.
OVERHEAD_S: Final = 0.000002
MAX_AHEAD: Final = 4096
#: Weight of the latest answer in the moving average of the time that an item takes.
SMOOTHING: Final = 0.3
#: An item ends as a failure when it was so often alone on a worker that died.
MOST_DEATHS: Final = 3
#: More workers are started, up to the most that the stage may have, when items have waited for so long while all were busy;
WAITED_S: Final = 0.2
#: and ended again, down to the least, when they have been idle for so long.
IDLE_S: Final = 10.0


class StreamStage:
    """A stage's queue and workers."""

    def __init__(self, vertex: StreamVertex, options: StreamOptions, *, gives_keys: bool) -> None:
        """`gives_keys`: its results go to a stage that takes them by key."""
        function = vertex.function
        self.vertex = vertex
        self.number = vertex.number
        self.max_retries = options.max_retries if function.max_retries is None else function.max_retries
        least, most = _bounds(function.parallelism)
        is_async = vertex.is_async and not vertex.is_generator
        self.concurrency = vertex.concurrency
        self.is_generator = vertex.is_generator
        self.is_keyed = function.key is not None
        self.is_batched = vertex.is_batched
        #: An async worker runs many items itself, and keys are divided among a fixed number of workers.
        self.least = 1 if is_async else most if self.is_keyed else least
        self.most = 1 if is_async else most
        self.lanes = [Lane(number) for number in range(self.least)]
        self.seconds: float | None = None
        #: Items that have ended here.
        self.ended = 0
        #: The size of a result of a generator; None: there was none.
        self.result_nbytes: float | None = None
        self._window = options.in_flight
        self._timeout_s = function.timeout
        #: A worker has one item, or chunk, at a time.
        self._is_one_by_one = self._timeout_s is not None and self.concurrency == 1
        #: Several items may be one to it, for which its code is called one after the other.
        self.takes_chunks = not gives_keys and _takes_chunks(vertex)
        self._batch_size = function.batch_size or (1 << 62)
        self._batch_timeout_s = function.batch_timeout
        #: Items that no worker has been given.
        self.waiting = 0
        self.queues = [WorkQueue() for _ in range(self.least if self.is_keyed else 1)]
        self._waits_since: float | None = None
        self._filled_at = 0.0
        self.may_grow = self.least < self.most
        self.pauses = Pauses(function.retry_backoff)
        has_times = self._timeout_s is not None or function.retry_backoff is not None
        #: There is ever anything that is due at a time.
        self.may_wake = has_times or self.is_batched or self.may_grow
        #: Those that come behind an item which is to be tried again wait for it.
        self._keeps_order = self.is_keyed or (options.ordered and self.is_in_order)

    @property
    def is_in_order(self) -> bool:
        """True if items are to come in order: to one worker, or one for each key, which may count on that; and to generators.

        A generator keeps its worker until its results are out, which are later than those of the items before.
        """
        return self.is_generator or (self.concurrency == 1 and (self.most == 1 or self.is_keyed))

    @property
    def is_busy(self) -> bool:
        """True if an item is being worked on."""
        return any(lane.outstanding for lane in self.lanes)

    @property
    def is_empty(self) -> bool:
        """True if no item waits here or is being worked on."""
        return not (self.waiting or self.pauses or self.is_busy)

    def may_go_on(self, gate: Gate) -> bool:
        """True if an item may come out of here before any item of another stage has gone on."""
        return self.is_busy or bool(self.pauses) or any(queue.bring_forward(gate) for queue in self.queues)

    def lane(self, number: int) -> Lane | None:
        """The worker with this number, if there is one."""
        return next((lane for lane in self.lanes if lane.number == number), None)

    # --- The queue ----------------------------------------------------------------------------------------------

    def add(self, work: Work, now: float) -> None:
        """Queue an item."""
        self.waiting += work.size
        (self._queue_of(work) if self.is_keyed else self.queues[0]).add(work, now)

    def put_back(self, works: Iterable[Work]) -> None:
        """Queue items again, in front."""
        for work in reversed(list(works)):
            self.waiting += work.size
            self._queue_of(work).put_back(work)

    def retry(self, works: list[Work], now: float) -> None:
        """Queue items again that have failed, in front, once their pause is over."""
        self.put_back(self.pauses.begin(works, now))

    def end_pauses(self, now: float) -> None:
        """Queue the items whose pause is over."""
        self.put_back(self.pauses.end(now))

    def _is_held_up(self, queue: WorkQueue) -> bool:
        return self._keeps_order and any(self._queue_of(work) is queue for work in self.pauses)

    def _queue_of(self, work: Work) -> WorkQueue:
        return self.queues[(work.lane_hash or 0) % len(self.queues)]

    def _pop(self, queue: WorkQueue) -> Work:
        work = queue.pop()
        self.waiting -= work.size
        return work

    def fill(self, now: float, gate: Gate) -> list[Work]:
        """Give workers as many items as they should have.

        Returns items that can't be worked on, as a value of theirs is lost for good.
        """
        self._filled_at = now
        refused: list[Work] = []
        for number, queue in enumerate(self.queues):
            if not queue or (self.pauses and self._is_held_up(queue)):
                continue
            lanes = [self.lanes[number]] if self.is_keyed else self.lanes
            if self.is_generator and queue.first.is_made_again:
                refused += self._make_again(queue, lanes, now, gate)
            if queue and (usable := [lane for lane in lanes if self._room(lane) > 0]):
                refused += self._fill(queue, usable, now, gate)
        if self.may_grow:
            self._note_waiting(now)
        return refused

    def _fill(self, queue: WorkQueue, lanes: list[Lane], now: float, gate: Gate) -> Iterator[Work]:
        if len(lanes) > 1:
            lanes.sort(key=attrgetter("held"))
        for place, lane in enumerate(lanes):
            if self.is_batched:
                yield from self._give_batch(queue, lane, now, gate)
            elif queue:
                share = -(-queue.items // (len(lanes) - place))
                yield from self._give_share(queue, lane, min(share, self._room(lane)), now, gate)

    def _give_share(self, queue: WorkQueue, lane: Lane, share: int, now: float, gate: Gate) -> Iterator[Work]:
        is_tight = gate.nbytes_left <= 0
        while share > 0 and queue:
            if is_tight and not queue.bring_forward(gate):
                return
            work = queue.first
            if work.is_suspect and lane.outstanding:
                return
            values = work.values if work.is_inline else current_values(work, gate)
            if values is None:
                return
            self._pop(queue)
            if not work.is_inline and is_lost(values):
                share -= 1
                yield work
                continue
            if work.size > share:
                work = self._split(work, share, gate)
                values = work.values
            share -= work.size
            self._give(work, values, lane, now, gate)
            if work.is_suspect or self._is_one_by_one:
                return

    def _make_again(self, queue: WorkQueue, lanes: list[Lane], now: float, gate: Gate) -> Iterator[Work]:
        """Give out lost results of generators first, also where a generator goes on.

        One whose results wait until others are taken does not hold them up, as these may be among those.
        """
        while queue and (work := queue.first).is_made_again:
            values = current_values(work, gate)
            lane = next((lane for lane in lanes if self._may_make_again(work, lane)), None)
            if values is None or lane is None:
                return
            self._pop(queue)
            if is_lost(values):
                yield work
            else:
                self._give(work, values, lane, now, gate)

    def _may_make_again(self, work: Work, lane: Lane) -> bool:
        is_alone = not lane.is_generating
        # One that is to move ends its generators before, which may wait for this.
        return lane.is_there and (is_alone or not (lane.suspects or work.is_suspect))

    def _room(self, lane: Lane) -> int:
        if lane.suspects or not lane.is_usable:
            return 0
        held = lane.held
        if held and next(iter(lane.outstanding.values())).is_finish:
            # It may wait until results are taken, of which one may have to be made again before.
            held -= 1
        if self.is_batched:
            return (
                0
                if held >= max(self._batch_size, self._ahead()) or (held and self._timeout_s is not None)
                else 1
            )
        if self.is_generator:
            return 1 - sum(not work.is_made_again for work in lane.outstanding.values())
        is_timed = self._timeout_s is not None
        if self.seconds is None or (is_timed and not self.takes_chunks):
            return self.concurrency - held
        ahead = self._ahead()
        if is_timed:
            # A chunk with all its items, or one item: its time begins when it is sent.
            return 0 if held else 1 + ahead
        return self.concurrency + ahead - held

    def _ahead(self) -> int:
        """The number of items that a worker may have beyond those that it works on."""
        return 0 if self.seconds is None else min(MAX_AHEAD, int(AHEAD_S / (self.seconds + OVERHEAD_S)))

    def _credit(self, work: Work, gate: Gate) -> int:
        """The number of results that a generator may have on its way beyond those that are."""
        spare = self._window - work.results_alive - work.credit
        if self.result_nbytes is None:
            # The first one shows how large they are.
            return 1
        room = int(gate.nbytes_left / max(1.0, self.result_nbytes))
        return max(min(spare, room), 1 - work.results_alive - work.credit)

    def _give(self, work: Work, values: list[ItemOutcome], lane: Lane, now: float, gate: Gate) -> None:
        rows = lane.value_rows(work, values)
        if work.size > 1:
            lane.rows.append(RunChunk(work.number, cast("Sequence[bytes]", rows)))
        elif self.is_generator:
            work.credit = 0
            work.credit = 1 if work.is_made_again else max(0, self._credit(work, gate))
            lane.rows.append(Generate(work.number, rows, work.given, work.credit))
        else:
            lane.rows.append(RunItem(work.number, rows))
        self.hold(work, lane, now)

    def hold(self, work: Work, lane: Lane, now: float) -> None:
        """Note that a worker is given an item."""
        lane.hold(work)
        work.given_at, work.credit_message = now, -1
        if self._timeout_s is not None and (lane.deadline is None or self.is_generator):
            self._set_deadline(lane)

    def _set_deadline(self, lane: Lane) -> None:
        late = next(iter(self.late(lane)), None)
        lane.deadline = None if self._timeout_s is None or late is None else late.given_at + self._timeout_s

    def late(self, lane: Lane) -> list[Work]:
        """The items that have taken too long once the time of a worker is over: those that were given to it first.

        A time limit is for one call, so for all of a batch; or from one result of a generator to the next.
        """
        works = lane.outstanding.values()
        first = next(iter(works), None)
        if first is None:
            return []
        if self.is_generator or first.is_finish:
            return sorted((work for work in works if work.credit > 0), key=attrgetter("given_at"))[:1]
        return list(works) if self.is_batched else [first]

    def rested(self, lane: Lane, now: float) -> None:
        """Take note that a worker has ended something."""
        if self._timeout_s is not None:
            self._set_deadline(lane)
        if not lane.outstanding:
            lane.idle_since = now

    def more_credit(self, work: Work, lane: Lane, now: float, gate: Gate) -> None:
        """Let a generator go on, as soon as half of the results that it may have on their way are out."""
        if work.is_made_again or not (self.is_generator or work.is_finish):
            return
        if work.credit > 0 or 2 * work.results_alive > self._window:
            return
        credit = self._credit(work, gate)
        if credit > 0:
            work.credit += credit
            work.credit_message = lane.message
            lane.rows.append(GenerateMore(work.number, credit))
            work.given_at = now
            self._set_deadline(lane)

    # --- Batches ------------------------------------------------------------------------------------------------

    def _give_batch(self, queue: WorkQueue, lane: Lane, now: float, gate: Gate) -> Iterator[Work]:
        while queue.items >= self._batch_size or self._is_batch_due(queue, now, gate):
            if not self._room(lane) or not queue.bring_forward(gate):
                return
            if queue.first.is_suspect and lane.outstanding:
                return
            works: list[Work] = []
            members: list[tuple[int, Sequence[ValueRow]]] = []
            for work, values in self._batch_of(queue, gate):
                if is_lost(values):
                    yield work
                    continue
                works.append(work)
                members.append((work.number, lane.value_rows(work, values)))
                self.hold(work, lane, now)
            if not members:
                return
            lane.rows.append(RunBatch(members, tuple([work.number for work in works if work.size > 1])))

    def _batch_of(self, queue: WorkQueue, gate: Gate) -> Iterator[tuple[Work, list[ItemOutcome]]]:
        """Take the items of the next batch off a queue, each with its values, of which one may be lost for good."""
        room = 1 if queue.first.is_suspect else self._batch_size
        is_first = True
        while queue and room > 0 and (is_first or not queue.first.is_suspect):
            values = current_values(queue.first, gate)
            if values is None:
                return
            work = self._pop(queue)
            if work.size > room:
                work = self._split(work, room, gate)
                values = work.values
            is_taken = not is_lost(values)
            room -= work.size * is_taken
            is_first = is_first and not is_taken
            yield work, values

    def _split(self, work: Work, count: int, gate: Gate) -> Work:
        """Take the first items off a chunk that was in front of its queue, where the rest is put back."""
        first = gate.split_off(work, count)
        self.put_back([work])
        return first

    def _is_batch_due(self, queue: WorkQueue, now: float, gate: Gate) -> bool:
        due_at = queue.batch_due_at(self._batch_timeout_s)
        return due_at is not None and (now >= due_at or queue.first.is_suspect or gate.is_last(self.number))

    # --- Time ---------------------------------------------------------------------------------------------------

    def learn(self, seconds: float, items: int) -> None:
        """Take note of the time that items took."""
        self.ended += items
        self.seconds = smoothed(self.seconds, seconds / max(1, items), SMOOTHING)

    def learn_size(self, result: ItemOutcome) -> None:
        """Take note of the size of a result of a generator."""
        nbytes = (
            len(result) if isinstance(result, bytes) else result.nbytes if isinstance(result, Stored) else 0
        )
        self.result_nbytes = smoothed(self.result_nbytes, nbytes, SMOOTHING)

    def overdue(self, now: float) -> list[Lane]:
        """The workers whose item has taken too long."""
        return [
            lane
            for lane in self.lanes
            if lane.deadline is not None and now >= lane.deadline and not lane.is_stopping
        ]

    def wants_lane(self, now: float) -> bool:
        """True if there should be one more worker."""
        if self._waits_since is None or now < self._waits_since + WAITED_S:
            return False
        return all(lane.place is not None for lane in self.lanes)

    def add_lane(self, now: float) -> Lane:
        """Have one more worker."""
        lane = Lane(max(lane.number for lane in self.lanes) + 1)
        self.lanes.append(lane)
        self._waits_since = now if len(self.lanes) < self.most else None
        return lane

    def surplus_lanes(self, now: float) -> list[Lane]:
        """The workers beyond the least that have been idle for long."""
        return [lane for lane, since in self._idle() if now >= since + IDLE_S]

    def _idle(self) -> list[tuple[Lane, float]]:
        if len(self.lanes) <= self.least or self.vertex.function.finish is not None:
            # `finish` is for the state of each worker that there was.
            return []
        return [
            (lane, lane.idle_since)
            for lane in self.lanes[self.least :]
            if lane.idle_since is not None and not lane.is_closing
        ]

    @property
    def wake_at(self) -> float | None:
        """The next time at which something here is due."""
        times = [*self.pauses.wake_at, *(since + IDLE_S for _, since in self._idle())]
        if self._timeout_s is not None:
            times += [
                lane.deadline for lane in self.lanes if lane.deadline is not None and not lane.is_stopping
            ]
        if self._waits_since is not None:
            times += self._later(self._waits_since + WAITED_S)
        if self.is_batched and self._has_room():
            for queue in self.queues:
                times += self._later(queue.batch_due_at(self._batch_timeout_s))
        return min(times, default=None)

    def _later(self, due_at: float | None) -> Iterator[float]:
        # What was due when workers were given something, and could not be done, does not become possible by waiting.
        if due_at is not None and due_at > self._filled_at:
            yield due_at

    def _has_room(self) -> bool:
        return any(self._room(lane) > 0 for lane in self.lanes)

    def _note_waiting(self, now: float) -> None:
        if len(self.lanes) >= self.most or not self.waiting or self._has_room():
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now


def _bounds(parallelism: int | tuple[int, int]) -> tuple[int, int]:
    return parallelism if isinstance(parallelism, tuple) else (parallelism, parallelism)


def _takes_chunks(vertex: StreamVertex) -> bool:
    """True if items of a stage need not be known one by one: for a key, the results of a generator, or coroutines."""
    return not (vertex.is_generator or vertex.is_async) and vertex.function.key is None
