"""Work stealing: functions are recalled from overloaded nodes when the ready queue is empty and other nodes idle."""

from itertools import islice

from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.scheduler import MAX_SCANNED_NODES, Scheduler
from handoff_actors.core.run.state import RunState
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Recall

#: Less work than this is not worth recalling.
MIN_RECALL_S = 0.002
#: Interval between two scans of many nodes, per node. A scan takes some 4 us per node, so scans cost a run less than a
#: tenth of its time. An advert of any node triggers the next scan.
SCAN_S_PER_NODE = 0.00005


class WorkStealing:
    """Asks nodes to return functions that they have not started."""

    def __init__(self, run: RunId, scheduler: Scheduler, state: RunState) -> None:
        self._run = run
        self._scheduler = scheduler
        self._state = state
        #: Time of the next scan.
        self._next_scan_at = 0.0

    def recalls(self, now: float) -> list[SendToNode]:
        """Recall the functions that other nodes could start at once. A node returns a fused group as a whole, by its head."""
        nodes = self._scheduler.nodes
        if len(nodes) < 2:  # noqa: PLR2004 - a pair
            return []
        if len(nodes) > MAX_SCANNED_NODES and now < self._next_scan_at:
            return []
        self._next_scan_at = now + SCAN_S_PER_NODE * len(nodes)
        waiting = self._scheduler.ready_classes()
        # Computed once, and only if a node has more than it can start: such a node has no room itself.
        rooms: dict[int, int] = {}
        effects: list[SendToNode] = []
        for node in nodes.values():
            if node.is_recalling or not node.sent or now < node.no_recall_until:
                continue
            tickets = [
                ticket
                for number, count in node.counts.items()
                if count and number not in waiting
                for ticket in self._surplus(node, self._scheduler.needs.classes[number], rooms)
            ]
            if tickets:
                node.is_recalling = True
                effects.append(SendToNode(node.name, Recall(self._run, tickets)))
        return effects

    def _surplus(self, node: NodeState, need: RequirementClass, rooms: dict[int, int]) -> list[Ticket]:
        excess = node.excess(need)
        if excess <= 0:
            return []
        if need.seconds is not None and excess * need.seconds < MIN_RECALL_S * max(1, node.slots(need)):
            return []
        room = rooms.get(need.number)
        if room is None:
            room = rooms[need.number] = self._scheduler.room(need)
        if not room:
            return []
        movable = (
            index
            for index, sent_as in reversed(node.sent.items())
            if sent_as is need and self._may_move(index, node)
        )
        count = min(room, (excess + 1) // 2)
        return [Ticket(index, self._state.attempt[index]) for index in islice(movable, count)]

    def _may_move(self, index: Index, node: NodeState) -> bool:
        return (
            index not in node.followers
            and self._scheduler.target_of(index) is None
            and not self._scheduler.should_stay(index, node)
        )
