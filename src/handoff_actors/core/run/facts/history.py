"""The history of a run: the functions that it has forgotten, for its report.

The latest of them are kept one by one: bare facts, neither values nor code. Those before these are in sums by code, so that
the history takes a bounded amount of memory however many functions there were. A function that has returned a graph is here
from then on, as another one has its index and its id.

All of that is written down on the path of every function of an open run, so it is written as it stands in the run's state, and
put into order only when a report is asked for.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from handoff_actors.core.run.facts.outcomes import FunctionOutcome, outcome_of, result_nbytes
from handoff_actors.core.run.facts.phases import DONE
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.graph.naming import code_name
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.spec import TemplateSpec
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.messages.jobs import Done

#: Functions that are kept one by one.
MOST_FORGOTTEN: Final = 10_000
#: That many more, and they are summed up together, which takes less time than one after the other.
SUMMED_AT_ONCE: Final = 250
#: Codes that have sums of their own; all further ones have one in common.
MOST_CODES: Final = 1_000
OTHER_CODES: Final = "(other codes)"
#: Nodes that are named of each code, and workers of which the last function is known.
MOST_NODES: Final = 1_000
MOST_WORKERS: Final = 1_000


class CodeHistory(Struct):
    """A code, and the sums over those of its functions that are not kept one by one any more."""

    #: Its name.
    code: str
    is_async: bool
    #: What its functions claim, or others with that code.
    cost: Mapping[str, float]
    #: Functions that are done and were not reused, and so for all below but two.
    count: int = 0
    #: Functions that have failed for good.
    failed: int = 0
    #: Of those that have failed, too.
    attempts: int = 0
    inputs_s: float = 0.0
    retries_s: float = 0.0
    resources_s: float = 0.0
    overhead_s: float = 0.0
    ran_s: float = 0.0
    longest_ran_s: float = 0.0
    moved_nbytes: int = 0
    result_nbytes: int = 0
    #: Names of the nodes where they ran.
    nodes: set[str] = set()


class PastFunction(Struct, gc=False):
    """A function that is forgotten. Times are on the clock of the run's state."""

    function_id: FunctionId
    #: The function that has added it, if a function has.
    parent: FunctionId | None
    code: CodeHistory
    #: The index that it had.
    index: Index
    node: str
    worker: int
    attempts: int
    added_at: float
    ready_at: float
    sent_at: float
    finished_at: float
    ran_s: float
    moved_nbytes: int
    result_nbytes: int
    outcome: FunctionOutcome
    #: It had a value; of one that was skipped that depends on why.
    is_done: bool
    #: Why a worker was retired after it; "" where none was.
    retired: str


class History:
    """The functions that one run has forgotten."""

    def __init__(self, plan: Plan, state: RunState) -> None:
        self._plan = plan
        self._state = state
        self._kept: deque[PastFunction] = deque()
        #: Functions that are in the sums alone.
        self.summed = 0
        self._codes: dict[tuple[str, bool, bool], CodeHistory] = {}
        self._by_template: dict[int, CodeHistory] = {}
        #: By node and worker: when the last of its functions ended that is in the sums.
        self._free_at: dict[tuple[str, int], float] = {}

    # --- Writing ------------------------------------------------------------------------------------------------

    def note(self, indices: Iterable[Index]) -> None:
        """Take functions that are over and about to be forgotten."""
        plan, state, kept = self._plan, self._state, self._kept
        ids, template_of, parent_of = plan.ids, plan.template_of, plan.parent_of
        attempt, earlier, phase = state.attempt, state.earlier_attempts, state.phase
        node, worker, ran_s, moved = state.node, state.worker, state.ran_s, state.moved
        added_at, ready_at = state.added_at, state.ready_at
        sent_at, finished_at = state.sent_at, state.finished_at
        for index in indices:
            number = template_of[index]
            attempts = attempt[index] - earlier.get(index, 0)
            is_done = phase[index] == DONE
            is_plain = is_done and attempts and not state.skipped
            inline = state.inline.get(index)
            kept.append(
                PastFunction(
                    ids[index],
                    parent_of.get(index),
                    self._by_template.get(number) or self._code(number),
                    index,
                    node[index] or "",
                    worker[index],
                    attempts,
                    added_at[index],
                    ready_at[index],
                    sent_at[index],
                    finished_at[index],
                    ran_s[index],
                    moved.get(index, 0),
                    result_nbytes(state, index) if inline is None else len(inline),
                    "done" if is_plain else outcome_of(state, index),
                    is_done,
                    state.retired.get(index, ""),
                )
            )
        if len(kept) >= MOST_FORGOTTEN + SUMMED_AT_ONCE:
            self._sum_up(len(kept) - MOST_FORGOTTEN)

    def note_expanded(self, index: Index, done: Done, node: str, now: float) -> None:
        """Take a function that has returned a graph, just now, before another one gets its index."""
        plan, state = self._plan, self._state
        self._kept.append(
            PastFunction(
                plan.ids[index],
                plan.parent_of.get(index),
                self._code(plan.template_of[index]),
                index,
                node,
                done.worker,
                state.tries(index),
                state.added_at[index],
                state.ready_at[index],
                state.sent_at[index],
                now,
                done.ran_s,
                state.moved.get(index, 0),
                0,
                "done",
                True,
                state.retired.get(index, ""),
            )
        )
        if len(self._kept) >= MOST_FORGOTTEN + SUMMED_AT_ONCE:
            self._sum_up(len(self._kept) - MOST_FORGOTTEN)

    def forget_templates(self, numbers: Iterable[int]) -> None:
        """Take note that no function has these templates any more."""
        for number in numbers:
            self._by_template.pop(number, None)

    def _code(self, number: int) -> CodeHistory:
        found = self._by_template.get(number)
        if found is None:
            found = self._by_template[number] = self._code_of(self._plan.templates[number])
        return found

    def _code_of(self, template: TemplateSpec) -> CodeHistory:
        key = code_name(template.code), template.is_async, bool(template.cost)
        if key not in self._codes and len(self._codes) >= MOST_CODES:
            key = OTHER_CODES, *key[1:]
        return self._codes.setdefault(key, CodeHistory(key[0], template.is_async, dict(template.cost)))

    def _sum_up(self, count: int) -> None:
        """Have the functions that were forgotten first in the sums alone."""
        self.summed += count
        groups: dict[int, list[PastFunction]] = {}
        for _ in range(count):
            past = self._kept.popleft()
            groups.setdefault(id(past.code), []).append(past)
        for group in groups.values():
            code = group[0].code
            ran = [past for past in group if past.is_done and past.attempts]
            failed = [past for past in group if past.outcome == "failed"]
            code.failed += len(failed)
            code.attempts += sum([past.attempts for past in failed])
            if ran:
                self._add_counts(code, ran)
                self._add_times(code, ran)

    def _add_counts(self, code: CodeHistory, ran: list[PastFunction]) -> None:
        code.count += len(ran)
        code.attempts += sum([past.attempts for past in ran])
        code.moved_nbytes += sum([past.moved_nbytes for past in ran])
        code.result_nbytes += sum([past.result_nbytes for past in ran])
        code.ran_s += sum([past.ran_s for past in ran])
        code.longest_ran_s = max(code.longest_ran_s, *[past.ran_s for past in ran])
        if len(code.nodes) < MOST_NODES:
            code.nodes.update([past.node for past in ran])

    def _add_times(self, code: CodeHistory, ran: list[PastFunction]) -> None:
        """Add the times before they ran, as `report.timeline` has them, as far as that goes without other functions."""
        inputs_s = retries_s = resources_s = overhead_s = 0.0
        free_at = self._free_at
        for past in ran:
            sent_at = past.sent_at
            started_at = max(sent_at, past.finished_at - past.ran_s)
            ready_at = min(past.ready_at, started_at)
            room_at = max(sent_at, ready_at)
            if not code.is_async:
                # Until then the worker ran another function.
                worker = past.node, past.worker
                room_at = min(max(free_at.get(worker, 0.0), room_at), started_at)
                free_at[worker] = past.finished_at
            waited_s = ready_at - past.added_at if past.added_at else 0.0
            if past.attempts > 1:
                retries_s += waited_s
            else:
                inputs_s += waited_s
            resources_s += room_at - ready_at
            overhead_s += started_at - room_at
        code.inputs_s += inputs_s
        code.retries_s += retries_s
        code.resources_s += resources_s
        code.overhead_s += overhead_s
        if len(free_at) > MOST_WORKERS:
            free_at.clear()

    # --- Reading ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of functions that are kept one by one."""
        return len(self._kept)

    @property
    def kept(self) -> list[PastFunction]:
        """The functions that are kept one by one, the one forgotten first before the others."""
        return list(self._kept)

    @property
    def sums(self) -> list[CodeHistory]:
        """The sums over functions that are not, by code; codes may be there more than once."""
        return [code for code in self._codes.values() if code.count or code.failed]
