"""Values that somebody has removed from a node's store: the node forgets them, and runs find out when they ask for them.

A function that needs such a value is fetched it from elsewhere, or is told that it is lost, so that the run makes it again.
Attempts that fail for want of the store are reported as such: they cost no retry.
"""

from typing import Final

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.runs import FailureKind

#: Seconds after a loss in which workers still report failures because of it.
FELT_S: Final = 5.0
#: Ways in which an attempt fails for want of the store.
_SYMPTOMS: Final = frozenset[FailureKind]({"store", "input", "environment", "serialization"})


class LostValues:
    """The losses of one node."""

    def __init__(self, clients: Clients, inputs: Inputs, spill_policy: SpillPolicy) -> None:
        self._clients = clients
        self._inputs = inputs
        self._spill_policy = spill_policy
        self._felt_until = float("-inf")

    def store_lost(self, now: float, *, in_memory: bool) -> None:
        """Forget all values, or those on disk alone."""
        self._felt_until = now + FELT_S
        for run, index in self._inputs.values_here():
            if in_memory or not self._spill_policy.is_in_memory((run, index)):
                self.missing(run, index)
        for _, run_here in self._clients.lives():
            run_here.lose_packages()

    def missing(self, run: RunId, index: Index) -> None:
        """Forget one value."""
        self._inputs.lose(run, index)
        self._spill_policy.lose((run, index))

    def is_cause_of(self, kind: FailureKind, now: float) -> bool:
        """True if an attempt that has failed like this just now has done so since the store was lost."""
        return now < self._felt_until and kind in _SYMPTOMS
