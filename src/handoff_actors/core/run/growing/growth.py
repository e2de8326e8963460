"""Growth gives a run further functions while it goes on, and has it forget those that nobody needs any more.

A run is open as long as functions may be added to it. What was added is never removed before it is over, and takes only
what was there before, so that the graph stays acyclic by construction.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from handoff_actors.core.run.endings.cancelling import cancel_functions
from handoff_actors.core.run.endings.completion import Completion
from handoff_actors.core.run.endings.drain import Drain
from handoff_actors.core.run.endings.failures import Failures
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.endings.retries import Retries
from handoff_actors.core.run.events import FunctionsEnded, FunctionsForgotten, RunEffect, SendToNode
from handoff_actors.core.run.facts.history import History
from handoff_actors.core.run.facts.phases import DONE, FAILED, FREE
from handoff_actors.core.run.facts.resumption import NO_FINGERPRINTS
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.grow import Grow
from handoff_actors.core.run.growing.expanding import Expanding
from handoff_actors.core.run.growing.growing_program import GrowingProgram
from handoff_actors.core.run.growing.retention import Retention
from handoff_actors.core.run.recording import Recording
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.feasibility import Feasibility
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.core.run.take_over import TakeOver
from handoff_actors.errors import FunctionCancelled, HandoffError
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.wire.messages.jobs import Done, ValueKey
from handoff_actors.wire.messages.runs import Drop

#: What nodes have fetched is reported up to this many times, in a run that forgets.
MOST_TRANSFERS = 10_000


class GrowthBooks(NamedTuple):
    """The books about the functions of a run that grows."""

    program: GrowingProgram
    retention: Retention
    expanding: Expanding
    history: History


class Growth:
    """The functions of one run as they come and go."""

    #: The time at which there is something more to forget.
    wake_at: float | None = None
    _books_made: GrowthBooks | None = None

    def __init__(
        self,
        run: RunId,
        plan: Plan,
        state: RunState,
        scheduler: Scheduler,
        feasibility: Feasibility,
        retries: Retries,
        recovery: Recovery,
        drain: Drain,
        failures: Failures,
        result_fetch: ResultFetch,
        completion: Completion,
        take_over: TakeOver,
        recording: Recording,
        make_books: Callable[[], GrowthBooks],
        *,
        is_open: bool,
    ) -> None:
        self._run = run
        self._plan = plan
        self._state = state
        self._scheduler = scheduler
        self._feasibility = feasibility
        self._retries = retries
        self._recovery = recovery
        self._drain = drain
        self._failures = failures
        self._result_fetch = result_fetch
        self._completion = completion
        self._take_over = take_over
        self._recording = recording
        self._make_books = make_books
        #: Functions may be added.
        self.is_open = is_open
        #: Functions that nobody needs, and values, whose indices still stand in something that is under way.
        self._postponed: list[Index] = []
        self._postponed_values: list[Index] = []
        if is_open:
            self._books.retention.begin()

    @property
    def _books(self) -> GrowthBooks:
        # Most runs never grow, and many are over in less than a millisecond. A `cached_property` would have every other
        # attribute be read in three times the time.
        if self._books_made is None:
            self._books_made = self._make_books()
        return self._books_made

    @property
    def expanding(self) -> Expanding:
        """The functions that have returned graphs."""
        return self._books.expanding

    @property
    def is_on(self) -> bool:
        """True for a run that forgets what is not needed any more."""
        return self._state.changed is not None

    # --- More ---------------------------------------------------------------------------------------------------

    def add(self, grow: Grow, now: float) -> None:
        """Add functions; those that need nothing more are ready at once."""
        if not self.is_on:
            self._books.retention.begin()
        books = self._books
        part = books.program.add(grow.program, grow.app_values, grow.depth)
        indices = part.indices
        self._state.add(indices, now)
        self._scheduler.add(part, grow.program)
        self._recovery.skipping.add(part)
        books.retention.added(indices, [indices[place] for place in grow.held])
        must_look = self._feasibility.add(indices)
        self._take_over.found(indices, grow.found, now)
        self._recovery.begin(indices, now)
        if must_look:
            self._feasibility.update(self._scheduler.nodes, now)
        # Nothing more is to run but what does in any case.
        self._failures.must_stop_others = self._failures.outcome is not None
        if grow.refused:
            errors = [(indices[place], error) for place, error in grow.refused.items()]
            self._failures.refused(errors, now)
        self.let_go(grow.let_go)

    def want(self, ids: Iterable[FunctionId], now: float) -> None:
        """Bring values into the app, as soon as they are there."""
        for index in self._known(ids):
            if not self._result_fetch.want(index) or index not in self._state.stored:
                continue
            if self._state.is_lost(index):
                self._recovery.make_again([index], now)
            else:
                self._result_fetch.bring(index)

    def _known(self, ids: Iterable[FunctionId]) -> list[Index]:
        found = map(self._plan.index_of.get, ids)
        return [index for index in found if index is not None]

    # --- Less ---------------------------------------------------------------------------------------------------

    def let_go(self, ids: Iterable[FunctionId]) -> None:
        """Take note that the app has no handles of these functions any more."""
        self._books.retention.let_go(self._known(ids))

    def cancel(self, ids: Iterable[FunctionId], now: float) -> list[SendToNode]:
        """Cancel functions, and those that they have added."""
        found = self._books.program.with_added(self._known(ids))
        return cancel_functions(self._run, found, self._state, self._recovery, self._failures, now)

    def _ended(self) -> list[RunEffect]:
        """Tell which of the functions that the app has handles of have ended in this event."""
        phase, held = self._state.phase, self._books.retention.held
        ended = [
            index
            for index in self._state.changed or ()
            if (phase[index] == DONE or phase[index] == FAILED) and index in held
        ]
        return [FunctionsEnded(ended)] if ended else []

    def unused(self, name: str, entry: Done) -> list[SendToNode]:
        """Drop what an attempt has stored on a node that does not count any more."""
        index, state = entry.index, self._state
        if not (self.is_on and 0 <= index < len(state.phase)):
            return []
        if state.phase[index] == DONE and state.attempt[index] == entry.attempt:
            # It has been said twice.
            return []
        parts = () if entry.additions is None else entry.additions.parts
        # Reports may come twice: what counts already is in use.
        values = [ValueKey(part.index, 0) for part in parts if state.parted.find(part.index) is None]
        if isinstance(entry.value, int):
            values.append(ValueKey(index, entry.attempt))
        return [SendToNode(name, Drop(self._run, values))] if values else []

    def settle(self, now: float, *, is_watched: bool) -> list[RunEffect]:
        """Tell what has ended, and forget what nobody needs any more; `is_watched`: not before what has happened to it has been told, or recorded."""
        self.wake_at = None
        ended = self._ended()
        if self._take_over.effects:
            # Whoever is told that a function has ended takes its value.
            ended = [*self._take_over.effects, *ended]
            self._take_over.effects = []
        unneeded, values = self._books.retention.settle()
        if is_watched and unneeded:
            self.wake_at = now
        due = self._postponed if is_watched else [*self._postponed, *unneeded]
        self._postponed = [index for index in due if self._is_in_use(index)] if self._is_any_in_use else []
        if self._postponed and self._recording.has_due:
            self.wake_at = now
        if self._postponed:
            due = [index for index in due if not self._is_in_use(index)]
        if values or self._postponed_values:
            values = self._values_to_drop(values)
        if is_watched:
            self._postponed += unneeded
        if self._postponed:
            # Or else one whose value is lost meanwhile would be made again for the app.
            to_cache = set(filter(self._is_to_be_recorded, self._postponed))
            self._result_fetch.forget([index for index in self._postponed if index not in to_cache])
        return [*ended, *self._forget(due, values)] if due or values else ended

    def _values_to_drop(self, unneeded: list[Index]) -> list[Index]:
        values = [*unneeded, *self._books.retention.unneeded_among(self._postponed_values)]
        self._postponed_values = [index for index in values if self._is_to_be_recorded(index)]
        return [index for index in values if not self._is_to_be_recorded(index)]

    @property
    def _is_any_in_use(self) -> bool:
        return bool(self._drain.is_copying_any or self._recording.has_due or self._result_fetch.pending)

    def _is_in_use(self, index: Index) -> bool:
        return self._drain.is_copying(index) or self._is_to_be_recorded(index)

    def _is_to_be_recorded(self, index: Index) -> bool:
        """Tell whether the value is on its way to the app, to be cached there, or there just now."""
        if self._recording.is_due(index):
            return True
        if index not in self._result_fetch.pending:
            return False
        return bool(self._books.program.fingerprints.get(index, NO_FINGERPRINTS).cached_as)

    def _forget(self, indices: list[Index], values: list[Index]) -> list[RunEffect]:
        drops: dict[str, list[ValueKey]] = {}
        if self._state.stored or self._state.left_at:
            for index in (*indices, *values):
                self._drop_value(index, drops)
        self._books.history.note(indices)
        unseen = self._unseen_errors(indices) if self._state.failures else ()
        self._state.forget(indices)
        self._retries.forget(indices)
        self._recording.forget(indices)
        self._drain.forget(indices)
        self._result_fetch.forget(indices)
        self._scheduler.remove(indices)
        self._books.expanding.bound.forget(indices)
        removed = self._books.program.remove(indices)
        self._books.history.forget_templates(removed.templates)
        for template in removed.templates:
            for node in self._scheduler.nodes.values():
                node.templates.discard(template)
        told = dict.fromkeys(drops)
        if removed.app_values or removed.templates:
            told |= dict.fromkeys(self._completion.open)
        keys = [ValueKey(index, 0) for index in removed.app_values]
        effects: list[RunEffect] = [
            SendToNode(name, Drop(self._run, drops.get(name, []) + keys, removed.templates))
            for name in told
            if name in self._scheduler.nodes and name in self._completion.open
        ]
        transfers = self._state.transfers
        if len(transfers) > 2 * MOST_TRANSFERS:
            del transfers[:-MOST_TRANSFERS]
        effects.append(FunctionsForgotten(indices, removed.app_values, values, unseen))
        return effects

    def _unseen_errors(self, indices: Iterable[Index]) -> Sequence[HandoffError]:
        failures, parent_of = self._state.failures, self._plan.parent_of
        # The app has had handles of its own functions.
        failed = [index for index in indices if index in failures and index in parent_of]
        if not failed:
            return ()
        seen = set(self._state.failed_behind.values())
        errors = [failures[index].error for index in failed if index not in seen]
        return [error for error in errors if not isinstance(error, FunctionCancelled)]

    def _drop_value(self, index: Index, drops: dict[str, list[ValueKey]]) -> None:
        stored = self._state.stored.get(index)
        names = sorted(self._state.left_at.pop(index, ()))
        if stored is not None:
            names += [*stored.holders, *sorted(stored.told)]
        if names:
            # Nodes may still have parts of before the value was made again.
            keys = [ValueKey(part, 0) for part in self._state.parted.indices_of(index)]
            keys = keys or [ValueKey(index, self._state.version_of(index))]
            for name in dict.fromkeys(names):
                drops.setdefault(name, []).extend(keys)
        if stored is None:
            return
        self._state.lose_holders(index)
        stored.told.clear()
        self._drain.forget([index])
        self._result_fetch.forget([index])

    def check(self) -> None:
        """Assert that what is forgotten is gone, and nothing else."""
        if self.is_on and not (self._state.changed or self._postponed):
            self._books.retention.check()
        for index, phase in enumerate(self._state.phase):
            assert (phase == FREE) == (self._plan.ids[index] is None), f"{index} is half forgotten"
