"""The queue of functions whose inputs are ready, the most urgent first."""

from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from handoff_actors.core.run.facts.part import ProgramPart, put
from handoff_actors.core.run.scheduling.priority import Priority
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Rank


class Destination(NamedTuple):
    """The nodes that a function may go to."""

    need: RequirementClass
    #: The only node that will do; None: any node.
    target: str | None
    #: For a serialize hook: the destination of its consumer, until a node has been chosen for that.
    ahead_of: "Destination | None" = None
    #: Names of nodes on which the function has failed; see `core.run.scheduling.avoidance`.
    failed_on: frozenset[str] = frozenset()
    #: Its length, where nodes may end too soon for it; see `core.run.scheduling.time_left`.
    length: int = 0


#: The bits of an entry in a lane that are the index of a function; those above say which was there first, where indices don't.
INDEX_BITS: Final = 32
INDEX: Final = (1 << INDEX_BITS) - 1

#: (negative priority, negative level), lowest first.
Key = tuple[int, float]


class ReadyLane:
    """Ready functions with the same destination: if the first one can't be placed, none of them can."""

    __slots__ = ("_by_key", "_keys", "_size", "destination")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        # In wide graphs most functions are equally urgent: ordering plain numbers takes half the time of tuples.
        self._keys: list[Key] = []
        self._by_key: dict[Key, list[Index]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> Index:
        """The most urgent function of the lane."""
        return self._by_key[self._keys[0]][0] & INDEX

    @property
    def order(self) -> tuple[Key, Index]:
        """Sort key of the lane: the lane with the lowest goes first."""
        key = self._keys[0]
        return key, self._by_key[key][0]

    def push(self, key: Key, entry: int) -> None:
        """Add a function, whose index is in the lower bits of the entry. Of those with equal keys the lowest entry goes first."""
        self._size += 1
        alike = self._by_key.get(key)
        if alike is None:
            self._by_key[key] = [entry]
            heappush(self._keys, key)
        else:
            heappush(alike, entry)

    def pop(self, most: int) -> tuple[Key, list[Index]]:
        """Remove and return the most urgent functions, up to so many, with the key that they have in common."""
        key = self._keys[0]
        alike = self._by_key[key]
        indices: list[Index] = []
        while alike and len(indices) < most:
            indices.append(heappop(alike) & INDEX)
        self._size -= len(indices)
        if not alike:
            del self._by_key[key]
            heappop(self._keys)
        return key, indices

    def withdraw(self, index: Index) -> None:
        """Remove a function, which takes as long as the lane is."""
        for key, alike in list(self._by_key.items()):
            left = [other for other in alike if other & INDEX != index]
            if len(left) < len(alike):
                self._size -= len(alike) - len(left)
                # What was a heap in order may be none any more.
                heapify(left)
                if left:
                    self._by_key[key] = left
                else:
                    del self._by_key[key]
                    self._keys.remove(key)
                    heapify(self._keys)

    def reorder(self, level: Callable[[Index], float]) -> None:
        """Sort all functions by new levels."""
        before, self._by_key = self._by_key, {}
        self._keys.clear()
        self._size = 0
        for (priority, _), alike in before.items():
            for entry in alike:
                self.push((priority, -level(entry & INDEX)), entry)


class ReadyQueue:
    """All lanes that are not empty. Order: the user's priority, then `Priority`, then the plan's order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._priority = Priority(plan)
        self._lanes: dict[Destination, ReadyLane] = {}
        #: By index: the place of the function among all that the run was given; empty as long as indices say that.
        self._places: list[int] = []
        self._count = plan.size

    def push(self, indices: Sequence[Index], destination: Destination) -> None:
        """Add functions with the same destination."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = ReadyLane(destination)
        priority, places, push = self._plan.priority, self._places, lane.push
        levels = self._priority.levels_for(indices)
        for index in indices:
            entry = places[index] << INDEX_BITS | index if places else index
            push((-priority[index], -levels[index]), entry)

    def assume(self, usual_s: Sequence[float | None]) -> None:
        """Start from durations of earlier runs, by kind. To be called before any function is ready."""
        self._priority.assume(dict(enumerate(usual_s)))

    @property
    def learns(self) -> bool:
        """True if durations of functions may change the order of others."""
        return self._priority.learns

    def learn(self, index: Index, seconds: float) -> None:
        """Record the duration of a function, and sort the others again if levels have changed."""
        if self._priority.learn(index, seconds):
            for lane in self._lanes.values():
                lane.reorder(self._priority.of)

    def pop(self, lane: ReadyLane, most: int) -> tuple[list[Index], Rank]:
        """Remove and return the most urgent functions of a lane, up to so many, with the rank that they have in common."""
        (priority, level), indices = lane.pop(most)
        if not lane:
            del self._lanes[lane.destination]
        return indices, (priority, self._priority.version, level)

    def add(self, part: ProgramPart) -> None:
        """Take functions that are in the plan by now; none of them is ready yet."""
        self._priority.add(part)
        if not self._places:
            self._places = [*range(self._count)]
        after = self._count + len(part.indices)
        put(self._places, part.indices, range(self._count, after))
        self._count = after

    def remove(self, indices: Collection[Index]) -> None:
        """Forget functions that are no more in the plan, wherever they are still in a lane."""
        self._priority.remove(indices)

    def withdraw(self, index: Index) -> None:
        """Take a function out of all lanes."""
        for lane in list(self._lanes.values()):
            lane.withdraw(index)
            if not lane:
                del self._lanes[lane.destination]

    def lanes(self) -> Collection[ReadyLane]:
        """All lanes that are not empty."""
        return self._lanes.values()

    def most_urgent(self, skipped: Collection[ReadyLane]) -> ReadyLane | None:
        """The lane with the most urgent function, without those in `skipped`; None if no lane is left."""
        if not self._lanes:
            return None
        if not skipped and len(self._lanes) == 1:
            return next(iter(self._lanes.values()))
        lanes = [lane for lane in self._lanes.values() if lane not in skipped]
        return min(lanes, key=lambda lane: lane.order, default=None)
