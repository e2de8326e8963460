"""Work stealing: functions are recalled from overloaded nodes when the ready queue is empty and other nodes idle.

Whether a function waits on a node is judged by all that is there, of whichever run or app: so the answer to a recall may be
empty. A recall is worth its messages if the functions that wait would take a while, by the average of their class, or if
the node has not reported for longer than that average explains.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.scheduler import MAX_SCANNED_NODES, Scheduler
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Recall

#: Less work than this is not worth recalling.
MIN_RECALL_S = 0.002
#: Interval between two scans of many nodes, per node. A scan takes some 4 us per node, so scans cost a run less than a
#: tenth of its time.
SCAN_S_PER_NODE = 0.00005


class WorkStealing:
    """Asks nodes to return functions that they have not started."""

    def __init__(self, run: RunId, scheduler: Scheduler, state: RunState) -> None:
        self._run = run
        self._scheduler = scheduler
        self._state = state
        #: Time of the next scan.
        self._next_scan_at = 0.0
        #: Time at which a recall may be worthwhile that is not now; None: not before something changes.
        self.wake_at: float | None = None

    def recalls(self, now: float) -> list[SendToNode]:
        """Recall the functions that other nodes could start at once. A node returns a fused group as a whole, by its head."""
        self.wake_at = None
        nodes = self._scheduler.nodes
        if len(nodes) < 2 or not self._may_scan(now):  # noqa: PLR2004 - a pair
            return []
        unplaced = self._scheduler.ready_classes()
        # Computed once, and only if functions wait somewhere.
        rooms: dict[int, int] = {}
        effects: list[SendToNode] = []
        for node in nodes.values():
            if node.recalling or not node.sent:
                continue
            tickets: list[Ticket] = []
            for number, count in node.counts.items():
                if count and number not in unplaced:
                    need = self._scheduler.needs.classes[number]
                    tickets += self._worth_recalling(node, need, rooms, now)
            if tickets:
                node.recall_sent(len(tickets))
                room = max(rooms.values()) + len(tickets)
                effects.append(SendToNode(node.name, Recall(self._run, tickets, room)))
        return effects

    def recall(self, misplaced: Mapping[str, Sequence[Index]]) -> list[SendToNode]:
        """Recall functions from the nodes on which they wait, and which they avoid from now on."""
        effects: list[SendToNode] = []
        for name, indices in misplaced.items():
            node = self._scheduler.nodes.get(name)
            if node is None or node.recalling:
                continue
            for index in indices:
                self._scheduler.avoidance.failed(index, name)
            tickets = [Ticket(index, self._state.attempt[index]) for index in indices if index in node.sent]
            node.recall_sent(len(tickets))
            effects.append(SendToNode(name, Recall(self._run, tickets, len(tickets))))
        return effects

    def _may_scan(self, now: float) -> bool:
        count = len(self._scheduler.nodes)
        if count > MAX_SCANNED_NODES:
            if now < self._next_scan_at:
                self.wake_at = self._next_scan_at if self._scheduler.in_flight else None
                return False
            self._next_scan_at = now + SCAN_S_PER_NODE * count
        return True

    def _worth_recalling(
        self, node: NodeState, need: RequirementClass, rooms: dict[int, int], now: float
    ) -> list[Ticket]:
        """The functions of a class to recall now. If it is too early to tell, `wake_at` is set."""
        excess = node.excess(need)
        if excess <= 0:
            return []
        room = rooms.get(need.number)
        if room is None:
            room = rooms[need.number] = self._scheduler.room(need)
        if not room:
            return []
        at = max(node.no_recall_until, self._worthwhile_at(node, need, excess))
        if now < at:
            self.wake_at = at if self.wake_at is None else min(self.wake_at, at)
            return []
        movable = (
            index
            for index, sent_as in reversed(node.sent.items())
            if sent_as is need and self._may_move(index, node, now)
        )
        count = min(room, (excess + 1) // 2)
        tickets = [Ticket(index, self._state.attempt[index]) for index in islice(movable, count)]
        rooms[need.number] -= len(tickets)
        return tickets

    def _worthwhile_at(self, node: NodeState, need: RequirementClass, excess: int) -> float:
        if need.seconds is None or excess * need.seconds >= MIN_RECALL_S * max(1, node.slots(need)):
            return 0.0
        # An average says nothing of the one that runs now.
        return node.progress_at + MIN_RECALL_S + need.seconds + node.load.round_trip_s

    def _may_move(self, index: Index, node: NodeState, now: float) -> bool:
        return (
            index not in node.followers
            and not self._scheduler.avoidance.is_patient(index, now)
            and self._scheduler.destinations.target_of(index) is None
            and not self._scheduler.should_stay(index, node)
            and self._scheduler.could_go_elsewhere(index, node)
        )
