"""The end of a run: its outcome, and the nodes that still have something of it.

One that went well is over at once. A failed run is over once no node has a function of it any more, a cancelled one once
every node has closed it. Nodes that hold values keep them until the app lets go, except for those of a cancelled run.
"""

from collections.abc import Collection

from handoff_actors.core.run.events import RunEffect, RunEnded, RunForgotten, SendToNode
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.runs import Close, Stop


class Completion:
    """The outcome of a run, and the nodes that have yet to stop or to close it."""

    def __init__(self, run: RunId) -> None:
        self._run = run
        #: None while the run goes on.
        self.outcome: RunEnded | None = None
        self.is_reported = False
        self.is_let_go = False
        self._is_forgotten = False
        #: Nodes that have been sent something of this run and have not closed it. Only this changes it.
        self.open: set[str] = set()
        self._closing: set[str] = set()
        #: Nodes that have been told to stop it, and those that have.
        self._stopping: set[str] = set()
        self._stopped: set[str] = set()

    def decide(self, outcome: RunEnded) -> None:
        """End the run in this way, unless it has ended already."""
        if self.outcome is None:
            self.outcome = outcome

    def sent_to(self, name: str) -> None:
        """Note that a node has something of this run."""
        self.open.add(name)

    def stopped(self, name: str) -> None:
        """Note that a node has no function of this run any more."""
        self._stopped.add(name)

    def closed(self, name: str) -> None:
        """Note that a node has nothing of this run any more."""
        for nodes in (self.open, self._closing, self._stopping, self._stopped):
            nodes.discard(name)

    @property
    def is_moving_values(self) -> bool:
        """Tell whether values are to be copied off nodes that leave."""
        went_wrong = self.outcome is not None and (self.outcome.error is not None or self.outcome.cancelled)
        return not (went_wrong or self.is_let_go)

    def close_at(self, name: str) -> list[RunEffect]:
        """Close the run at a node that has nothing more to do with it."""
        if name not in self.open or name in self._closing:
            return []
        self._closing.add(name)
        return [SendToNode(name, Close(self._run))]

    def wind_up(self, holders: Collection[str] = (), leaving: Collection[str] = ()) -> list[RunEffect]:
        """Stop or close the run where that can be done, once there is an outcome.

        `holders` have stored values; of a run that has failed, those of nodes that are `leaving` are given up.
        """
        assert self.outcome is not None
        has_failed = self.outcome.error is not None
        is_kept = not (self.is_let_go or self.outcome.cancelled)
        staying = self.open & set(holders) if is_kept else set()
        if has_failed:
            staying -= set(leaving)
        effects = self._close_at(self.open - self._closing - staying)
        if has_failed:
            effects += self._stop_at(staying - self._stopping)
        are_done = self.open <= self._stopped if has_failed else not (self.outcome.cancelled and self.open)
        if not self.is_reported and are_done:
            self.is_reported = True
            effects.append(self.outcome)
        if self.is_reported and not self.open and not self._is_forgotten:
            self._is_forgotten = True
            effects.append(RunForgotten())
        return effects

    def _close_at(self, names: set[str]) -> list[RunEffect]:
        self._closing |= names
        return [SendToNode(name, Close(self._run)) for name in sorted(names)]

    def _stop_at(self, names: set[str]) -> list[RunEffect]:
        self._stopping |= names
        return [SendToNode(name, Stop(self._run)) for name in sorted(names)]
