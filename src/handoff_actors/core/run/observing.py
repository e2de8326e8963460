"""What a run tells whoever watches it; nothing is made where nobody does."""

from collections.abc import Iterable

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import (
    FunctionChange,
    FunctionObserved,
    NodeJoinObserved,
    NodeLeaveObserved,
    RunEffect,
    TransferObserved,
)
from handoff_actors.core.run.state import RunState, Transfer
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Fetched


class Observing:
    """Collects what is to be told among the effects of a run."""

    def __init__(self, state: RunState, *, is_on: bool) -> None:
        self._state = state
        self.is_on = is_on
        self._told: list[RunEffect] = []

    def function(self, kind: FunctionChange, index: Index, node: str, reason: str = "") -> None:
        """Something has happened to a function."""
        if self.is_on:
            self._told.append(FunctionObserved(kind, index, node, self._state.attempt[index], reason))

    def sent(self, observed: FunctionObserved) -> None:
        """A function leaves for a node."""
        self._told.append(observed)

    def started(self, name: str, tickets: Iterable[Ticket]) -> None:
        """A node says that workers have functions in hand."""
        for ticket in tickets:
            if self._state.is_sent(ticket.index, ticket.attempt, name):
                self.function("started", ticket.index, name)

    def fetched(self, name: str, fetched: Iterable[Fetched]) -> None:
        """A node has brought values into its store."""
        if self.is_on:
            self._told += [
                TransferObserved(entry.index, name, entry.nbytes, entry.took_s) for entry in fetched
            ]

    def brought_home(self, transfer: Transfer) -> None:
        """The app has fetched a value."""
        if self.is_on:
            took_s = transfer.ended_at - transfer.began_at
            self._told.append(TransferObserved(transfer.index, transfer.node, transfer.nbytes, took_s))

    def joined(self, node: NodeUp) -> None:
        """A node takes part."""
        if self.is_on:
            self._told.append(NodeJoinObserved(node.name, node.capabilities))

    def left(self, name: str, reason: str) -> None:
        """A node takes part no more."""
        if self.is_on:
            self._told.append(NodeLeaveObserved(name, reason))

    def take(self) -> list[RunEffect]:
        """What has been collected since this was last asked."""
        told, self._told = self._told, []
        return told
