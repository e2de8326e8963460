"""The functions that could start now, the most urgent ones first."""

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from handoff_actors.core.durations import Durations
from handoff_actors.core.needs import NeedClass
from handoff_actors.core.urgency import Urgency
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages import Rank, Template


class Destination(NamedTuple):
    """Where a function may go."""

    need: NeedClass
    #: The one node that will do; None: any.
    target: str | None
    #: Of a serialize hook: where its consumer may go, as long as no node has been chosen for that.
    ahead_of: "Destination | None" = None


class ReadyLane:
    """Ready functions with the same destination: one look at the first tells about all."""

    __slots__ = ("destination", "heap")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        #: (negative priority, negative level, index)
        self.heap: list[tuple[int, float, Index]] = []


class ReadyQueue:
    """Every lane with something in it. Urgent is: high priority, then what `Urgency` says, then added early."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._urgency = Urgency(plan)
        self._lanes: dict[Destination, ReadyLane] = {}

    def push(self, index: Index, destination: Destination) -> None:
        """Add a function."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = ReadyLane(destination)
        heappush(lane.heap, (-self._plan.priority[index], -self._urgency.of(index), index))

    def assume(self, templates: Sequence[Template], durations: Durations) -> None:
        """Before anything is ready: start from what functions took in earlier runs."""
        self._urgency.assume({kind: durations.of(template.digest) for kind, template in enumerate(templates)})

    def learn(self, index: Index, seconds: float) -> None:
        """Take note of what a function took, and put the others in a new order where that matters."""
        if self._urgency.learn(index, seconds):
            urgency = self._urgency.of
            for lane in self._lanes.values():
                lane.heap = [(priority, -urgency(waiting), waiting) for priority, _, waiting in lane.heap]
                heapify(lane.heap)

    def pop(self, lane: ReadyLane) -> tuple[Index, Rank]:
        """Remove the most urgent function of a lane; the answer is how urgent it is, too."""
        priority, level, index = heappop(lane.heap)
        if not lane.heap:
            del self._lanes[lane.destination]
        return index, (priority, self._urgency.version, level)

    def lanes(self) -> Collection[ReadyLane]:
        """Lanes with something in them."""
        return self._lanes.values()

    def most_urgent(self, passed_over: Collection[ReadyLane]) -> ReadyLane | None:
        """The lane whose first function is the most urgent one."""
        if not self._lanes:
            return None
        if not passed_over and len(self._lanes) == 1:
            return next(iter(self._lanes.values()))
        lanes = [lane for lane in self._lanes.values() if lane not in passed_over]
        return min(lanes, key=lambda lane: lane.heap[0], default=None)
