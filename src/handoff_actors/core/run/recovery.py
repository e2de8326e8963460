"""What must be made again: values that were lost, and those that they were made from, as far as they are still needed.

A value is needed by functions that have yet to be sent out, and by the app until it has it. A function that has been
sent may get along without: its node may have the value already, or gives the function back as failed for want of it.
"""

from collections.abc import Iterable

from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.feasibility import Feasibility
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.core.run.state import DONE, READY, WAITING, PhaseEvent, RunState
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index


class Recovery:
    """Puts functions back to where the state of their inputs wants them."""

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        scheduler: Scheduler,
        feasibility: Feasibility,
        result_fetch: ResultFetch,
    ) -> None:
        self._plan = plan
        self._state = state
        self._scheduler = scheduler
        self._feasibility = feasibility
        self._result_fetch = result_fetch

    def make_ready(self, index: Index, now: float) -> None:
        """All inputs of a function are there."""
        self._state.set_ready(index, now)
        self._scheduler.push(index)

    def again(self, index: Index, now: float) -> None:
        """A function is not on its way any more: back to where its inputs put it."""
        self._state.change(index, PhaseEvent.RESTED)
        missing = self._state.count_missing(index)
        # While it was out it seemed not to need its inputs any more, so that nobody has made lost ones again.
        spoilt = self._spoilt_inputs(index)
        if spoilt:
            self.make_again(spoilt, now)
        elif missing == 0:
            self.make_ready(index, now)

    def lose(self, index: Index, now: float) -> None:
        """Nobody who was asked had a value: those who were said to hold it don't."""
        stored = self._state.stored.get(index)
        if stored is not None:
            for holder in list(stored.holders):
                self._state.remove_holder(index, holder)
            self.make_again([index], now)

    def lose_all_of(self, name: str, now: float) -> None:
        """A node has no value of this run any more."""
        held = self._state.held_by(name)
        self.make_again([index for index in held if self._state.remove_holder(index, name)], now)

    def make_hooks_again(self, now: float) -> None:
        """Serialize hooks have worked for nodes that have been chosen no longer."""
        self.make_again([hook.index for hook in self._plan.hooks if self._is_outdated(hook.index)], now)

    def make_again(self, lost: Iterable[Index], now: float) -> None:
        """Undo what has been lost and is still needed, and so on for what that was made from."""
        pending = list(lost)
        is_undone = False
        while pending:
            index = pending.pop()
            if self._state.phase[index] != DONE or not self._is_needed(index):
                continue
            is_undone = True
            self._state.undo(index)
            for dependent in self._plan.dependents[index]:
                self._input_lost(dependent)
            pending += self._spoilt_inputs(index)
            if self._state.missing[index] == 0:
                self.make_ready(index, now)
        if is_undone:
            # It may take a node that nothing needed any more.
            self._feasibility.look(self._scheduler.nodes, now)

    def _is_needed(self, index: Index) -> bool:
        return self._result_fetch.lacks(index) or self._state.is_needed(index)

    def _is_outdated(self, index: Index) -> bool:
        return self._state.phase[index] == DONE and self._scheduler.is_outdated(index)

    def _spoilt_inputs(self, index: Index) -> list[Index]:
        return [
            producer
            for producer in self._plan.producers[index]
            if self._state.is_lost(producer) or self._is_outdated(producer)
        ]

    def _input_lost(self, index: Index) -> None:
        if self._state.phase[index] in {WAITING, READY}:
            self._state.change(index, PhaseEvent.INPUT_LOST)
            self._state.count_missing(index)
