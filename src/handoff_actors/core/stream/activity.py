"""The times at which workers of stages were busy, as far as their answers tell: the latest ones, for traces.

A worker says how long its code took for the items of an answer. So it was busy for that long until the answer came, or a little
earlier. Answers that follow one another closely make one span: there are at most a hundred in a second of a worker.
"""

from collections import deque
from typing import Final

from handoff_actors.core.stream.events import Vertex
from handoff_actors.core.stream.stages.lane import BusySpan, Lane

#: Spans that are kept of one stream.
MOST_SPANS: Final = 10_000
#: Answers are put together up to a span of that length, if there is less than this between them.
JOINED_UP_TO_S: Final = 0.01
JOINED_WITHIN_S: Final = 0.001


class Activity:
    """The busy times of the workers of one stream."""

    def __init__(self) -> None:
        #: In the order in which they began to be heard of.
        self.spans: deque[BusySpan] = deque(maxlen=MOST_SPANS)

    def worked(self, stage: Vertex, lane: Lane, seconds: float, items: int, now: float) -> None:
        """Take note of an answer: its worker has worked for so long on so many items."""
        last = lane.span
        if last is None:
            began_at = now - seconds
        elif now - last.began_at < JOINED_UP_TO_S and now - seconds - last.ended_at < JOINED_WITHIN_S:
            last.ended_at = now
            last.items += items
            last.busy_s += seconds
            return
        else:
            began_at = max(now - seconds, last.ended_at)
        lane.span = BusySpan(stage, lane.number, lane.node, began_at, now, seconds, items)
        self.spans.append(lane.span)

    def kept_since(self, moment: float) -> float:
        """The time from which on spans are kept: this moment, or a later one."""
        return max(moment, self.spans[0].began_at) if len(self.spans) == MOST_SPANS else moment

    def busy_since(self, moment: float) -> dict[Vertex, float]:
        """The seconds that the code of each stage has run since a moment, as far as answers tell."""
        busy: dict[Vertex, float] = {}
        for span in reversed(self.spans):
            if span.ended_at <= moment - JOINED_UP_TO_S:
                break
            if span.ended_at > moment:
                share = min(1.0, (span.ended_at - moment) / max(span.ended_at - span.began_at, 1e-9))
                busy[span.stage] = busy.get(span.stage, 0.0) + span.busy_s * share
        return busy
