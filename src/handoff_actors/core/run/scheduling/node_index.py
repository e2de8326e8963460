"""Nodes that have room for functions of one class, the best first, without a look at all of them for each function.

What makes a node fit, and how well, changes only with the node itself. So nodes are kept in a heap, and those that have
changed are looked at anew when somebody asks. The answers are those that a scan of all nodes would give, in a time that
grows with the logarithm of their number.
"""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import spare_share
from handoff_actors.core.run.scheduling.requirements import RequirementClass

_Entry = tuple[float, str, int]


class NodeIndex:
    """Usable nodes that have room, the one with the least rank first, and of equals by name."""

    def __init__(
        self,
        nodes: Iterable[NodeState],
        has_room: Callable[[NodeState], bool],
        rank: Callable[[NodeState], float],
    ) -> None:
        self._has_room = has_room
        self._rank = rank
        #: To be looked at, because they have changed or could not be used.
        self._changed = {node.name: node for node in nodes}
        self._heap: list[_Entry] = []
        #: The latest place of each node that is in the heap; its others count no more.
        self._entries: dict[str, tuple[_Entry, NodeState]] = {}
        self._count = 0

    def changed(self, node: NodeState) -> None:
        """A node is to be looked at anew."""
        self._changed[node.name] = node

    def remove(self, name: str) -> None:
        """A node is no more."""
        self._changed.pop(name, None)
        self._entries.pop(name, None)

    def best(self) -> NodeState | None:
        """The first node."""
        self._rerank_changed()
        while self._heap:
            top = self._heap[0]
            entry, node = self._entries.get(top[1], (None, None))
            if entry == top and node is not None:
                if node.usable:
                    return node
                # It says nothing when it can be used again.
                self._changed[node.name] = node
                del self._entries[node.name]
            heappop(self._heap)
        return None

    def _rerank_changed(self) -> None:
        unusable = {}
        for name, node in self._changed.items():
            self._entries.pop(name, None)
            if not node.usable:
                unusable[name] = node
            elif self._has_room(node):
                self._count += 1
                entry = (self._rank(node), name, self._count)
                self._entries[name] = (entry, node)
                heappush(self._heap, entry)
        self._changed = unusable


class NodeIndexes:
    """What to ask, for each class that occurs, in place of all nodes."""

    def __init__(self, nodes: Iterable[NodeState]) -> None:
        self._nodes = {node.name: node for node in nodes}
        #: By class: those that could start a function at once, and those that may get one to start later.
        self._indexes: dict[int, tuple[NodeIndex, NodeIndex]] = {}
        for node in self._nodes.values():
            node.on_change = self.changed

    def changed(self, node: NodeState) -> None:
        """What a node claims or offers is not what it was."""
        for indexes in self._indexes.values():
            for index_of_nodes in indexes:
                index_of_nodes.changed(node)

    def add(self, node: NodeState) -> None:
        """A node has come."""
        self._nodes[node.name] = node
        node.on_change = self.changed
        self.changed(node)

    def remove(self, name: str) -> None:
        """A node is no more."""
        del self._nodes[name]
        for indexes in self._indexes.values():
            for index_of_nodes in indexes:
                index_of_nodes.remove(name)

    def roomiest(self, need: RequirementClass) -> NodeState | None:
        """Of the nodes that could start a function at once, the one with the largest spare share after its claim."""
        return self._indexes_for(need)[0].best()

    def shortest_queue(self, need: RequirementClass) -> NodeState | None:
        """Of the nodes that may be sent one to start later, the one with the fewest for each that can run at once."""
        node = self._indexes_for(need)[1].best()
        # If the shortest queue is full, all are.
        return node if node is not None and node.may_queue(need) else None

    def _indexes_for(self, need: RequirementClass) -> tuple[NodeIndex, NodeIndex]:
        indexes = self._indexes.get(need.number)
        if indexes is None:
            nodes = self._nodes.values()
            starting = NodeIndex(
                nodes, lambda node: node.fits(need), lambda node: -spare_share(node, need.cost)
            )
            queueing = NodeIndex(
                nodes, lambda node: node.could_ever_hold(need), lambda node: queue_share(node, need)
            )
            indexes = self._indexes[need.number] = (starting, queueing)
        return indexes


def queue_share(node: NodeState, need: RequirementClass) -> float:
    """How many functions of a class a node has been sent, for each that can run there at once."""
    return node.counts.get(need.number, 0) / max(1, node.slots(need))
