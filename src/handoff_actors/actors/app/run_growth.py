"""The functions of a run that come and go while it goes on, as its app sees them."""

import logging
from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import Protocol

from handoff_actors.actors.app.encoding import Encoded, EncodedSoFar
from handoff_actors.actors.app.packages import Packages
from handoff_actors.actors.app.run_errors import RunErrors
from handoff_actors.core.run.events import FunctionsForgotten
from handoff_actors.core.run.facts.resumption import FoundResults
from handoff_actors.core.run.grow import Grow, RunMachineEvent
from handoff_actors.core.run.view import RunView
from handoff_actors.errors import HandoffError
from handoff_actors.ids import FunctionId, Index

log = logging.getLogger(__name__)

Buffer = bytes | memoryview


#: The id of a function that has ended, its error if it has failed, and else its encoded value, if that is in the app.
EndedFunction = tuple[FunctionId, HandoffError | None, Buffer | None]


class GrowthListener(Protocol):
    """Hears what becomes of the functions that an app has handles of."""

    def functions_ended(self, ended: Sequence[EndedFunction]) -> None:
        """Take note that functions have ended, well or not; perhaps not for the first time."""

    def value_arrived(self, function_id: FunctionId) -> None:
        """Take note that a stored value is in the app."""

    def run_over(self, error: HandoffError | None) -> None:
        """Take note that the run is over; without an error all functions have ended, or were cancelled."""


class RunGrowth:
    """Adds functions to one run, and lets go of what is forgotten."""

    def __init__(
        self,
        view: RunView,
        values: dict[Index, Buffer],
        packages: Packages,
        errors: RunErrors,
        feed: Callable[[RunMachineEvent], None],
        fetches: dict[Index, Callable[[], None]],
    ) -> None:
        self._view = view
        self._values = values
        self._packages = packages
        self._errors = errors
        self.feed = feed
        self.listener: GrowthListener | None = None
        self.encoded_so_far = EncodedSoFar()
        #: By value: gives up the fetch of it.
        self._fetches = fetches

    def add(
        self,
        encoded: Encoded,
        held: Collection[Index],
        found: FoundResults,
        let_go: Collection[FunctionId] = (),
    ) -> None:
        """Add functions, of which some were `found`.

        `held` are those that the app has handles of, as numbered in their own plan; of `let_go` it has none any more.
        """
        self.encoded_so_far.next_index = encoded.next_index
        if encoded.modules is not None:
            key, index = encoded.modules
            self.encoded_so_far.modules[key] = index
        self._values |= encoded.large
        self._packages.add(encoded.directories, encoded.definitions)
        app_values = [*encoded.large, *encoded.directories, *encoded.definitions]
        self.feed(Grow(encoded.program, held, app_values, encoded.refused, found, let_go=let_go))

    def ended(self, indices: Sequence[Index]) -> None:
        """Tell that functions have ended."""
        if self.listener is not None:
            view, values = self._view, self._values
            ids, inline, has_failed = view.plan.ids, view.inline, view.has_failed
            self.listener.functions_ended(
                [
                    (ids[index], self._error_of(index), None)
                    if has_failed(index)
                    else (ids[index], None, inline[index] if index in inline else values.get(index))
                    for index in indices
                ]
            )

    def arrived(self, index: Index) -> None:
        """Tell that a stored value is in the app."""
        if self.listener is not None:
            self.listener.value_arrived(self._view.plan.ids[index])

    def forgotten(self, effect: FunctionsForgotten) -> None:
        """Let go of the values and errors of functions that are forgotten."""
        for error in effect.unseen:
            log.error(
                "a function that another one has added has failed, and none has needed its result: %s", error
            )
        self._errors.forget(effect.indices)
        # Of most functions nothing is here.
        if self._values or self._fetches:
            for index in (*effect.indices, *effect.values):
                self._values.pop(index, None)
                give_up = self._fetches.pop(index, None)
                if give_up is not None:
                    give_up()
        for index in effect.app_values:
            self._values.pop(index, None)
            self._packages.forget(index)
            modules = self.encoded_so_far.modules
            for key in [key for key, known in modules.items() if known == index]:
                del modules[key]

    def over(self, error: HandoffError | None) -> None:
        """Tell that the run is over."""
        if self.listener is not None:
            self.listener.run_over(error)

    # --- What has become of a function --------------------------------------------------------------------------

    def _error_of(self, index: Index) -> HandoffError:
        error = self._errors.of(index)
        # Where it is raised it gets a traceback, with all that the frames of whoever awaits hold, the handle above all: the
        # run, which has its own error for as long as there is a handle, must not refer to these.
        raised = copy(error)
        raised.__cause__ = error.__cause__
        return raised

    def encoded(self, function_id: FunctionId) -> Buffer | None:
        """Return the encoded value of a function that is done; None for a stored one that is not in the app."""
        index = self._view.plan.index(function_id)
        inline = self._view.inline.get(index)
        return self._values.get(index) if inline is None else inline
