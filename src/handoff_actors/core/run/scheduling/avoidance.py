"""Nodes that a run keeps away from as long as another one could do the work."""

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass


class Avoidance:
    """The nodes that are out of use, as they have said themselves."""

    def __init__(self) -> None:
        #: Their names.
        self.out_of_use: set[str] = set()

    def offer_changed(self, node: NodeState) -> None:
        """Take note that a node offers something else."""
        if node.is_out_of_use:
            self.out_of_use.add(node.name)
        else:
            self.out_of_use.discard(node.name)

    def node_gone(self, name: str) -> None:
        """Forget a node."""
        self.out_of_use.discard(name)

    def in_use(self, nodes: list[NodeState], need: RequirementClass) -> list[NodeState]:
        """Leave out the nodes that are out of use, unless none of the others could ever run such functions."""
        if not self.out_of_use:
            return nodes
        in_use = [node for node in nodes if not node.is_out_of_use]
        return in_use if any(node.could_ever_hold(need) for node in in_use) else nodes
