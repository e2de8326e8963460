"""Decides what a failed attempt means: another try, or the end of the function, or of the whole run.

An exception and a time limit cost a retry; the loss of a worker, a node or an input does not, within bounds. A function
that gets no further try has failed for good. That ends the run, after the functions that run in any case (see
`core.run.endings.stopping`), unless failures are to end only the functions concerned: then whatever depends on the function fails behind it, everything else goes on, and the run ends well.
"""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import assert_never

from handoff_actors.core.run.endings.completion import Completion
from handoff_actors.core.run.endings.drain import Drain
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.endings.retries import Retries
from handoff_actors.core.run.events import ResultFetchFailed, RunEnded
from handoff_actors.core.run.facts.foreign_values import ForeignValue
from handoff_actors.core.run.facts.origins import Origins
from handoff_actors.core.run.facts.state import Failure, RunState
from handoff_actors.core.run.facts.story import NO_CAUSE, Story, StoryLog
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.errors import (
    EnvironmentFailed,
    FunctionFailed,
    HandoffError,
    NodeLost,
    SerializationError,
    WorkerDied,
)
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.run_if import run_if_of
from handoff_actors.ids import FunctionId, Index
from handoff_actors.text import named, repr_of
from handoff_actors.wire.messages.runs import Failed

MEGABYTE = 1e6


class Failures:
    """The failures of one run, and the functions that rest before their next try."""

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        retries: Retries,
        recovery: Recovery,
        drain: Drain,
        result_fetch: ResultFetch,
        completion: Completion,
        stories: StoryLog,
        observing: Observing,
        origins: Origins,
        *,
        end_run: bool,
    ) -> None:
        """`end_run`: the first function that fails for good ends the run."""
        self._plan = plan
        self._state = state
        self._retries = retries
        self._recovery = recovery
        self._drain = drain
        self._result_fetch = result_fetch
        self._completion = completion
        self._stories = stories
        self._observing = observing
        self._origins = origins
        self._end_run = end_run
        #: The end of the run, once all functions have ended that run in any case; None while it goes on.
        self.outcome: RunEnded | None = None
        #: The others have yet to be cancelled.
        self.must_stop_others = False
        #: Functions that rest before their next try, soonest first.
        self._resting: list[tuple[float, Index]] = []
        #: Results that are to be fetched once more, soonest first.
        self._to_fetch: list[tuple[float, Index]] = []

    # --- Pauses -------------------------------------------------------------------------------------------------

    @property
    def wake_at(self) -> float | None:
        """The end of the next pause; None if there is none."""
        return min((heap[0][0] for heap in (self._resting, self._to_fetch) if heap), default=None)

    def wake(self, now: float) -> None:
        """Try the functions, and the fetches of results, again whose pauses are over."""
        while self._resting and self._resting[0][0] <= now:
            self._recovery.again(heappop(self._resting)[1], now)
        while self._to_fetch and self._to_fetch[0][0] <= now:
            self._result_fetch.bring_again(heappop(self._to_fetch)[1])

    def _rest(self, index: Index, pause_s: float, now: float, cause: int = NO_CAUSE) -> None:
        if pause_s <= 0:
            self._recovery.again(index, now, cause)
        else:
            heappush(self._resting, (now + pause_s, index))

    def rests_no_more(self, index: Index) -> None:
        """Have a function not be tried again after its pause."""
        self._resting = [entry for entry in self._resting if entry[1] != index]
        heapify(self._resting)

    def lost_for_good(self, now: float) -> None:
        """End the functions whose values are lost and can't be made again."""
        lost, self._recovery.lost_for_good = self._recovery.lost_for_good, []
        self.refused(lost, now)

    # --- Attempts -----------------------------------------------------------------------------------------------

    def attempt_failed(self, failed: Failed, name: str, now: float) -> None:
        """Take the failure of the latest attempt at a function, which is off the node's books."""
        if failed.index in self._state.cancelled:
            self._recovery.cancel(failed.index, now)
            return
        match failed.kind:
            case "input":
                self._input_lost(failed, name, now)
            case "unreachable":
                self._input_unreachable(failed, name, now)
            case "worker":
                self._worker_died(failed, name, now)
            case "serialization" | "environment":
                self._observing.function("failed", failed.index, name, failed.reason)
                error = could_not_run(
                    failed, self._plan.ids[failed.index], name, self._origins.facts(failed.index)
                )
                self._failed_for_good(failed.index, Failure(error, failed.error), now)
            case "exception" | "timeout" | "store" | "memory" | "cancelled" | "deadlock":
                self._raised(failed, name, now)
            case _:
                assert_never(failed.kind)

    def _input_lost(self, failed: Failed, name: str, now: float) -> None:
        foreign = self._state.foreign.get(failed.lost)
        if foreign is not None:
            self._foreign_value_lost(failed, name, foreign, now)
            return
        cause = NO_CAUSE
        if failed.lost is not None and not self._drain.is_unaware(failed):
            lost = self._state.parted.owner(failed.lost)
            cause = self._recovery.lose(lost, now, f"node {name!r} found it nowhere")
        number = self._stories.note("input lost", failed.index, name, now, failed.reason, cause)
        self.sent_in_vain(failed.index, failed.reason, now, number)

    def _foreign_value_lost(self, failed: Failed, name: str, foreign: ForeignValue, now: float) -> None:
        index = failed.index
        number = self._stories.note("input lost", index, name, now, failed.reason)
        if foreign.source.holders() and self._retries.may_retry_after_loss(index):
            self._observing.function("lost", index, name, failed.reason)
            self._recovery.again(index, now, number)
        else:
            self._observing.function("failed", index, name, failed.reason)
            error = foreign.lost(
                f"no node has it any more, and function {self._origins.name(index)} needs it"
            )
            self._failed_for_good(index, Failure(error), now)

    def _input_unreachable(self, failed: Failed, name: str, now: float) -> None:
        """Try a function again whose input is where its node can't get at it: the value is not lost before its holders are."""
        index, ids = failed.index, self._plan.ids
        lost = None if failed.lost is None else self._state.parted.owner(failed.lost)
        number = self._stories.note("input lost", index, name, now, failed.reason)
        pause_s = self._retries.pause_before_next_reach(index)
        holders = [] if lost is None else self._state.note_out_of_reach(lost, name)
        foreign = self._state.foreign.get(lost)
        if foreign is not None:
            holders = list(foreign.source.holders())
        if pause_s is None:
            self._observing.function("failed", index, name, failed.reason)
            error = out_of_reach(
                name,
                holders,
                self._origins.name(index),
                foreign.function_id if foreign else None if lost is None else ids[lost],
                failed.reason,
            )
            self._failed_for_good(index, Failure(error), now)
        else:
            self._observing.function("lost", index, name, failed.reason)
            self._rest(index, pause_s, now, number)

    def _worker_died(self, failed: Failed, name: str, now: float) -> None:
        index = failed.index
        if self._retries.may_retry_after_death(index):
            number = self._stories.note("worker lost", index, name, now, failed.reason)
            self._observing.function("lost", index, name, failed.reason)
            self._recovery.again(index, now, number)
        else:
            self._fail_after_attempts(failed, name, now)

    def _raised(self, failed: Failed, name: str, now: float) -> None:
        index = failed.index
        if self._retries.may_retry(failed):
            self._stories.note("retried", index, name, now, failed.reason)
            self._observing.function("retried", index, name, failed.reason)
            self._rest(index, self._retries.backoff_s(index), now)
        else:
            self._fail_after_attempts(failed, name, now)

    def _fail_after_attempts(self, failed: Failed, name: str, now: float) -> None:
        index = failed.index
        story = self._stories.of_failure(index, name, now, failed.reason)
        self._observing.function("failed", index, name, failed.reason)
        attempts = self._state.tries(index)
        not_retried = self._retries.reason_against_retry(failed) if self._retries.has_left(index) else ""
        error = function_failed(
            failed,
            self._plan.ids[index],
            name,
            attempts,
            story,
            not_retried,
            self._origins.facts(index),
        )
        self._failed_for_good(index, Failure(error, failed.error, failed.ran_s), now)

    def sent_in_vain(self, index: Index, reason: str, now: float, cause: int) -> None:
        """Take the loss of an attempt's node or input; `cause` is the departure that says so."""
        node = self._state.node[index] or ""
        if index in self._state.cancelled or self._retries.may_retry_after_loss(index):
            self._observing.function("lost", index, node, reason)
            self._recovery.again(index, now, cause)
        else:
            self._observing.function("failed", index, node, reason)
            error = NodeLost(node, f"function {self._origins.name(index)}: {reason}")
            self._failed_for_good(index, Failure(error), now)

    # --- Functions ----------------------------------------------------------------------------------------------

    def result_fetch_failed(self, failed: ResultFetchFailed, now: float) -> None:
        """Make a result again that none of its holders has, or fetch it again; too often, and its function has failed."""
        index = failed.index
        self._result_fetch.stayed_away(index)
        if index not in self._result_fetch.pending or index not in self._state.stored:
            # Nobody expects it any more, or it is being made again already.
            return
        if failed.is_unreachable:
            pause_s = self._retries.pause_before_next_reach(index)
            if pause_s is not None:
                heappush(self._to_fetch, (now + pause_s, index))
                return
        elif self._retries.may_retry_after_loss(index):
            self._result_fetch.pending.discard(index)
            self._recovery.lose(index, now, failed.reason)
            return
        self._result_fetch.pending.discard(index)
        node = self._state.node[index] or ""
        error = NodeLost(node, f"the value of {self._origins.name(index)}: {failed.reason}")
        self._state.undo(index)
        self._failed_for_good(index, Failure(error), now)

    def refused(self, errors: Iterable[tuple[Index, HandoffError]], now: float) -> None:
        """End functions that can't be run anywhere, as far as they have not ended: each with its own error."""
        for index, error in errors:
            if self._completion.outcome is not None:
                return
            if self._state.is_unfinished(index):
                self._observing.function("failed", index, "", str(error))
                self._stories.note("failed", index, "", now, str(error))
                self._failed_for_good(index, Failure(error), now)

    def _failed_for_good(self, index: Index, failure: Failure, now: float) -> None:
        if not self._end_run or self.outcome is not None:
            self._recovery.fail(index, failure, now)
        elif any(
            run_if_of(self._plan, other) != "success" or other in self._state.added_anyway
            for other in self._state.unfinished()
            if other != index
        ):
            self.outcome, self.must_stop_others = RunEnded(failure.error, failure.cause), True
            self._recovery.fail(index, failure, now)
        else:
            self._state.set_failed(index, failure, now)
            self._completion.decide(RunEnded(failure.error, failure.cause))


def could_not_run(failed: Failed, function_id: FunctionId, node: str, facts: str = "") -> HandoffError:
    """The error for a function that would fail again wherever it is tried."""
    if failed.kind == "environment":
        return EnvironmentFailed(function_id, node, failed.reason, facts)
    return SerializationError(
        f"function {named(function_id, facts)} on node {node!r}: {failed.reason}", function_id
    )


def out_of_reach(
    node: str, holders: Sequence[str], function: str, input_id: FunctionId, reason: str
) -> NodeLost:
    """Make the error for a function whose input its node can't get from the nodes that have it.

    :param function: Its id, as `repr` shows it, with what there is to say beyond that.
    """
    there = " or ".join(map(repr, holders))
    return NodeLost(
        node,
        f"function {function} can't run there, as its input {repr_of(input_id)} is on node {there}, to which "
        f"there is no connection: {reason}. Let {node!r} connect there (firewall, --advertise), or keep both functions on one "
        "node with `collocated`",
    )


def function_failed(
    failed: Failed,
    function_id: FunctionId,
    node: str,
    attempts: int,
    story: Story | None = None,
    not_retried: str = "",
    facts: str = "",
) -> FunctionFailed:
    """Make the error for a function that has failed too often; `facts` say more about it than its id does."""
    traces = failed.traces
    error_type = WorkerDied if failed.kind == "worker" else FunctionFailed
    error = error_type(
        function_id,
        node,
        attempts,
        failed.reason,
        failed.signal,
        failed.exit_code,
        kind=failed.kind,
        peak_memory_mb=traces.peak_nbytes / MEGABYTE if traces.peak_nbytes else None,
        memory_was_short=traces.memory_was_short,
        printed=traces.printed,
        not_retried=not_retried,
        facts=facts,
    )
    if story is not None:
        error.set_story(story)
    if failed.kind == "timeout":
        error.__cause__ = TimeoutError(failed.reason)
    return error
