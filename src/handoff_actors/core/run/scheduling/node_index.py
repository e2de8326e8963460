"""An index of the nodes that have room for functions of one class, the best first, in the place of a scan of all nodes.

The fitness of a node, and its rank, change only with the node itself. So nodes are kept in a heap, and changed nodes are
ranked again at the next query. Queries answer as a scan of all nodes would, in a time that grows with the logarithm of
their number.
"""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import spare_share
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.session_load import SessionLoad

_Rank = tuple[float, ...]
_Entry = tuple[_Rank, str, int]


class NodeIndex:
    """Usable nodes that have room, ordered by rank, lowest first, and then by name."""

    def __init__(
        self,
        nodes: Iterable[NodeState],
        has_room: Callable[[NodeState], bool],
        rank: Callable[[NodeState], _Rank],
    ) -> None:
        self._has_room = has_room
        self._rank = rank
        #: To be ranked again, because they have changed or could not be used.
        self._changed = {node.name: node for node in nodes}
        self._heap: list[_Entry] = []
        #: The latest entry of each node in the heap; its older entries there are stale.
        self._entries: dict[str, tuple[_Entry, NodeState]] = {}
        self._count = 0

    def changed(self, node: NodeState) -> None:
        """Rank a node again at the next query."""
        self._changed[node.name] = node

    def remove(self, name: str) -> None:
        """Remove a node that is gone."""
        self._changed.pop(name, None)
        self._entries.pop(name, None)

    def best(self) -> NodeState | None:
        """The usable node with the lowest rank; None if there is none."""
        self._rerank_changed()
        while self._heap:
            top = self._heap[0]
            entry, node = self._entries.get(top[1], (None, None))
            if entry == top and node is not None:
                if node.usable:
                    return node
                # That nodes become usable again is no change of their load.
                self._changed[node.name] = node
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
    """Node indexes for each requirement class that occurs."""

    def __init__(self, nodes: Iterable[NodeState], session: SessionLoad) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._session = session
        session.is_indexed = True
        #: The number of changes of the session's nodes that the indexes have taken in.
        self._version = session.version
        #: By class: nodes that could start a function at once, and nodes that may queue one.
        self._indexes: dict[int, tuple[NodeIndex, NodeIndex]] = {}

    def add(self, node: NodeState) -> None:
        """Add a node to every index."""
        self._nodes[node.name] = node
        self._changed(node)

    def remove(self, name: str) -> None:
        """Remove a node that is gone from every index."""
        del self._nodes[name]
        for indexes in self._indexes.values():
            for index_of_nodes in indexes:
                index_of_nodes.remove(name)

    def roomiest(self, need: RequirementClass) -> NodeState | None:
        """The node with the largest spare share after the claim, of those that could start a function at once."""
        return self._indexes_for(need)[0].best()

    def shortest_queue(self, need: RequirementClass) -> NodeState | None:
        """The node with the shortest queue in proportion to its slots, of those that may queue one more function."""
        node = self._indexes_for(need)[1].best()
        # If the shortest queue is full, all are.
        return node if node is not None and node.may_queue(need) else None

    def _take_in_changes(self) -> None:
        """Rank nodes again whose load has changed, by whichever run of the session."""
        if self._version == self._session.version:
            return
        names = self._session.changed_since(self._version)
        self._version = self._session.version
        for name in self._nodes if names is None else set(names) & self._nodes.keys():
            self._changed(self._nodes[name])

    def _changed(self, node: NodeState) -> None:
        for indexes in self._indexes.values():
            for index_of_nodes in indexes:
                index_of_nodes.changed(node)

    def _indexes_for(self, need: RequirementClass) -> tuple[NodeIndex, NodeIndex]:
        self._take_in_changes()
        indexes = self._indexes.get(need.number)
        if indexes is None:
            nodes = self._nodes.values()
            starting = NodeIndex(nodes, lambda node: node.fits(need), lambda node: _fullness(node, need))
            queueing = NodeIndex(
                nodes, lambda node: node.could_ever_hold(need), lambda node: queue_rank(node, need)
            )
            indexes = self._indexes[need.number] = (starting, queueing)
        return indexes


def queue_rank(node: NodeState, need: RequirementClass) -> tuple[float, ...]:
    """Functions of a class that this run has sent to a node, per slot for that class; then how full the node is."""
    share = node.counts.get(need.number, 0) / max(1, node.slots(need))
    return share, *_fullness(node, need)


def _fullness(node: NodeState, need: RequirementClass) -> tuple[float, int]:
    return -spare_share(node, need.cost, is_async=need.is_async), -node.load.tie
