"""Values that a run has its nodes forget while it goes on, as nobody will ask for them any more.

The index of such a value may be used again, for the value of another function: a later attempt makes that one. So each value
is dropped by the attempt that made it, and whatever is newer stays.
"""

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import ForgetValues, NodeEffect, Reply
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.missing_values import missing_reports
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import Index, PeerId
from handoff_actors.wire.messages.runs import Drop


class DroppedValues:
    """Drops values of runs on one node."""

    def __init__(self, clients: Clients, inputs: Inputs, spill_policy: SpillPolicy) -> None:
        self._clients = clients
        self._inputs = inputs
        self._spill_policy = spill_policy

    def drop(self, peer: PeerId, message: Drop) -> list[NodeEffect]:
        """Forget values of a peer's run. Attempts that still wait for one fail: the run has given them up."""
        run = self._clients.get(message.run)
        if run is None or run.peer != peer:
            return []
        stored: list[Index] = []
        coming: list[Index] = []
        reports: list[NodeEffect] = []
        for key in message.values:
            index = key.index
            if self._inputs.holds_up_to(message.run, key):
                stored.append(index)
                self._inputs.lose(message.run, index)
                self._spill_policy.lose((message.run, index))
            if self._inputs.fetches_up_to(message.run, key):
                coming.append(index)
                run.fetching_since.pop(index, None)
                is_copy = self._inputs.take_copy(message.run, index)
                jobs = self._inputs.lost(message.run, index)
                given_up = missing_reports(
                    message.run, index, jobs, "input", "its run has dropped it", is_copy=is_copy
                )
                reports += [Reply(peer, report) for report in given_up]
        forgotten: list[NodeEffect] = [ForgetValues(message.run, stored, coming)] if stored or coming else []
        return [*forgotten, *reports]
