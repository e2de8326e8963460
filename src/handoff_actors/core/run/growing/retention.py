"""Retention decides what a run that grows still needs of the functions that are over, so that memory follows what is alive.

A function is held as long as the app has a handle of it. Its *value* is needed as long as the function is held, or some
function that takes it has yet to end. The *function* itself is needed beyond that, as part of the lineage of a stored value:
a value that is lost with its node is made again from its inputs, and those from theirs. A value that came inline can't be
lost, so it has no lineage. What is no more needed is forgotten, and its index is free for another function.

Lineage has a bound, as otherwise each step of a long iteration would keep all steps before it. What is beyond is cut off,
the oldest first: a value behind the cut that is lost after all can't be made again, which is a `ValueLost`.

Source of the idea: reference counting with lineage in Ray ("Ownership", NSDI 2021), and its bound on lineage.
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

from handoff_actors.core.run.facts.phases import DONE, FAILED, FREE
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index

#: Functions that are kept for lineage alone, and bytes of their inline values.
MOST_LINEAGE: Final = 10_000
MOST_LINEAGE_NBYTES: Final = 64 << 20


class Retention:
    """Track what the app and other functions need of each function that is over. Off, it forgets nothing."""

    def __init__(self, plan: Plan, state: RunState) -> None:
        self._plan = plan
        self._state = state
        #: The functions that the app has handles of.
        self.held: set[Index] = set()
        #: By function: how many of those that take its value have yet to end. Only where there are any.
        self._takers: dict[Index, int] = {}
        #: Functions that are over.
        self._over: set[Index] = set()
        #: Functions that are over and still keep others, each with these.
        self._keeps: dict[Index, tuple[Index, ...]] = {}
        #: Functions that are kept for lineage alone, the oldest first, each with the bytes of its inline value.
        self._lineage: dict[Index, int] = {}
        self._lineage_nbytes = 0
        #: Functions of which less may be needed than before.
        self._to_look_at: deque[Index] = deque()
        #: Functions that nobody needs, and values, whose functions are kept, that nobody needs.
        self._unneeded: list[Index] = []
        self._unneeded_values: list[Index] = []

    @property
    def is_on(self) -> bool:
        """True if the run forgets what is not needed."""
        return self._state.changed is not None

    def begin(self) -> None:
        """Forget from now on what is not needed. Functions that the run has already are held for good."""
        plan, phase = self._plan, self._state.phase
        self._state.changed = []
        self.held.update(range(plan.size))
        for index in range(plan.size):
            plan.dependents[index] = dict.fromkeys(plan.dependents[index])
            if phase[index] >= DONE:
                self._over.add(index)
                continue
            for producer in plan.producers[index]:
                self._takers[producer] = self._takers.get(producer, 0) + 1

    def added(self, indices: Iterable[Index], held: Iterable[Index]) -> None:
        """Take functions that are in the plan by now."""
        self.held.update(held)
        takers = self._takers
        for index in indices:
            for producer in self._plan.producers[index]:
                takers[producer] = takers.get(producer, 0) + 1
                self._needed_again(producer)

    def expanded(self, producers: Iterable[Index]) -> None:
        """Take note that a function has another one's index from now on, and its inputs of before are taken by no one there."""
        if not self.is_on:
            return
        for producer in producers:
            left = self._takers[producer] - 1
            if left:
                self._takers[producer] = left
            else:
                del self._takers[producer]
            self._to_look_at.append(producer)

    def let_go(self, indices: Iterable[Index]) -> None:
        """Take note that the app has no handle of these functions any more."""
        for index in indices:
            if index in self.held:
                self.held.discard(index)
                self._to_look_at.append(index)

    def settle(self) -> tuple[list[Index], list[Index]]:
        """Return the functions that nobody needs any more, and further ones of which nobody needs the values."""
        changed = self._state.changed
        if not changed and not self._to_look_at:
            return [], []
        if changed:
            self._state.changed = []
            self._look_at_changes(changed)
        self._look_at_all()
        while len(self._lineage) > MOST_LINEAGE or self._lineage_nbytes > MOST_LINEAGE_NBYTES:
            self._cut_behind(next(iter(self._lineage)))
            self._look_at_all()
        unneeded, values = self._unneeded, self._unneeded_values
        self._unneeded, self._unneeded_values = [], []
        return unneeded, [index for index in values if index in self._lineage]

    def unneeded_among(self, values: Iterable[Index]) -> list[Index]:
        """List those of the values that nobody needs still, whose functions are kept."""
        return [index for index in values if index in self._lineage]

    def check(self) -> None:
        """Assert that the books agree with one another. To be called when nothing is left to settle."""
        taken: Counter[Index] = Counter()
        for index, phase in enumerate(self._state.phase):
            assert (index in self._over) == (DONE <= phase < FREE), f"{index} is over, or it is not"
            if phase < DONE:
                taken.update(self._plan.producers[index])
        assert self._takers == taken, f"results are taken by {dict(taken)}, not by {self._takers}"

    # --- Who takes what -----------------------------------------------------------------------------------------

    def _look_at_changes(self, changed: Iterable[Index]) -> None:
        """Have functions that are over take nothing any more, and those that are to run again take their inputs again."""
        phase, producers, over = self._state.phase, self._plan.producers, self._over
        for index in changed:
            is_over = phase[index] >= DONE
            if is_over == (index in over):
                # It has ended anew, perhaps otherwise than before.
                continue
            if not is_over:
                self._runs_again(index)
                continue
            over.add(index)
            if producers[index] or phase[index] == FAILED:
                self._leave_inputs(index)
            self._to_look_at.append(index)

    def _runs_again(self, index: Index) -> None:
        self._over.discard(index)
        self._needed_again(index)
        for producer in self._plan.producers[index]:
            self._takers[producer] = self._takers.get(producer, 0) + 1
            self._needed_again(producer)

    def _leave_inputs(self, index: Index) -> None:
        """Have a function that is over keep no more than it needs."""
        producers = self._plan.producers[index]
        keeps = self._kept_by(index)
        if keeps:
            self._keeps[index] = keeps
        for producer in producers:
            left = self._takers[producer] - 1
            if left:
                self._takers[producer] = left
            else:
                del self._takers[producer]
            if producer not in keeps:
                self._unlink(index, producer)
            self._to_look_at.append(producer)
        if not keeps:
            # They may be forgotten, and their indices those of other functions.
            self._plan.producers[index] = ()

    def _kept_by(self, index: Index) -> tuple[Index, ...]:
        """The functions that one which is over needs: to be made again from them, or to say why it has failed."""
        state = self._state
        if state.phase[index] == FAILED:
            behind = state.failed_behind.get(index)
            if behind is None:
                return ()
            self._link(index, behind)
            return (behind,)
        may_be_lost = index in state.stored or index in self._plan.hook_of
        return self._plan.producers[index] if may_be_lost and index not in self._state.cut else ()

    def _link(self, index: Index, producer: Index) -> None:
        dependents = self._plan.dependents[producer]
        assert isinstance(dependents, dict)
        dependents[index] = None

    def _unlink(self, index: Index, producer: Index) -> None:
        dependents = self._plan.dependents[producer]
        assert isinstance(dependents, dict)
        dependents.pop(index, None)

    def _needed_again(self, index: Index) -> None:
        self._lineage_nbytes -= self._lineage.pop(index, 0)

    # --- What is needed -----------------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        over, held, takers, dependents = self._over, self.held, self._takers, self._plan.dependents
        to_look_at, unneeded = self._to_look_at, self._unneeded
        while to_look_at:
            index = to_look_at.popleft()
            if index not in over or index in held or index in takers:
                continue
            if not dependents[index]:
                over.discard(index)
                if index in self._lineage:
                    self._needed_again(index)
                if index in self._keeps:
                    self._release(index)
                unneeded.append(index)
            elif self._state.phase[index] == DONE:
                self._keep_for_lineage(index)

    def _keep_for_lineage(self, index: Index) -> None:
        if index not in self._lineage:
            nbytes = len(self._state.inline.get(index, b""))
            self._lineage[index] = nbytes
            self._lineage_nbytes += nbytes
            if index in self._state.stored:
                self._unneeded_values.append(index)

    def _release(self, index: Index) -> None:
        """Have a function keep no other."""
        for kept in self._keeps.pop(index, ()):
            self._unlink(index, kept)
            self._to_look_at.append(kept)

    def _cut_behind(self, index: Index) -> None:
        """Forget a function although values depend on it that might be lost."""
        for dependent in list(self._plan.dependents[index]):
            self._state.cut.add(dependent)
            self._plan.producers[dependent] = ()
            self._release(dependent)
