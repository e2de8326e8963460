"""The ends of attempts that are none of failure: with a value, which makes dependents ready, or unstarted."""

from collections.abc import Collection, Sequence

from handoff_actors.core.run.endings.drain import Drain
from handoff_actors.core.run.endings.recovery import MADE_FOR_ANOTHER_NODE, Recovery
from handoff_actors.core.run.events import ResultsFound, RunEffect
from handoff_actors.core.run.facts.normal_path import set_done
from handoff_actors.core.run.facts.phases import SENT, PhaseEvent
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

    def completed(self, node: NodeState, entries: Sequence[Done], now: float) -> None:
        """Take attempts that have ended with values, in order; plain values that follow one another together."""
        while entries:
            plain = self._first_plain(node, entries)
            if len(plain) == len(entries):
                self._done(node, plain, entries, now)
                return
            if plain:
                self._done(node, plain, entries[: len(plain)], now)
            self.completed_by_itself(node, entries[len(plain)], now)
            entries = entries[len(plain) + 1 :]

    def _first_plain(self, node: NodeState, entries: Sequence[Done]) -> Collection[Index]:
        """List the functions of the first entries that are out at the node and have ended with nothing but a value that counts."""
        plain: dict[Index, None] = {}
        if self._plan.hooks:
            return plain
        state, name = self._state, node.name
        phase, attempt, sent_to, cancelled = state.phase, state.attempt, state.node, state.cancelled
        size = len(phase)
        for entry in entries:
            index = entry.index
            if (
                entry.additions is not None
                or not 0 <= index < size
                or phase[index] != SENT
                or attempt[index] != entry.attempt
                or sent_to[index] != name
                or index in cancelled
                or index in plain
            ):
                break
            plain[index] = None
        return plain

    def completed_by_itself(
        self, node: NodeState, entry: Done, now: float, found: ResultsFound | None = None
    ) -> None:
        """Take an attempt that may not count, or has more than a value; one with a graph perhaps twice, then with what was `found`."""
        index, state = entry.index, self._state
        if not state.is_sent(index, entry.attempt, node.name) or index in state.cancelled:
            self._unused(entry, node, now)
        elif entry.additions is not None and self._growth.expanding.take(entry, node, now, found):
            self.effects += self._growth.expanding.take_effects()
        elif self._plan.hooks and self._scheduler.is_outdated(index):
            self._scheduler.completed([index], node)
            self.effects += self._growth.unused(node.name, entry)
            cause = self._stories.note("value lost", index, node.name, now, MADE_FOR_ANOTHER_NODE)
            state.change(index, PhaseEvent.RETURNED)
            self._recovery.again(index, now, cause)
        else:
            self._done(node, [index], [entry], now)

    def _unused(self, entry: Done, node: NodeState, now: float) -> None:
        """Take the value of an attempt that does not count any more, or whose function has been cancelled."""
        self.effects += self._growth.unused(node.name, entry)
        if self._state.is_sent(entry.index, entry.attempt, node.name):
            self._scheduler.returned(entry.index, node)
            self._recovery.cancel(entry.index, now)

    def _done(self, node: NodeState, indices: Collection[Index], entries: Sequence[Done], now: float) -> None:
        """Take values that count."""
        state = self._state
        self._scheduler.completed(indices, node)
        ready = set_done(state, self._plan, entries, node.name, now)
        if state.skipped:
            entries = [entry for entry in entries if entry.index not in state.skipped]
        self._scheduler.learn(entries)
        if self._observing.is_on or self._recording.is_on:
            for index in indices:
                self._observing.completed(index, node.name)
                self._recording.note(index)
        if state.stored or state.foreign.taken_by:
            for index in indices:
                self._note_copies(index, node)
        if ready:
            self._recovery.make_ready(ready, now)

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
