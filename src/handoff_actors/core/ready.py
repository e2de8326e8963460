"""The functions that could start now, the most urgent ones first."""

from heapq import heappop, heappush

from handoff_actors.core.needs import NeedClass
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index


class ReadyLane:
    """Ready functions that need the same of a node: one look at the first tells about all."""

    __slots__ = ("_heap", "need", "target")

    def __init__(self, need: NeedClass, target: str | None) -> None:
        self.need = need
        #: The one node that will do; None: any.
        self.target = target
        self._heap: list[tuple[int, int, Index]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, urgency: tuple[int, int, Index]) -> None:
        """Add a function."""
        heappush(self._heap, urgency)

    @property
    def first(self) -> tuple[int, int, Index]:
        """The most urgent one."""
        return self._heap[0]

    def pop(self) -> Index:
        """Remove the most urgent one."""
        return heappop(self._heap)[2]


class ReadyQueue:
    """Every lane with something in it. Urgent is: high priority, then a long way to a sink, then added early."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lanes: dict[tuple[int, str | None], ReadyLane] = {}

    def push(self, index: Index, need: NeedClass, target: str | None) -> None:
        """Add a function that needs this of a node, or of the one node that will do."""
        key = (need.number, target)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = ReadyLane(need, target)
        lane.push((-self._plan.priority[index], -self._plan.bottom_level[index], index))

    def lanes(self) -> list[ReadyLane]:
        """Lanes with something in them."""
        empty = [key for key, lane in self._lanes.items() if not len(lane)]
        for key in empty:
            del self._lanes[key]
        return list(self._lanes.values())
