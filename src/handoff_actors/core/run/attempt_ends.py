"""The ends of attempts that are none of failure: with a value, which makes dependents ready, or unstarted."""

from handoff_actors.core.run.endings.drain import Drain
from handoff_actors.core.run.endings.recovery import MADE_FOR_ANOTHER_NODE, Recovery
from handoff_actors.core.run.events import ResultsFound, RunEffect
from handoff_actors.core.run.facts.phases import SENT, WAITING, PhaseEvent
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.facts.story import RECALLED, SEPARATED, STOLEN, StoryLog
from handoff_actors.core.run.growing.growth import Growth
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.recording import Recording
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Done
from handoff_actors.wire.messages.runs import Recalled


class AttemptEnds:
    """The attempts of one run that end with a value, or come back unstarted."""

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        scheduler: Scheduler,
        growth: Growth,
        recovery: Recovery,
        drain: Drain,
        result_fetch: ResultFetch,
        stories: StoryLog,
        observing: Observing,
        recording: Recording,
    ) -> None:
        self._plan = plan
        self._state = state
        self._scheduler = scheduler
        self._growth = growth
        self._recovery = recovery
        self._drain = drain
        self._result_fetch = result_fetch
        self._stories = stories
        self._observing = observing
        self._recording = recording
        #: What follows from them, until it is taken.
        self.effects: list[RunEffect] = []

    def completed(self, node: NodeState, entry: Done, now: float, found: ResultsFound | None = None) -> None:
        """Take an attempt that has ended with a value; one with a graph perhaps twice, then with what was `found`."""
        index, state = entry.index, self._state
        if not state.is_sent(index, entry.attempt, node.name) or index in state.cancelled:
            self._unused(entry, node, now)
            return
        if entry.additions is not None and self._growth.expanding.take(entry, node, now, found):
            self.effects += self._growth.expanding.take_effects()
            return
        self._scheduler.completed(index, node)
        if self._plan.hooks and self._scheduler.is_outdated(index):
            self.effects += self._growth.unused(node.name, entry)
            cause = self._stories.note("value lost", index, node.name, now, MADE_FOR_ANOTHER_NODE)
            self._state.change(index, PhaseEvent.RETURNED)
            self._recovery.again(index, now, cause)
            return
        state.set_done(index, entry, node.name, now)
        if index not in state.skipped:
            self._scheduler.learn(index, entry.ran_s)
        if self._observing.is_on:
            self._observing.completed(index, node.name)
        if self._recording.is_on:
            self._recording.note(index)
        if state.stored or state.foreign.taken_by:
            self._note_copies(index, node)
        self._fire(index, now)

    def _unused(self, entry: Done, node: NodeState, now: float) -> None:
        """Take the value of an attempt that does not count any more, or whose function has been cancelled."""
        self.effects += self._growth.unused(node.name, entry)
        if self._state.is_sent(entry.index, entry.attempt, node.name):
            self._scheduler.returned(entry.index, node)
            self._recovery.cancel(entry.index, now)

    def _fire(self, index: Index, now: float) -> None:
        state = self._state
        for dependent in self._plan.dependents[index]:
            missing = state.missing[dependent] = state.missing[dependent] - 1
            if missing == 0:
                phase = state.phase[dependent]
                if phase == WAITING:
                    self._recovery.make_ready(dependent, now)
                elif phase == SENT:
                    # The function has been sent already, as a member of the same fused group.
                    state.ready_at[dependent] = now

    def _note_copies(self, index: Index, node: NodeState) -> None:
        """Note that a function's inputs are on its node, and fetch its value if the app wants that."""
        for producer in self._scheduler.locality.inputs_of(index):
            if producer not in self._state.parted:
                self._state.add_holder(producer, node.name)
        self._state.foreign.note_copies(index, node.name)
        if index in self._state.stored:
            self._drain.made(index, node.name)
        if index in self._state.stored and self._result_fetch.lacks(index):
            self._result_fetch.bring(index)

    def recalled(self, node: NodeState, message: Recalled, now: float) -> None:
        """Take functions that a node gives back unstarted."""
        what, why = RECALLED
        if message.is_separated:
            # The node takes more: it only has no use for these as they were sent.
            what, why = SEPARATED
        elif node.recalling:
            what, why = STOLEN
            node.recall_answered(now, gave_back=bool(message.jobs))
        elif message.jobs:
            node.load.is_paused = True
        for ticket in message.jobs:
            if self._state.is_sent(ticket.index, ticket.attempt, node.name):
                self._scheduler.returned(ticket.index, node)
                number = self._stories.note(what, ticket.index, node.name, now, why)
                self._observing.function("recalled", ticket.index, node.name)
                self._recovery.again(ticket.index, now, number)
