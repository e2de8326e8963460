"""The functions that could start now, the most urgent ones first."""

from collections.abc import Callable, Collection, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.priority import Priority
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Rank, Template


class Destination(NamedTuple):
    """Where a function may go."""

    need: RequirementClass
    #: The one node that will do; None: any.
    target: str | None
    #: Of a serialize hook: where its consumer may go, as long as no node has been chosen for that.
    ahead_of: "Destination | None" = None


#: Negative priority, negative level: lower ones go first.
Key = tuple[int, float]


class ReadyLane:
    """Ready functions with the same destination: one look at the first tells about all."""

    __slots__ = ("_by_key", "_keys", "_size", "destination")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        # Of wide graphs most functions are as urgent as others: to order numbers takes half of what tuples would.
        self._keys: list[Key] = []
        self._by_key: dict[Key, list[Index]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> Index:
        """The most urgent function."""
        return self._by_key[self._keys[0]][0]

    @property
    def order(self) -> tuple[Key, Index]:
        """How urgent that is; of two lanes the lower one goes first."""
        key = self._keys[0]
        return key, self._by_key[key][0]

    def push(self, key: Key, index: Index) -> None:
        """Add a function."""
        self._size += 1
        alike = self._by_key.get(key)
        if alike is None:
            self._by_key[key] = [index]
            heappush(self._keys, key)
        else:
            heappush(alike, index)

    def pop(self) -> tuple[Key, Index]:
        """Remove the most urgent one."""
        self._size -= 1
        key = self._keys[0]
        alike = self._by_key[key]
        index = heappop(alike)
        if not alike:
            del self._by_key[key]
            heappop(self._keys)
        return key, index

    def reorder(self, level: Callable[[Index], float]) -> None:
        """Put all in the order of new levels."""
        before, self._by_key = self._by_key, {}
        self._keys.clear()
        self._size = 0
        for (priority, _), alike in before.items():
            for index in alike:
                self.push((priority, -level(index)), index)


class ReadyQueue:
    """Every lane with something in it. Urgent is: high priority, then what `Priority` says, then added early."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._priority = Priority(plan)
        self._lanes: dict[Destination, ReadyLane] = {}

    def push(self, index: Index, destination: Destination) -> None:
        """Add a function."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = ReadyLane(destination)
        lane.push((-self._plan.priority[index], -self._priority.of(index)), index)

    def assume(self, templates: Sequence[Template], durations: Durations) -> None:
        """Before anything is ready: start from what functions took in earlier runs."""
        self._priority.assume(
            {kind: durations.of(template.digest) for kind, template in enumerate(templates)}
        )

    def learn(self, index: Index, seconds: float) -> None:
        """Take note of what a function took, and put the others in a new order where that matters."""
        if self._priority.learn(index, seconds):
            for lane in self._lanes.values():
                lane.reorder(self._priority.of)

    def pop(self, lane: ReadyLane) -> tuple[Index, Rank]:
        """Remove the most urgent function of a lane; the answer is how urgent it is, too."""
        (priority, level), index = lane.pop()
        if not lane:
            del self._lanes[lane.destination]
        return index, (priority, self._priority.version, level)

    def lanes(self) -> Collection[ReadyLane]:
        """Lanes with something in them."""
        return self._lanes.values()

    def most_urgent(self, skipped: Collection[ReadyLane]) -> ReadyLane | None:
        """The lane whose first function is the most urgent one."""
        if not self._lanes:
            return None
        if not skipped and len(self._lanes) == 1:
            return next(iter(self._lanes.values()))
        lanes = [lane for lane in self._lanes.values() if lane not in skipped]
        return min(lanes, key=lambda lane: lane.order, default=None)
