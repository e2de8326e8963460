"""The answers of a lane. Those of fast items share a message; those of slow ones leave at once."""

from collections.abc import Sequence
from itertools import islice
from time import perf_counter
from typing import Final

from handoff_actors.moving_average import UNKNOWN, peak_smoothed
from handoff_actors.wire.messages.stage_rows import (
    ChunkEnded,
    FailureRow,
    FromStage,
    Generated,
    ItemsEnded,
    OutcomeRow,
    RunBatch,
)
from handoff_actors.workers.child.stage.channel import StageChannel
from handoff_actors.workers.child.stage.results import StageResults
from handoff_actors.workers.stage_protocol import content_of

#: An answer waits for the next one only if that is expected to take less than this,
FAST_S: Final = 200e-6
#: no longer than this,
_HOLD_S: Final = 1e-3
#: after a chunk no longer than this,
_WORTH_S: Final = 300e-6
#: and while values of so few bytes wait.
MOST_NBYTES: Final = 256 * 1024
#: How quickly the estimate follows when items get faster.
_DECAY: Final = 0.2

#: Of one item: its number, its outcome, and the hashes of its result's keys.
End = tuple[int, OutcomeRow, Sequence[int]]


class Answers:
    """Collects rows, and sends them."""

    def __init__(self, channel: StageChannel, results: StageResults) -> None:
        self._channel = channel
        self._results = results
        self._rows: list[FromStage] = []
        self._ends: list[End] = []
        self._seconds = 0.0
        #: Bytes of the encoded values that wait.
        self._nbytes = 0
        #: The time since which answers may wait.
        self._since = 0.0
        #: The duration of an item, or of a batch; unknown before the first.
        self._usual_s = UNKNOWN
        #: The code has returned another object as its state than it was given.
        self.has_replaced_state = False

    def begin(self, now: float) -> None:
        """Note that items have come, and nothing waits to be sent."""
        self._since = now

    def ended(self, ends: Sequence[End], began_at: float, now: float) -> None:
        """Add items that the code has worked on together, from `began_at` until now."""
        self._ends += ends
        seconds = now - began_at
        self._seconds += seconds
        for _, outcome, _ in ends:
            if type(outcome) is bytes:
                self._nbytes += len(outcome)
        self._seconds_of_one(seconds)

    def batch_ended(
        self,
        batch: RunBatch,
        outcomes: Sequence[tuple[OutcomeRow, Sequence[int]]],
        began_at: float,
        now: float,
    ) -> None:
        """Add the items of a batch, also those in chunks, with the outcomes of all in order."""
        self._usual_s = peak_smoothed(self._usual_s, now - began_at, _DECAY)
        each_s = (now - began_at) / max(1, len(outcomes))
        left = iter(outcomes)
        for number, values in batch.items:
            if number in batch.chunks:
                self._close_ends()
                own = [outcome for outcome, _ in islice(left, len(values))]
                seconds = each_s * len(own)
                self._rows.append(ChunkEnded(number, own, seconds, self.has_replaced_state))
            else:
                self._ends.append((number, *next(left)))
                self._seconds += each_s
        self._nbytes += sum(len(outcome) for outcome, _ in outcomes if type(outcome) is bytes)

    def chunk_ended(
        self, number: int, outcomes: Sequence[OutcomeRow], seconds: float, slowest_s: float
    ) -> None:
        """Add items of a chunk, with the time that the code took for all of them, and for the slowest."""
        self._close_ends()
        self._rows.append(ChunkEnded(number, outcomes, seconds, self.has_replaced_state))
        self._seconds_of_one(slowest_s)

    def _seconds_of_one(self, seconds: float) -> None:
        self._usual_s = peak_smoothed(self._usual_s, seconds, _DECAY)

    def generated(
        self,
        number: int,
        results: Sequence[tuple[OutcomeRow, Sequence[int]]],
        seconds: float,
        *,
        is_end: bool,
        failure: FailureRow | None = None,
    ) -> None:
        """Add results of a generator."""
        self._close_ends()
        self._rows.append(Generated(number, results, is_end, failure, seconds, self.has_replaced_state))

    def add(self, row: FromStage) -> None:
        """Add another row."""
        self._close_ends()
        self._rows.append(row)

    def send_if_due(self, now: float) -> None:
        """Send what must not wait for the next item."""
        if self._usual_s > FAST_S or now - self._since >= _HOLD_S or self._nbytes > MOST_NBYTES:
            self.flush()

    def send_if_worth_it(self, now: float) -> None:
        """Send what waits if it is so much that the next stage had better begin with it."""
        if now - self._since >= _WORTH_S:
            self.flush()

    @property
    def due_at(self) -> float:
        """The time at which what waits, and what comes until then, is to be sent; 0: at once, as items are slow."""
        return 0.0 if self._usual_s > FAST_S else self._since + _HOLD_S

    def is_held_too_long(self, now: float, usual_s: float) -> bool:
        """Tell whether results of a generator must not wait for its next one, which usually takes that long."""
        return usual_s > FAST_S or now - self._since >= _HOLD_S

    def flush(self) -> None:
        """Send all that waits."""
        self._close_ends()
        self._since = perf_counter()
        if self._rows:
            rows, self._rows, self._nbytes = self._rows, [], 0
            self._channel.send(content_of(rows), self._results.take_stored())

    def _close_ends(self) -> None:
        if self._ends:
            self._rows.append(ItemsEnded(self._ends, self._seconds, self.has_replaced_state))
            self._ends, self._seconds = [], 0.0
