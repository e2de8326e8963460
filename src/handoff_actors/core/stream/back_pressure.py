"""Decides how many items, and how many bytes, may be on their way, and which items may go on beyond that."""

from handoff_actors.core.stream.events import ItemOutcome, Vertex
from handoff_actors.core.stream.flow import Flow
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.options import StreamOptions
from handoff_actors.graph.streams.stream_plan import StreamPlan


class BackPressure:
    """The room that a stream has. See `Gate`."""

    def __init__(self, plan: StreamPlan, flow: Flow, options: StreamOptions) -> None:
        #: Nothing more is pushed.
        self.is_closed = False
        self._plan = plan
        self._flow = flow
        self._options = options

    @property
    def has_room(self) -> bool:
        """True if another item may be pushed."""
        return self.room > 0

    @property
    def room(self) -> int:
        """The number of items that may be pushed now, where they are small."""
        items = self._flow.results.in_flight
        if self.is_closed or (items and self._options.in_flight_nbytes <= self._flow.values.nbytes):
            return 0
        return self._options.in_flight - items

    @property
    def nbytes_left(self) -> int:
        """See Gate."""
        return self._options.in_flight_nbytes - self._flow.values.nbytes

    @property
    def oldest(self) -> int:
        """See Gate."""
        return self._flow.results.oldest

    def may_start(self, work: Work) -> bool:
        """See Gate."""
        if self.nbytes_left > 0 or work.is_made_again:
            return True
        # Results of generators, which keep their workers meanwhile, have been allowed before.
        return len(work.key) > 1 or work.key[0] <= self.oldest

    def current(self, value: ItemOutcome) -> ItemOutcome | None:
        """See Gate."""
        return self._flow.values.current(value)

    def split_off(self, work: Work, count: int) -> Work:
        """See Gate."""
        return self._flow.split_off(work, count)

    def is_last(self, stage: Vertex) -> bool:
        """See Gate."""
        if self.has_room:
            return False
        pending, seen = list(self._plan.vertices[stage].producers), set[Vertex]()
        while pending:
            number = pending.pop()
            if number in seen or number not in self._flow.stages:
                continue
            if self._flow.stages[number].may_go_on(self):
                return False
            seen.add(number)
            pending += self._plan.vertices[number].producers
        return not self._flow.stages[stage].is_busy
