"""The answers of a lane. Those of fast items share a message; those of slow ones leave at once."""

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from handoff_actors.moving_average import UNKNOWN, peak_smoothed
from handoff_actors.wire.messages.stage_rows import FailureRow, FromStage, Generated, ItemsEnded, OutcomeRow
from handoff_actors.workers.child.stage.channel import StageChannel
from handoff_actors.workers.child.stage.results import StageResults
from handoff_actors.workers.stage_protocol import content_of

#: An answer waits for the next one only if that is expected to take less than this,
_FAST_S: Final = 200e-6
#: no longer than this,
_HOLD_S: Final = 1e-3
#: and while values of so few bytes wait.
_MOST_NBYTES: Final = 256 * 1024
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
        if self._usual_s > _FAST_S or now - self._since >= _HOLD_S or self._nbytes > _MOST_NBYTES:
            self.flush()

    def is_held_too_long(self, now: float, usual_s: float) -> bool:
        """Tell whether results of a generator must not wait for its next one, which usually takes that long."""
        return usual_s > _FAST_S or now - self._since >= _HOLD_S

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
