"""Recovery makes lost values again, and those that they were made from, as far as they are still needed.

A value is needed by functions that have yet to be sent out, and by the app until it has it. A function that has been
sent may get along without: its node may have the value already, or gives the function back as failed for want of it.
Nothing is made again from a function that has failed for good: what depends on it fails behind it.
"""

from collections.abc import Collection, Iterable, Sequence

from handoff_actors.core.run.endings.skipping import Skipping
from handoff_actors.core.run.facts.normal_path import set_ready
from handoff_actors.core.run.facts.phases import DONE, READY, WAITING, PhaseEvent
from handoff_actors.core.run.facts.state import Failure, RunState
from handoff_actors.core.run.facts.story import NO_CAUSE, StoryLog
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.recording import Recording
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.feasibility import Feasibility
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.errors import FunctionCancelled, HandoffError, ValueLost
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.text import repr_of

#: Said of a function that the app has cancelled, and of what a serialize hook has made.
CANCELLED = "it was cancelled"
MADE_FOR_ANOTHER_NODE = "it was made for a node where it is not needed"


class Recovery:
    """Puts functions back to where the state of their inputs wants them."""

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        scheduler: Scheduler,
        feasibility: Feasibility,
        result_fetch: ResultFetch,
        stories: StoryLog,
        observing: Observing,
        recording: Recording,
    ) -> None:
        self._plan = plan
        self._state = state
        self._scheduler = scheduler
        self._feasibility = feasibility
        self._result_fetch = result_fetch
        self._stories = stories
        self._observing = observing
        #: Functions whose values are lost for good, until the failure of each has been dealt with.
        self.lost_for_good: list[tuple[Index, HandoffError]] = []
        self.skipping = Skipping(plan, state, observing, recording)

    def make_ready(self, indices: Sequence[Index], now: float) -> None:
        """Make functions ready, as all of their inputs have ended; or skip them, and so on for those behind them."""
        if self.skipping.may_skip_any:
            indices = self._without_skipped(indices, now)
        set_ready(self._state, indices, now)
        self._scheduler.push(indices)

    def _without_skipped(self, indices: Iterable[Index], now: float) -> list[Index]:
        """Skip those of functions that are to be skipped. Returns the others, and those behind that are ready by that."""
        ready: list[Index] = []
        pending = list(indices)
        for index in pending:
            behind = self.skipping.skip(index, now) if self.skipping.may_skip(index) else None
            if behind is None:
                ready.append(index)
            else:
                pending += behind
        return ready

    def begin(self, indices: Sequence[Index], now: float) -> None:
        """Put new functions where their inputs want them."""
        producers, phase = self._plan.producers, self._state.phase
        ready = [index for index in indices if not producers[index] and phase[index] == WAITING]
        if ready:
            self.make_ready(ready, now)
        if len(ready) == len(indices):
            return
        lost: list[Index] = []
        for index in indices:
            if producers[index]:
                lost += self._begin(index, now)
        if lost:
            self.make_again(lost, now)

    def _begin(self, index: Index, now: float) -> Collection[Index]:
        """Put a new function where its inputs want it. Returns those of these that are lost."""
        state, producers = self._state, self._plan.producers[index]
        if state.phase[index] != WAITING:
            # It was skipped, or has failed, behind another one of these, or what it takes was.
            return ()
        failed = state.failure_before(index) if state.failures else None
        if failed is not None:
            self.fail_behind(failed, [index], now)
        elif state.count_missing(index) == 0:
            self.make_ready([index], now)
        else:
            return [producer for producer in producers if state.is_lost(producer)]
        return ()

    def again(self, index: Index, now: float, cause: int = NO_CAUSE) -> None:
        """Put a function that has come back where its inputs want it; `cause` is the departure that it came back with."""
        if index in self._state.cancelled:
            self.cancel(index, now)
            return
        self._state.change(index, PhaseEvent.RESTED)
        failed = self._state.failure_before(index) if self._state.failures else None
        if failed is not None:
            self.fail_behind(failed, [index], now)
            return
        missing = self._state.count_missing(index)
        # While it was out it seemed not to need its inputs any more, so that nobody has made lost ones again.
        spoilt = self._spoilt_inputs(index)
        if spoilt:
            self._undo_lost(spoilt, now, self._needed_for(index), cause)
        elif missing == 0:
            self.make_ready([index], now)

    def fail(self, index: Index, failure: Failure, now: float) -> None:
        """End a function that has failed for good, and whatever waits for its result.

        Dependents that are out follow when they come back: they may have the value, from an earlier attempt.
        """
        self._state.set_failed(index, failure, now)
        self._result_fetch.give_up(index)
        self.fail_behind(index, self._in_vain_without(index), now)

    def cancel(self, index: Index, now: float) -> None:
        """End a function that is with no node and is not wanted any more."""
        self._observing.function("failed", index, "", CANCELLED)
        self.fail(index, Failure(FunctionCancelled(self._plan.ids[index])), now)

    def _in_vain_without(self, index: Index) -> list[Index]:
        hooks = [producer for producer in self._plan.producers[index] if producer in self._plan.hook_of]
        return [*self._plan.dependents[index], *hooks]

    def fail_behind(self, failed: Index, others: Iterable[Index], now: float) -> None:
        """End functions that wait for the result of one that has failed, and whatever waits for theirs."""
        state, reason = self._state, f"function {repr_of(self._plan.ids[failed])} has failed"
        pending = list(others)
        while pending:
            index = pending.pop()
            if state.phase[index] not in {WAITING, READY}:
                continue
            if state.failure_before(index) is None:
                # It can do without that input.
                if state.phase[index] == WAITING and state.count_missing(index) == 0:
                    self.make_ready([index], now)
                continue
            state.set_failed(index, failed, now)
            self._result_fetch.give_up(index)
            self._observing.function("skipped", index, "", reason)
            pending += self._in_vain_without(index)

    def lose(self, index: Index, now: float, reason: str) -> int:
        """Take a value off nodes that were asked for it and did not have it. The answer may be named as a cause."""
        stored = self._state.stored.get(index)
        if stored is None:
            # The value is being made again already.
            return NO_CAUSE
        for holder in list(stored.holders):
            self._state.remove_holder(index, holder)
        return self._undo_lost([index], now, reason, NO_CAUSE)

    def lose_all_of(self, name: str, now: float, reason: str = "", cause: int = NO_CAUSE) -> None:
        """Take all values off a node, which has none of this run any more."""
        held = self._state.held_by(name)
        lost = [index for index in held if self._state.remove_holder(index, name)]
        self._undo_lost(lost, now, reason, cause)

    def make_hooks_again(self, now: float) -> None:
        """Run serialize hooks again that have worked for a node which their consumer will not run on."""
        outdated = [hook.index for hook in self._plan.hooks if self._is_outdated(hook.index)]
        self._undo_lost(outdated, now, MADE_FOR_ANOTHER_NODE, NO_CAUSE)

    def make_again(self, lost: Iterable[Index], now: float) -> None:
        """Make values again that nobody has any more, as they are needed again."""
        self._undo_lost(lost, now, "nobody has it any more, and it is needed again", NO_CAUSE)

    def _undo_lost(self, lost: Iterable[Index], now: float, reason: str, cause: int) -> int:
        """Undo what has been lost and is still needed, and so on for what that was made from.

        `reason` and `cause` say how it was lost. The answer is the departure of the value that was undone last.
        """
        pending = [(index, reason) for index in lost]
        number = NO_CAUSE
        while pending:
            index, reason = pending.pop()
            if self._state.phase[index] != DONE or not self._is_needed(index):
                continue
            number = self._stories.note(
                "value lost", index, self._state.node[index] or "", now, reason, cause
            )
            self._state.undo(index)
            if index in self._state.cut:
                self._end_cut(index)
                continue
            failed = self._state.failure_before(index) if self._state.failures else None
            if failed is not None:
                self.fail_behind(failed, [index], now)
                continue
            for dependent in self._plan.dependents[index]:
                self._input_lost(dependent, now, number)
            pending += [(producer, self._needed_for(index)) for producer in self._spoilt_inputs(index)]
            if self._state.missing[index] == 0:
                self.make_ready([index], now)
        if number != NO_CAUSE:
            # The function may need a node's results that no other function needed any more.
            self._feasibility.update(self._scheduler.nodes, now)
        return number

    def _end_cut(self, index: Index) -> None:
        """End a function whose value is lost and can't be made again, as what it was made from has been forgotten."""
        error = ValueLost(self._plan.ids[index])
        self._observing.function("failed", index, "", str(error))
        self.lost_for_good.append((index, error))

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

    def _needed_for(self, index: Index) -> str:
        return f"nobody has it any more, and {repr_of(self._plan.ids[index])} needs it again"

    def _input_lost(self, index: Index, now: float, cause: int) -> None:
        phase = self._state.phase[index]
        if phase == READY:
            self._stories.note("input lost", index, "", now, cause=cause)
        if phase in {WAITING, READY}:
            self._state.set_input_lost(index)
