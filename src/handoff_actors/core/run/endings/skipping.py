"""Decides which functions are skipped, once all of their inputs have ended: their result is SKIP, and nothing runs.

A function is skipped if one of its inputs was, if one of its conditions is false, or if it is to run only after a failure and
there was none. A condition whose value is not one of the few that are known to be false is decided in the worker.
"""

from collections.abc import Iterable

from handoff_actors.core.run.facts.part import ProgramPart
from handoff_actors.core.run.facts.phases import FAILED, WAITING
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.recording import Recording
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.run_if import conditions_among, run_if_of, tolerates
from handoff_actors.ids import Index
from handoff_actors.skip import FALSE_VALUES
from handoff_actors.text import repr_of


class Skipping:
    """Skips functions of one run."""

    def __init__(self, plan: Plan, state: RunState, observing: Observing, recording: Recording) -> None:
        self._plan = plan
        self._state = state
        self._observing = observing
        self._recording = recording
        #: Numbers of the templates whose functions may be skipped though none of their inputs was.
        self._templates: set[int] = set()
        self._add(range(len(plan.templates)))

    def add(self, part: ProgramPart) -> None:
        """Take functions that are in the plan by now."""
        self._add(part.templates)

    def _add(self, templates: Iterable[int]) -> None:
        for number in templates:
            spec = self._plan.templates[number]
            if spec.conditions or spec.run_if == "failure":
                self._templates.add(number)

    @property
    def may_skip_any(self) -> bool:
        """True unless no function has to be skipped, as is so in most runs."""
        return bool(self._state.skipped or self._templates)

    def may_skip(self, index: Index) -> bool:
        """Tell whether the function may have to be skipped: hardly any has to."""
        if self._state.skipped:
            return True
        return bool(self._templates) and (
            self._plan.template_of[index] in self._templates or index in self._plan.hook_of
        )

    def skip(self, index: Index, now: float) -> list[Index] | None:
        """Skip a function whose inputs have all ended, if that is what they say.

        Returns the functions whose inputs have all ended by that; None if the function is to run.
        """
        reason = self._reason(index)
        if not reason:
            return None
        state = self._state
        state.set_skipped(index, now)
        self._observing.function("skipped", index, "", reason)
        self._recording.note(index)
        ready: list[Index] = []
        for dependent in self._plan.dependents[index]:
            state.missing[dependent] -= 1
            if state.missing[dependent] == 0 and state.phase[dependent] == WAITING:
                ready.append(dependent)
        return ready

    def _reason(self, index: Index) -> str:
        """Say why a function is skipped; "" if it is not."""
        plan, state = self._plan, self._state
        hook = plan.hook_of.get(index)
        for producer in plan.producers[index]:
            if producer in state.skipped and not tolerates(plan, index, producer):
                return f"function {repr_of(plan.ids[producer])} was skipped"
        # A serialize hook works for its consumer alone.
        for condition in conditions_among(plan, index if hook is None else hook.consumer):
            if isinstance(condition, int) and state.inline.get(condition) in FALSE_VALUES:
                return f"its condition {repr_of(plan.ids[condition])} is false"
        if run_if_of(plan, index) == "failure" and not any(
            state.phase[producer] == FAILED for producer in plan.producers[index]
        ):
            return "no function that it takes from has failed"
        return ""
