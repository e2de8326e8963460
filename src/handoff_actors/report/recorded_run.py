"""A picture of a run that grows, as it is at one moment: functions that are there, and those that it has forgotten.

Functions that are forgotten have the indices from the end of the run's own plan on. So a report need not know of them, and
stays as it is while the run goes on.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from handoff_actors.core.run.facts.history import CodeHistory, PastFunction
from handoff_actors.core.run.facts.outcomes import FunctionOutcome
from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.core.run.view import RunView
from handoff_actors.graph.naming import CodeName
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.spec import HookId, TemplateSpec
from handoff_actors.ids import FunctionId, Index


class RecordedRun:
    """The facts of a run and of its history. See `RunFacts`."""

    def __init__(self, view: RunView) -> None:
        past, live = view.history.kept, range(view.plan.size)
        self._first = len(live)
        self.plan = _extended(view.plan, past)
        self.node = [*view.node, *[each.node for each in past]]
        self.worker = [*view.worker, *[each.worker for each in past]]
        self.added_at = [*view.added_at, *[each.added_at for each in past]]
        self.ready_at = [*view.ready_at, *[each.ready_at for each in past]]
        self.sent_at = [*view.sent_at, *[each.sent_at for each in past]]
        self.finished_at = [*view.finished_at, *[each.finished_at for each in past]]
        self.ran_s = [*view.ran_s, *[each.ran_s for each in past]]
        self._is_done = [*map(view.is_done, live), *[each.is_done for each in past]]
        self._tries = [*map(view.tries, live), *[each.attempts for each in past]]
        self._outcomes = [*map(view.outcome, live), *[each.outcome for each in past]]
        self._result_nbytes = [*map(view.result_nbytes, live), *[each.result_nbytes for each in past]]
        self._parents = [*map(view.parent, live), *[each.parent for each in past]]
        self.moved = {**view.moved, **self._few(each.moved_nbytes for each in past)}
        self.retired = {**view.retired, **self._few(each.retired for each in past)}
        self.relayed = dict(view.relayed)
        self.forgets = view.forgets
        self.transfers = [*self._told_apart(view.transfers, past)] if self.forgets else [*view.transfers]
        #: Functions that are in sums alone, and these sums.
        self.summed = view.history.summed
        self.sums: list[CodeHistory] = [replace(each, nodes=set(each.nodes)) for each in view.history.sums]

    def _few(self, values: Iterable[Any]) -> dict[Index, Any]:
        return {self._first + place: value for place, value in enumerate(values) if value}

    def _told_apart(self, transfers: Sequence[Transfer], past: Sequence[PastFunction]) -> Iterator[Transfer]:
        """Tell values of functions that had one index after the other apart, and leave out those of unknown ones."""
        earlier: dict[Index, list[Index]] = {}
        for place, each in enumerate(past):
            earlier.setdefault(each.index, []).append(self._first + place)
        for transfer in transfers:
            if transfer.index >= self._first:
                yield transfer
                continue
            candidates = [transfer.index, *reversed(earlier.get(transfer.index, ()))]
            was_there = (each for each in candidates if self._was_there(each, transfer))
            owner = next(was_there, None)
            if owner is not None:
                yield replace(transfer, index=owner)

    def _was_there(self, index: Index, transfer: Transfer) -> bool:
        return self.plan.ids[index] is not None and self.added_at[index] <= transfer.ended_at

    @property
    def failures(self) -> list[Index]:
        """See RunFacts."""
        return [index for index, outcome in enumerate(self._outcomes) if outcome == "failed"]

    def is_done(self, index: Index) -> bool:
        """See RunFacts."""
        return self._is_done[index]

    def tries(self, index: Index) -> int:
        """See RunFacts."""
        return self._tries[index]

    def outcome(self, index: Index) -> FunctionOutcome:
        """See RunFacts."""
        return self._outcomes[index]

    def result_nbytes(self, index: Index) -> int:
        """See RunFacts."""
        return self._result_nbytes[index]

    def parent(self, index: Index) -> FunctionId | None:
        """See RunFacts."""
        return self._parents[index]

    def added_by(self) -> dict[Index, Index]:
        """List the functions that were added by others, each with the one that has returned the graph that it is in.

        That is the function which had the id then: by now another one has it, whose result is the same.
        """
        ids = self.plan.ids
        ended = {(ids[index], self.finished_at[index]): index for index in range(self._first, len(ids))}
        found: dict[Index, Index] = {}
        for index, added_at in enumerate(self.added_at):
            for function_id in (ids[index], self._parents[index]) if added_at else ():
                other = ended.get((function_id, added_at))
                if function_id is not None and other is not None:
                    found[index] = other
        return found


def _extended(plan: Plan, past: Sequence[PastFunction]) -> Plan:
    """Return a plan with forgotten functions behind its own, without what these have taken."""
    count = len(past)
    codes = {id(each.code): each.code for each in past}
    number_of = {code: len(plan.templates) + place for place, code in enumerate(codes)}
    templates = [
        TemplateSpec(CodeName(code.code), code.is_async, False, dict(code.cost), None)
        for code in codes.values()
    ]
    named = {
        each.function_id: plan.size + place
        for place, each in enumerate(past)
        if not isinstance(each.function_id, HookId)
    }
    return replace(
        plan,
        ids=[*plan.ids, *[each.function_id for each in past]],
        index_of=named | plan.index_of,
        size=plan.size + count,
        args=[*plan.args, *[()] * count],
        producers=[*plan.producers, *[()] * count],
        dependents=[*plan.dependents, *[()] * count],
        bottom_level=[*plan.bottom_level, *[0] * count],
        template_of=[*plan.template_of, *[number_of[id(each.code)] for each in past]],
        templates=[*plan.templates, *templates],
        constants_of=[*plan.constants_of, *[-1] * count],
    )
