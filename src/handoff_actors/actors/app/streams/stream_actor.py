"""Performs the effects of a stream's machine: sends rows to stages, starts and stops their workers, hands out results."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, assert_never

from handoff_actors.actors.app.run_errors import as_ours
from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.app.streams.result_fetches import APP, ResultFetches
from handoff_actors.actors.app.streams.stage_messages import events_of
from handoff_actors.actors.app.streams.stage_outbox import StageOutbox
from handoff_actors.actors.app.streams.stream_host import StageLanes, StreamHost, StreamListener
from handoff_actors.actors.driver import Driver
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.stream.events import (
    AbortStream,
    DropValues,
    ItemObserved,
    ItemOut,
    LaneClosed,
    LaneLost,
    LaneUp,
    NewItem,
    NodeGone,
    Pushed,
    PushRoomFreed,
    ResultLost,
    ResultsReady,
    SendToStage,
    StartLane,
    StopLane,
    Stored,
    StreamDrained,
    StreamEffect,
    StreamEvent,
    StreamFailed,
    Vertex,
    WorkerObserved,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.errors import FunctionFailed, HandoffError, NodeLost, RemoteProtocolError, WorkerDied
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ref, ValueKey
from handoff_actors.wire.messages.runs import Drop
from handoff_actors.wire.messages.stages import StageInputLost, StageOutput
from handoff_actors.workers.stage_protocol import first_index

log = logging.getLogger(__name__)

#: Values that the app pushes have indices from here on. Attempts are counted from 1, so no stage has these.
FIRST_PUSHED_INDEX: Final = first_index(Index(0), 0)


class StreamActor:
    """One stream."""

    def __init__(
        self,
        run: RunId,
        machine: StreamMachine,
        values: dict[Index, Buffer],
        inline_limit: int,
        host: StreamHost,
        lanes: StageLanes,
        listener: StreamListener,
    ) -> None:
        """`values` are those that the app has for the run: large ones that are pushed are put there, where nodes fetch them."""
        self._run = run
        self._machine = machine
        self._values = values
        self._inline_limit = inline_limit
        self._host = host
        self._lanes = lanes
        self._listener = listener
        self._next_index = FIRST_PUSHED_INDEX
        self._loop = asyncio.get_running_loop()
        #: Items that the machine does not have yet, and how many more it has room for; None: that may have changed.
        self._new: list[NewItem] = []
        self._room: int | None = None
        #: The number of the first of these items.
        self._first_number = 0
        #: Values in the app that are not dropped yet.
        self._pushed: set[Index] = set()
        self._outbox = StageOutbox(run, host.send)
        self._fetches = ResultFetches(run, values, host, machine.current, self._result_lost)
        self._driver: Driver[StreamEvent, StreamEffect] = Driver(machine, self._perform, self._crashed)

    def start(self) -> None:
        """Start all stages."""
        self._driver.start(self._machine.start)

    def feed(self, event: StreamEvent) -> None:
        """Have the machine handle an event, after what was pushed before."""
        self.hand_over()
        self._tell(event)

    def _tell(self, event: StreamEvent) -> None:
        self._room = None
        self._driver.feed(event)

    def has_room(self) -> bool:
        """True if another item may be pushed."""
        if self._room is None:
            self._room = self._machine.room - len(self._new)
        return self._room > 0

    def push(self, owner: int, values: Sequence[tuple[bytes, Sequence[int]]]) -> int:
        """Push an item, for which there is room, and return its number.

        `values` are for each input its encoded value, and the hashes of its keys.
        """
        if not self._new:
            # Whatever one turn of the loop pushes is handed over together: the machine looks at all stages each time.
            self._loop.call_soon(self.hand_over)
            self._first_number = self._machine.next_number
        number = self._first_number + len(self._new)
        if self._room is not None:
            self._room -= 1
        for value, _ in values:
            if len(value) > self._inline_limit:
                self._new.append(
                    NewItem(number, owner, [(self._placed(each), keys) for each, keys in values])
                )
                # Whether there is room for another depends on the bytes of this one.
                self.hand_over()
                return number
        self._new.append(NewItem(number, owner, values))
        return number

    def hand_over(self) -> None:
        """Have the machine take what was pushed."""
        new, self._new = self._new, []
        self._room = None
        if new:
            self._tell(Pushed(new))
            self._outbox.flush()
            if self.has_room():
                # The machine, which has not been full, does not know that somebody was told to wait meanwhile.
                self._listener.room_freed()

    def _placed(self, encoded: bytes) -> bytes | Stored:
        if len(encoded) <= self._inline_limit:
            return encoded
        index = self._next_index
        self._next_index += 1
        self._values[index] = encoded
        self._pushed.add(index)
        return Stored(index, len(encoded), APP)

    def fetch(self, value: Stored, done: Callable[[Buffer | FetchFailure], None]) -> Callable[[], None]:
        """Bring a stored value into the app, perhaps at once. Returns a function that gives up the fetch."""
        return self._fetches.fetch(value, done)

    def stage_said(self, name: str, message: StageOutput | StageInputLost) -> None:
        """Take a message from a stage on a node."""
        try:
            events = events_of(name, message)
        except RemoteProtocolError as error:
            self.fail(error)
            return
        # An answer most often brings the next stage its item, which must not wait for a turn of the loop.
        self._outbox.hold()
        for event in events:
            self._tell(event)
            if isinstance(event, LaneUp):
                self._listener.lane_up(event.stage, event.lane, name)
        self._outbox.flush()
        self._fetches.look()

    def node_lost(self, name: str) -> None:
        """Take note that a node is gone."""
        self._tell(NodeGone(name))
        self._fetches.look()

    def _result_lost(self, value: Stored, reason: str) -> None:
        self._tell(ResultLost(value, reason))

    def fail(self, error: HandoffError) -> None:
        """Have the stream go on no more."""
        self._driver.close()
        self._listener.stream_failed(error)

    def close(self) -> None:
        """End the stream at once. Its workers end with their run."""
        self._tell(AbortStream())
        self._driver.close()
        for index in self._pushed:
            self._values.pop(index, None)
        self._pushed.clear()

    def _lane_ended(self, stage: Vertex, lane: int, error: HandoffError | None) -> None:
        if error is None:
            self._tell(LaneClosed(stage, lane))
        else:
            self._tell(LaneLost(stage, lane, error, _is_loss(error)))

    def _perform(self, effect: StreamEffect) -> None:  # noqa: C901 - one table
        # Each case is a question: first those that every item brings.
        match effect:
            case SendToStage(place, rows, needs):
                self._outbox.add(place, rows, self._located(needs) if needs else ())
            case ResultsReady(owner, results):
                self._listener.results_ready(owner, results)
            case ItemOut(owner, _, count):
                self._listener.items_out(owner, count)
            case PushRoomFreed():
                self._room = None
                self._listener.room_freed()
            case DropValues(values):
                self._drop(values)
            case StartLane(stage, lane):
                self._lanes.start(stage, lane, partial(self._lane_ended, stage, lane))
            case StopLane(stage, lane):
                self._lanes.stop(stage, lane)
            case ItemObserved() | WorkerObserved():
                self._listener.observed(effect)
            case StreamFailed(error):
                self.fail(error)
            case StreamDrained():
                self._listener.stream_drained()
            case _:
                assert_never(effect)

    def _located(self, needs: Sequence[Stored]) -> list[Ref]:
        """Refer to values by the addresses of nodes: the machine knows their names alone."""
        addresses = {advert.name: advert.address for advert in self._host.adverts()} | {APP: APP}
        return [
            Ref(need.index, need.nbytes, [addresses[need.node]] if need.node in addresses else [])
            for need in needs
        ]

    def _drop(self, values: Sequence[Stored]) -> None:
        keys: dict[str, list[ValueKey]] = {}
        for value in values:
            if value.node == APP:
                self._values.pop(value.index, None)
                self._pushed.discard(value.index)
            else:
                keys.setdefault(value.node, []).append(ValueKey(value.index, 0))
        for name, dropped in keys.items():
            # It may have been sent in this very turn, to a worker that has answered since and to one that is yet to get it.
            self._outbox.flush()
            self._host.send(name, Drop(self._run, dropped))

    def _crashed(self, error: Exception) -> None:
        log.error("a stream has failed", extra={"run": self._run}, exc_info=error)
        self._listener.stream_failed(as_ours(error))


def _is_loss(error: HandoffError) -> bool:
    """True if a process or a node was lost; another worker may do better."""
    if isinstance(error, FunctionFailed):
        return isinstance(error, WorkerDied) or error.kind == "memory"
    return isinstance(error, NodeLost)
