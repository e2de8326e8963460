"""The end of a run: its outcome, and the nodes that still have something of it.

A failed or cancelled run is over once every node has closed it. One that went well is over at once; nodes that hold
values keep them until the app lets go.
"""

from handoff_actors.core.run.events import RunEffect, RunEnded, RunForgotten, SendToNode
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.runs import Close


class Completion:
    """The outcome of a run, and the nodes that have yet to close it."""

    def __init__(self, run: RunId) -> None:
        self._run = run
        #: None while the run goes on.
        self.outcome: RunEnded | None = None
        self.is_reported = False
        self.is_let_go = False
        self._is_forgotten = False
        #: Nodes that have been sent something of this run and have not closed it.
        self._open: set[str] = set()
        self._closing: set[str] = set()

    def decide(self, outcome: RunEnded) -> None:
        """End the run in this way, unless it has ended already."""
        if self.outcome is None:
            self.outcome = outcome

    def sent_to(self, name: str) -> None:
        """Note that a node has something of this run."""
        self._open.add(name)

    def closed(self, name: str) -> None:
        """Note that a node has nothing of this run any more."""
        self._open.discard(name)
        self._closing.discard(name)

    @property
    def keeps_values(self) -> bool:
        """Tell whether the app may still ask for values that nodes hold."""
        went_wrong = self.outcome is not None and (self.outcome.error is not None or self.outcome.cancelled)
        return not (went_wrong or self.is_let_go)

    def close_at(self, name: str) -> list[RunEffect]:
        """Close the run at a node that has nothing more to do with it."""
        if name not in self._open or name in self._closing:
            return []
        self._closing.add(name)
        return [SendToNode(name, Close(self._run))]

    def wind_up(self, holders: set[str]) -> list[RunEffect]:
        """Close the run where it can be closed, once there is an outcome. `holders` have stored values."""
        assert self.outcome is not None
        went_well = self.outcome.error is None and not self.outcome.cancelled
        stay = holders if went_well and not self.is_let_go else set()
        to_close = sorted(self._open - self._closing - stay)
        self._closing.update(to_close)
        effects: list[RunEffect] = [SendToNode(name, Close(self._run)) for name in to_close]
        if not self.is_reported and (went_well or not self._open):
            self.is_reported = True
            effects.append(self.outcome)
        if self.is_reported and not self._open and not self._is_forgotten:
            self._is_forgotten = True
            effects.append(RunForgotten())
        return effects
