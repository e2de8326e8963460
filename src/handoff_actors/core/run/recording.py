"""A journal may record a function once it is done and its value is inline, in the app, or not wanted there."""

from collections.abc import Collection

from handoff_actors.core.run.events import RecordResults, RunEffect
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.state import DONE, RunState
from handoff_actors.ids import Index


class Recording:
    """Collects the functions to record after each event."""

    def __init__(
        self, state: RunState, result_fetch: ResultFetch, hooks: Collection[Index], *, is_on: bool
    ) -> None:
        self._state = state
        self._result_fetch = result_fetch
        self._hooks = hooks
        self.is_on = is_on
        self._due: list[Index] = []

    def note(self, index: Index) -> None:
        """Note that a function is done, or that its value has been fetched into the app."""
        is_to_come = index in self._state.stored and self._result_fetch.lacks(index)
        if self.is_on and not is_to_come and index not in self._hooks:
            self._due.append(index)

    def take(self) -> list[RunEffect]:
        """Drain the functions not yet recorded."""
        if not self._due:
            return []
        # A result may have been lost since, and is recorded once it has been made again.
        done = [index for index in self._due if self._state.phase[index] == DONE]
        self._due = []
        return [RecordResults(done)]
