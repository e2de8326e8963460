"""Nodes that a run keeps away from as long as another one could do the work.

A function that has failed on a node goes to one where it has not, as what made it fail may be the node's. It waits in the
queue of such a node, or for room there, but not for long: the other nodes may be busy for hours, and the failure may have
been the function's. Source of the idea: Spark's and Slurm's exclusion of nodes, per task and per job.
"""

from collections.abc import Iterable
from typing import Final

from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.ids import Index

#: Seconds that a function waits for a node on which it has not failed.
PATIENCE_S: Final = 5.0
NOWHERE: Final = frozenset[str]()


class Avoidance:
    """The nodes that are out of use, as they have said themselves, and those on which functions have failed."""

    def __init__(self) -> None:
        #: Names of nodes.
        self.out_of_use: set[str] = set()
        #: By function: where it has failed, and how long it waits for another node, once it has asked for one.
        self._failed_on: dict[Index, frozenset[str]] = {}
        self._patient_until: dict[Index, float] = {}

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

    # --- Functions that have failed -----------------------------------------------------------------------------

    def failed(self, index: Index, name: str) -> None:
        """Note that a function has failed on a node."""
        self._failed_on[index] = self.failed_on(index) | {name}
        self._patient_until.pop(index, None)

    def remove(self, indices: Iterable[Index]) -> None:
        """Forget where functions have failed that have succeeded since, or are no more in the plan."""
        if self._failed_on:
            discard_all(indices, self._failed_on, self._patient_until)

    @property
    def is_needed(self) -> bool:
        """True if functions have failed somewhere."""
        return bool(self._failed_on)

    def failed_on(self, index: Index) -> frozenset[str]:
        """The names of the nodes on which a function has failed."""
        return self._failed_on.get(index, NOWHERE) if self._failed_on else NOWHERE

    def elsewhere(
        self, index: Index, nodes: list[NodeState], need: RequirementClass, now: float
    ) -> list[NodeState]:
        """Leave out the nodes on which a function has failed, while it has the patience to wait for one of the others."""
        failed_on = self.failed_on(index)
        if not failed_on:
            return nodes
        others = [node for node in nodes if node.name not in failed_on and node.could_ever_hold(need)]
        if not others or now >= self._patient_until.setdefault(index, now + PATIENCE_S):
            return nodes
        return others

    def is_patient(self, index: Index, now: float) -> bool:
        """True if a function should stay in the queue of the node that it has been sent to after its failure."""
        return now < self._patient_until.get(index, now)

    def wake_at(self, now: float) -> float | None:
        """The next time at which the patience of a function ends that has found no room, or that waits in a queue."""
        if not self._patient_until:
            return None
        return min((until for until in self._patient_until.values() if until > now), default=None)
