"""Changes of a node's store that its machine has not asked for, or that end what it has asked for."""

from typing import assert_never

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import NodeEffect, SpillFailed, StoreLost, ValueMissing, ValueSpilled
from handoff_actors.core.node.lost_values import LostValues
from handoff_actors.core.node.run_endings import RunEndings
from handoff_actors.core.node.spill_policy import SpillPolicy


class StoreChanges:
    """Has the node follow what happens to its store."""

    def __init__(
        self, clients: Clients, spill_policy: SpillPolicy, lost_values: LostValues, endings: RunEndings
    ) -> None:
        self._clients = clients
        self._spill_policy = spill_policy
        self._lost_values = lost_values
        self._endings = endings

    def changed(
        self, event: ValueSpilled | SpillFailed | StoreLost | ValueMissing, now: float
    ) -> list[NodeEffect]:
        """Take note of a change."""
        match event:
            case ValueSpilled(run, index):
                self._spill_policy.written((run, index), now)
            case SpillFailed(run, index, reason):
                self._spill_policy.refused((run, index), reason, now)
                # Functions that go on need the room more than an error that somebody may look at.
                return [effect for run in self._clients.stopped() for effect in self._endings.end(run, now)]
            case StoreLost(in_memory):
                self._lost_values.store_lost(now, in_memory=in_memory)
            case ValueMissing(run, index):
                self._lost_values.missing(run, index)
            case _:
                assert_never(event)
        return []
