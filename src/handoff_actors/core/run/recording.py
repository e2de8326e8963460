"""A journal may record a function once it is done and its value is inline, in the app, or not wanted there."""

from collections.abc import Iterable

from handoff_actors.core.run.events import RecordResults, RunEffect
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.phases import DONE, FAILED
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index


class Recording:
    """Collects the functions to record after each event."""

    def __init__(self, plan: Plan, state: RunState, result_fetch: ResultFetch, *, is_on: bool) -> None:
        self._plan = plan
        self._state = state
        self._result_fetch = result_fetch
        #: Functions whose results are not recorded, since those of functions that have failed would change them.
        self._after_failure: set[Index] = set()
        self.is_on = is_on
        self._due: dict[Index, None] = {}

    def note(self, index: Index) -> None:
        """Note that a function is done, or that its value has been fetched into the app."""
        is_to_come = index in self._state.stored and self._result_fetch.lacks(index)
        if (
            self.is_on
            and not is_to_come
            and index not in self._plan.hook_of
            and not self._is_after_failure(index)
        ):
            self._due[index] = None

    @property
    def has_due(self) -> bool:
        """True if functions are to be recorded."""
        return bool(self._due)

    def is_due(self, index: Index) -> bool:
        """Tell whether a function is to be recorded, and is not yet."""
        return index in self._due

    def note_after_failure(self, index: Index) -> None:
        """Note, of a function that goes on as a graph, whether that is made from a failure."""
        self._is_after_failure(index)

    def forget(self, indices: Iterable[Index]) -> None:
        """Forget functions: others may have their indices from now on."""
        discard_all(indices, self._after_failure)

    def _is_after_failure(self, index: Index) -> bool:
        """Tell whether a result is made from the failure of another function: it would be another once that has succeeded."""
        state = self._state
        if index in self._after_failure:
            return True
        if not state.failures:
            return False
        producers = self._plan.producers[index]
        is_after = any(state.phase[each] == FAILED or each in self._after_failure for each in producers)
        if is_after:
            self._after_failure.add(index)
        return is_after

    def take(self) -> list[RunEffect]:
        """Drain the functions not yet recorded."""
        if not self._due:
            return []
        # A result may have been lost since, and is recorded once it has been made again.
        done = [index for index in self._due if self._state.phase[index] == DONE]
        self._due = {}
        return [RecordResults(done)]
