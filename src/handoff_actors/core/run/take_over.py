"""A run takes over functions that were done before it began, or before it was given them."""

from collections.abc import Sequence

from handoff_actors.core.run.events import ResultsTakenOver
from handoff_actors.core.run.facts.resumption import FoundResults, ReusedResult
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.recording import Recording
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.ids import Index


class TakeOver:
    """The functions of one run that need not run."""

    def __init__(
        self,
        program: Program,
        state: RunState,
        result_fetch: ResultFetch,
        observing: Observing,
        recording: Recording,
    ) -> None:
        self._program = program
        self._plan = program.plan
        self._state = state
        self._result_fetch = result_fetch
        self._observing = observing
        self._recording = recording
        #: What the app is to do, until it is taken.
        self.effects: list[ResultsTakenOver] = []

    def take(self, index: Index, reused: ReusedResult, now: float) -> None:
        """Take a function that was done. Those that take its result miss it no more."""
        self._state.set_reused(index, reused, now)
        if reused.is_in_app:
            self._result_fetch.arrived(index)
        for dependent in self._plan.dependents[index]:
            self._state.missing[dependent] -= 1
        self._observing.function("reused", index, reused.node)

    def found(self, indices: Sequence[Index], found: FoundResults, now: float) -> None:
        """Take what is known of functions that were added just now: their fingerprints, and those that need not run."""
        if not found.fingerprints:
            return
        self._recording.is_on = True
        self._program.fingerprints.update(zip(indices, found.fingerprints, strict=True))
        for index, own in zip(indices, found.fingerprints, strict=True):
            if own.cached_as:
                # It has to be in the app to be written.
                self._result_fetch.want(index)
        if found.in_app:
            in_app = {indices[place]: value for place, value in found.in_app.items()}
            self.effects.append(ResultsTakenOver(in_app))
        for place, reused in found.reused.items():
            self.take(indices[place], reused, now)
