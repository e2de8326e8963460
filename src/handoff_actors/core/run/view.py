"""A read-only view of a run: all that reports, displays, integrations and the shell may know of it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handoff_actors.core.run.facts.history import History
from handoff_actors.core.run.facts.outcomes import FunctionOutcome, outcome_of, result_nbytes
from handoff_actors.core.run.facts.phases import DONE, FAILED, FREE
from handoff_actors.core.run.facts.state import Failure, RunState, Transfer
from handoff_actors.core.run.facts.story import NO_STORY, Story, StoryLog
from handoff_actors.core.run.nested_run import NestedRun
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Attempt, FunctionId, Index, RunId
from handoff_actors.wire.messages.jobs import Ref, StoredPart
from handoff_actors.wire.messages.members import RunProgress

if TYPE_CHECKING:
    from handoff_actors.core.run.explain import Explanation


class FunctionCounts(Struct, frozen=True):
    """The functions of a run, counted by how far they are."""

    total: int
    done: int
    #: Attempts that raised or ended their worker, and were followed by another.
    retried: int
    #: Functions that have failed for good.
    failed: int = 0
    #: Functions that depend on these, and so never run, and those whose result is SKIP.
    skipped: int = 0

    @property
    def ended(self) -> int:
        """The number of functions that have ended, well or not."""
        return self.done + self.failed + self.skipped


class RunView:
    """The facts of one run as they are now: the view is as live as the run.

    Sequences have one entry for each function, by its index in the plan. Times are seconds on the app's monotonic clock,
    and 0.0 where nothing has happened yet.
    """

    plan: Final[Plan]
    #: The node that each function was sent to last.
    node: Final[Sequence[str | None]]
    #: The number of times each function has been sent to a node; 0 for one that was reused.
    #: The process id of the worker that ran it.
    worker: Final[Sequence[int]]
    #: When the run was given it; 0.0 for what it has begun with.
    added_at: Final[Sequence[float]]
    ready_at: Final[Sequence[float]]
    sent_at: Final[Sequence[float]]
    finished_at: Final[Sequence[float]]
    ran_s: Final[Sequence[float]]
    #: Bytes of stored inputs that had to move, where there were any.
    moved: Final[Mapping[Index, int]]
    #: Encoded values that travelled with messages.
    inline: Final[Mapping[Index, bytes]]
    #: Reasons why workers were retired, by the function that has left something behind.
    retired: Final[Mapping[Index, str]]
    #: Bytes that have gone through the app, by the node that had them and the one that can't reach it.
    relayed: Final[Mapping[tuple[str, str], int]]
    #: Stored values that nodes and the app have fetched, in the order of hearing.
    transfers: Final[Sequence[Transfer]]

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        scheduler: Scheduler,
        stories: StoryLog,
        nested: NestedRun,
        history: History,
    ) -> None:
        self.plan = plan
        #: The functions that the run has forgotten.
        self.history = history
        self.node = state.node
        self.worker = state.worker
        self.added_at = state.added_at
        self.ready_at = state.ready_at
        self.sent_at = state.sent_at
        self.finished_at = state.finished_at
        self.ran_s = state.ran_s
        self.moved = state.moved
        self.inline = state.inline
        self.transfers = state.transfers
        self.retired = state.retired
        self.relayed = state.relayed
        self._state = state
        self._scheduler = scheduler
        self._stories = stories
        self._nested = nested

    def ref(self, index: Index) -> Ref:
        """Refer to a value that is stored on nodes; without holders if it is not."""
        if index in self._state.stored:
            return self._scheduler.sources.located(index)
        return Ref(index, 0, [])

    # --- Functions ----------------------------------------------------------------------------------------------

    @property
    def remaining(self) -> int:
        """The number of functions that have yet to end, well or not."""
        return self._state.remaining

    @property
    def forgets(self) -> bool:
        """True for a run that forgets functions that nobody needs any more."""
        return self._state.changed is not None

    def counts(self) -> FunctionCounts:
        """Count the functions by how far they are."""
        state, departures, forgotten = self._state, self._stories.counts, self._state.forgotten
        failed = len(state.failures) + forgotten[FAILED]
        skipped = len(state.failed_behind) + len(state.skipped) + forgotten[FREE]
        retried = departures["retried"] + departures["worker lost"]
        total = state.added
        return FunctionCounts(total, total - state.remaining - failed - skipped, retried, failed, skipped)

    def progress(self, run: RunId) -> RunProgress:
        """Tell how far this run, of that number, is, for monitors."""
        counts = self.counts()
        return RunProgress(
            run,
            self._scheduler.dag_name,
            counts.total,
            counts.done,
            counts.retried,
            counts.failed,
            counts.skipped,
        )

    def is_done(self, index: Index) -> bool:
        """Tell whether the function has a value, even if that has been lost since and is not needed."""
        return self._state.phase[index] == DONE

    def is_in_flight(self, index: Index, attempt: Attempt) -> bool:
        """Tell whether this attempt is out at a node, and has not ended."""
        state = self._state
        return (
            state.is_sent(index, attempt, state.node[index] or "") if 0 <= index < self.plan.size else False
        )

    def parts(self, index: Index) -> tuple[bytes, Sequence[StoredPart]] | None:
        """Return the list that a function has returned, encoded without its parts, and the parts; None where it has none."""
        items = self._state.parted.lists.get(index)
        return None if items is None else (items, self._state.parted.of(index))

    @property
    def failures(self) -> Mapping[Index, Failure]:
        """The functions that have failed for good, in that order."""
        return self._state.failures

    def has_failed(self, index: Index) -> bool:
        """Tell whether the function has failed for good, or depends on one that has."""
        return self._state.phase[index] == FAILED

    @property
    def failed_behind(self) -> Mapping[Index, Index]:
        """The functions that did not run since they depend on one that has failed, each with that one."""
        return self._state.failed_behind

    def outcome(self, index: Index) -> FunctionOutcome:
        """Say how the function has ended, if it has."""
        return outcome_of(self._state, index)

    def is_reused(self, index: Index) -> bool:
        """Tell whether the function was done before the run began."""
        return self._state.is_reused(index)

    def tries(self, index: Index) -> int:
        """Count the attempts at the function."""
        return self._state.tries(index)

    def tries_by(self, index: Index, attempt: Attempt) -> int:
        """Count the attempts at the function up to this one."""
        return attempt - self._state.earlier_attempts.get(index, 0)

    def explain(self) -> "list[Explanation]":
        """Explain why each function that is not done is where it is, in the order of the plan."""
        from handoff_actors.core.run.explain import explain  # noqa: PLC0415 - most runs are never asked

        return list(explain(self.plan, self._state, self._scheduler, self._stories, self._nested))

    def explain_one(self, index: Index) -> "Explanation | None":
        """Explain why a function is where it is; None for one that has ended."""
        from handoff_actors.core.run.explain import explain_one  # noqa: PLC0415 - as above

        if not self._state.is_unfinished(index):
            return None
        has_departed = self._stories.has_departed(index)
        story = self._stories.story_of(index) if has_departed else NO_STORY
        return explain_one(index, self.plan, self._state, self._scheduler, story, self._nested)

    def parent(self, index: Index) -> FunctionId | None:
        """Return the id of the function that has added this one; None for those of the app."""
        return self.plan.parent_of.get(index)

    def story(self, index: Index) -> Story:
        """Tell what has happened to the function, and why."""
        return self._stories.story_of(index)

    def waiting(self) -> list[tuple[RequirementClass, int, float]]:
        """Count the functions that are ready and that any node with room and so many seconds left might run, by class."""
        return self._scheduler.waiting()

    # --- Values -------------------------------------------------------------------------------------------------

    def is_available(self, index: Index) -> bool:
        """Tell whether the value can be had, here or from some node."""
        return self._state.is_available(index)

    def holders(self, index: Index) -> tuple[str, ...]:
        """Name the nodes that have a stored value, or a part of one, the one that made it first; none for any other value."""
        stored = self._state.stored.get(self._state.parted.owner(index))
        return () if stored is None else tuple(stored.holders)

    @property
    def has_stored(self) -> bool:
        """True if nodes have stored some value."""
        return bool(self._state.stored)

    def stored_nbytes(self, index: Index) -> int:
        """Return the encoded size of a stored value. Raises KeyError for any other."""
        return self._state.stored[index].nbytes

    def result_nbytes(self, index: Index) -> int:
        """Return the encoded size of a value; 0 where there is none."""
        return result_nbytes(self._state, index)

    # --- Nodes --------------------------------------------------------------------------------------------------

    def in_flight(self) -> dict[str, int]:
        """Count the functions that each node of the run has been sent and not yet reported, nodes in order of names."""
        return {name: len(node.sent) for name, node in self._scheduler.nodes.items() if node.workers}

    def node_story(self, name: str) -> Story:
        """Tell what has happened on and to the node in this run, and why."""
        return self._stories.story_of_node(name)
