"""The facts of a run that its report is made of: those that its view has, or a picture of them that stays as it is."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from handoff_actors.core.run.facts.outcomes import FunctionOutcome
from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index


class RunFacts(Protocol):
    """The facts of a run. See `core.run.view.RunView`, which is one of these."""

    @property
    def plan(self) -> Plan:
        """The run's plan."""

    @property
    def node(self) -> Sequence[str | None]:
        """The node that each function was sent to last."""

    @property
    def worker(self) -> Sequence[int]:
        """The process id of the worker that ran it."""

    @property
    def added_at(self) -> Sequence[float]:
        """The time at which the run was given it; 0.0 for what it has begun with."""

    @property
    def ready_at(self) -> Sequence[float]:
        """The time at which its inputs were there."""

    @property
    def sent_at(self) -> Sequence[float]:
        """The time at which it was sent."""

    @property
    def finished_at(self) -> Sequence[float]:
        """The time at which its end was heard of."""

    @property
    def ran_s(self) -> Sequence[float]:
        """The seconds that it ran."""

    @property
    def moved(self) -> Mapping[Index, int]:
        """Bytes of stored inputs that had to move, where there were any."""

    @property
    def retired(self) -> Mapping[Index, str]:
        """Reasons why workers were retired, by the function that has left something behind."""

    @property
    def relayed(self) -> Mapping[tuple[str, str], int]:
        """Bytes that have gone through the app, by the node that had them and the one that can't reach it."""

    @property
    def transfers(self) -> Sequence[Transfer]:
        """Stored values that nodes and the app have fetched, in the order of hearing."""

    @property
    def failures(self) -> Collection[Index]:
        """The functions that have failed for good."""

    @property
    def forgets(self) -> bool:
        """True for a run that forgets functions that nobody needs any more, and what functions that are over have taken."""

    def is_done(self, index: Index) -> bool:
        """Tell whether the function has a value, or had one."""

    def tries(self, index: Index) -> int:
        """Count the attempts at the function."""

    def outcome(self, index: Index) -> FunctionOutcome:
        """Say how the function has ended, if it has."""

    def result_nbytes(self, index: Index) -> int:
        """Return the encoded size of a value; 0 where there is none."""

    def parent(self, index: Index) -> FunctionId | None:
        """Return the id of the function that has added this one; None for those of the app."""
