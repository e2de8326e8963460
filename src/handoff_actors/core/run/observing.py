"""Observations of a run for `on_event` and integrations. A run without observers makes none."""

from collections.abc import Iterable
from typing import Final, assert_never

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import (
    FunctionChange,
    FunctionObserved,
    NodeJoinObserved,
    NodeLeaveObserved,
    RelayBegun,
    RelayObserved,
    RunEffect,
    TransferObserved,
)
from handoff_actors.core.run.facts.state import RunState, Transfer
from handoff_actors.ids import Index
from handoff_actors.wire.messages.runs import Fetched, Started, WorkerRetired

#: Said of a function that was sent.
SKIPPED_BY_WORKER: Final = "a condition was false, an input was skipped, or it has returned SKIP"


class Observing:
    """Collects what is to be told among the effects of a run."""

    def __init__(self, state: RunState, *, is_on: bool) -> None:
        self._state = state
        self.is_on = is_on
        self._observations: list[RunEffect] = []

    def function(self, kind: FunctionChange, index: Index, node: str, reason: str = "") -> None:
        """Tell that something has happened to a function."""
        if self.is_on:
            self._observations.append(FunctionObserved(kind, index, node, self._state.tries(index), reason))

    def completed(self, index: Index, node: str) -> None:
        """Tell that an attempt has ended with a value."""
        is_skipped = index in self._state.skipped
        self.function("skipped" if is_skipped else "completed", index, node, SKIPPED_BY_WORKER * is_skipped)

    def sent(self, observed: FunctionObserved) -> None:
        """Tell that a function leaves for a node."""
        self._observations.append(observed)

    def heard(self, name: str, message: Started | WorkerRetired) -> None:
        """Tell that workers of a node have functions in hand, or that one is retired after a function."""
        match message:
            case Started(_, tickets):
                for ticket in tickets:
                    if self._state.is_sent(ticket.index, ticket.attempt, name):
                        self.function("started", ticket.index, name)
            case WorkerRetired(_, index, _, reason):
                if self._state.note_retirement(message):
                    self.function("worker_retired", index, name, reason)
            case _:
                assert_never(message)

    def fetched(self, name: str, fetched: Iterable[Fetched]) -> None:
        """Tell that a node has fetched values into its store."""
        if self.is_on:
            self._observations += [
                TransferObserved(entry.index, name, entry.nbytes, entry.took_s) for entry in fetched
            ]

    def result_fetched(self, transfer: Transfer) -> None:
        """Tell that the app has fetched a value."""
        if self.is_on:
            took_s = transfer.ended_at - transfer.began_at
            self._observations.append(
                TransferObserved(transfer.index, transfer.node, transfer.nbytes, took_s)
            )

    def relayed(self, relay: RelayBegun, nbytes: int) -> None:
        """Tell that a value is on its way through the app."""
        if self.is_on:
            self._observations.append(RelayObserved(relay.index, relay.holder, relay.name, nbytes))

    def joined(self, node: NodeUp) -> None:
        """Tell that a node takes part."""
        if self.is_on:
            self._observations.append(NodeJoinObserved(node.name, node.capabilities))

    def left(self, name: str, reason: str) -> None:
        """Tell that a node is gone."""
        if self.is_on:
            self._observations.append(NodeLeaveObserved(name, reason))

    def take(self) -> list[RunEffect]:
        """Drain the observations not yet told."""
        observations, self._observations = self._observations, []
        return observations
