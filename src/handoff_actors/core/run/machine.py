"""The run machine decides when each function is ready, what a failure means, what is made again, and when the run is over.

The run's truth is here and nowhere else: the phase and attempt of every function, and who holds each value. Nodes come
and go; what they report about an attempt that is not the latest is ignored. When a node is lost, what it was running
goes elsewhere, and values that only it held are made again from their inputs, and those from theirs, as far as some
unfinished function, or the caller, still needs them. A failure that nothing can mend ends the run: every node is told
to close it, and the run is over when all of them have, or are gone.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Self, assert_never

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.endings.retries import MAX_NODE_CRASHES
from handoff_actors.core.run.endings.stopping import stop_others
from handoff_actors.core.run.events import (
    Cancel,
    CancelFunctions,
    EndGrowth,
    FunctionsRefused,
    LetGo,
    MessageFromNode,
    RelayBegun,
    Release,
    ResultFetched,
    ResultFetchFailed,
    ResultsFound,
    RoomFreed,
    RunEffect,
    RunEnded,
    TellOfRoom,
    WantResults,
)
from handoff_actors.core.run.facts.phases import SENT, WAITING
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.core.run.facts.state_checks import check_state
from handoff_actors.core.run.grow import Grow, RunMachineEvent
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.run_parts import RunParts
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.view import RunView
from handoff_actors.errors import HandoffError, NodeLost, RemoteProtocolError, RunTimeout
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.directions import AboutRun
from handoff_actors.wire.messages.nested import Identify, Probed
from handoff_actors.wire.messages.runs import (
    Closed,
    Completed,
    Copied,
    Crashed,
    Failed,
    Recalled,
    Rejected,
    Started,
    Stopped,
    WorkerRetired,
)


class RunMachine:
    """One run of one plan. See `core.machine.Machine`."""

    def __init__(self, run: RunId, program: Program, options: RunOptions) -> None:
        self._run = run
        self._program = program
        self._plan = program.plan
        self._options = options
        self._load = options.load
        parts = RunParts(run, program, options)
        self.state = parts.state
        self.scheduler = parts.scheduler
        self.retries = parts.retries
        self.feasibility = parts.feasibility
        self._work_stealing = parts.work_stealing
        self._result_fetch = parts.result_fetch
        self._completion = parts.completion
        self._stories = parts.stories
        self._observing = parts.observing
        self._recording = parts.recording
        self._recovery = parts.recovery
        self._drain = parts.drain
        self._failures = parts.failures
        self._growth = parts.growth
        self._ends = parts.ends
        self._take_over = parts.take_over
        self._nested = parts.nested
        #: The read-only view for code outside of `core.run`.
        self.view = RunView(
            program.plan, self.state, self.scheduler, self._stories, self._nested, parts.history
        )
        self._deadline: float | None = None
        self._effects: list[RunEffect] = []

    # --- The shape of a machine ---------------------------------------------------------------------------------

    @classmethod
    def prepared(cls, run: RunId, program: Program, options: RunOptions, now: float) -> Self:
        """Make a run and do the part of its start that needs no node, which takes long for a large plan."""
        machine = cls(run, program, options)
        machine.make_ready(now)
        return machine

    def make_ready(self, now: float) -> None:
        """Make ready what needs nothing."""
        phase = self.state.phase
        ready = [
            index
            for index, missing in enumerate(self.state.missing)
            if missing == 0 and phase[index] == WAITING
        ]
        self._recovery.make_ready(ready, now)

    def start(
        self,
        now: float,
        nodes: Iterable[NodeUp] = (),
        reused: Mapping[Index, ReusedResult] | None = None,
        refused: Mapping[Index, HandoffError] | None = None,
        error_of: Callable[[Index], bytes] | None = None,
    ) -> list[RunEffect]:
        """Send out what is ready; nodes known from the start share it from the start.

        Functions that run must have the inputs that are `reused`: see `core.run.facts.resumption`. Those in `refused` can't be
        sent, for that reason. `error_of` encodes the error of a function that has failed, for one that runs anyway.
        """
        self.scheduler.sources.error_of = error_of or self.scheduler.sources.error_of
        self._stories.began_at = now
        self.scheduler.begin()
        for index, earlier in (reused or {}).items():
            self._take_over.take(index, earlier, now)
        for node in nodes:
            self._node_up(node, now)
        if self._options.timeout_s is not None:
            self._deadline = now + self._options.timeout_s
        self.make_ready(now)
        self._failures.refused((refused or {}).items(), now)
        self.feasibility.update(self.scheduler.nodes, now)
        return self._settle(now)

    def handle(  # noqa: C901, PLR0912 - one table
        self, event: RunMachineEvent, now: float
    ) -> list[RunEffect]:
        """Take one event."""
        match event:
            case MessageFromNode(name, message):
                self._message_received(name, message, now)
            case NodeUp():
                self._node_up(event, now)
            case NodeDown():
                self._node_down(event, now)
            case ResultFetched():
                self._fetched(event)
            case ResultFetchFailed():
                self._failures.result_fetch_failed(event, now)
            case RelayBegun():
                self._relayed(event)
            case FunctionsRefused(errors):
                self._refused(errors, now)
            case Cancel(error):
                self._fail(error, cancelled=error is None)
            case Release():
                self._completion.is_let_go = True
            case Grow() | LetGo() | WantResults() | CancelFunctions() | EndGrowth():
                self._grow(event, now)
            case ResultsFound():
                self._found(event, now)
            case RoomFreed():
                # To place what is ready, and to recall what waits, is done after each event.
                pass
            case _:
                assert_never(event)
        return self._settle(now)

    def _grow(self, event: Grow | LetGo | WantResults | CancelFunctions | EndGrowth, now: float) -> None:
        if self._completion.outcome is not None:
            return
        match event:
            case Grow():
                self._growth.add(event, now)
            case LetGo(ids):
                self._growth.let_go(ids)
            case WantResults(ids):
                self._growth.want(ids, now)
            case CancelFunctions(ids):
                self._effects += self._growth.cancel(ids, now)
            case EndGrowth():
                self._growth.is_open = False
            case _:
                assert_never(event)

    def _found(self, event: ResultsFound, now: float) -> None:
        node = self.scheduler.nodes.get(event.name)
        if node is not None and self._completion.outcome is None:
            self._ends.completed_by_itself(node, event.entry, now, event)

    def wake(self, now: float) -> list[RunEffect]:
        """End the run, or rests, whose time is up."""
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._fail(RunTimeout(self._options.timeout_s or 0.0, self.state.remaining))
        self._failures.wake(now)
        return self._settle(now)

    @property
    def wake_at(self) -> float | None:
        """The time of the next deadline, pause, allocation timeout or recall."""
        if self._completion.outcome is not None:
            return None
        timers = (
            self._deadline,
            self.feasibility.wake_at,
            self.scheduler.wake_at,
            self._work_stealing.wake_at,
            self._nested.ask_at,
            self._failures.wake_at,
            self._growth.wake_at,
        )
        return min((time for time in timers if time is not None), default=None)

    def check(self) -> None:
        """Assert every invariant."""
        for node in self.scheduler.nodes.values():
            node.check()
            node.load.check()
            for index in node.sent:
                assert self.state.phase[index] == SENT, f"{index} is on {node.name}'s books and is not sent"
                assert self.state.node[index] == node.name
        if self._completion.outcome is None:
            self._check_that_it_moves()

    def _check_that_it_moves(self) -> None:
        self._growth.check()
        check_state(self.state, self._plan)
        sent = sum(phase == SENT for phase in self.state.phase)
        assert sent == self.scheduler.in_flight, f"{sent} are sent, {self.scheduler.in_flight} are counted"
        reasons = (
            self.scheduler.in_flight,
            self._result_fetch.pending,
            self._failures.wake_at is not None,
            any(True for _ in self.feasibility.unmet()),
            self.scheduler.has_ready and self.scheduler.nodes,
            self._growth.is_open and self.state.remaining == 0,
            self._growth.wake_at is not None,
        )
        assert any(reasons), "the run has stopped without an end"

    @property
    def is_over(self) -> bool:
        """Tell whether `RunEnded` has been among the effects."""
        return self._completion.is_reported

    # --- Nodes --------------------------------------------------------------------------------------------------

    def _node_up(self, event: NodeUp, now: float) -> None:
        if not self._nested.node_up(event):
            return
        self._load.node_up(event)
        node = self.scheduler.nodes.get(event.name)
        is_new = node is None
        if node is None:
            node = NodeState(self._run, self._load.nodes[event.name])
            self.scheduler.add_node(node)
            self._observing.joined(event)
        offers_the_same = not is_new and (
            node.capabilities == event.capabilities
            and node.is_leaving == event.leaving
            and node.offer.can_start == event.can_start
            and node.offer.ends_at == event.ends_at
        )
        node.update_offer(event)
        self.scheduler.avoidance.offer_changed(node)
        if event.ends_at is not None or event.can_start_for_s is not None:
            self.scheduler.time_left.note_end()
        self._drain.look(node, now)
        if not offers_the_same:
            self.scheduler.destinations.drop_for(node)
            self._recovery.make_hooks_again(now)
            self.feasibility.update(self.scheduler.nodes, now)

    def _node_down(self, event: NodeDown, now: float) -> None:
        self._nested.node_gone(event.name)
        node = self.scheduler.nodes.get(event.name)
        if node is None:
            return
        self._completion.closed(event.name)
        self._load.node_down(event.name)
        self._observing.left(event.name, event.reason)
        cause = self._stories.note_node("node lost", event.name, now, event.reason)
        for index in sorted(node.sent):
            self.scheduler.returned(index, node)
            number = self._stories.note("node lost", index, event.name, now, cause=cause)
            self._failures.sent_in_vain(index, f"node {event.name!r} was lost: {event.reason}", now, number)
        node.clear()
        self.scheduler.remove_node(event.name)
        self._recovery.lose_all_of(event.name, now, cause=cause)
        self._drain.node_gone(event.name)
        self._recovery.make_hooks_again(now)
        self.feasibility.update(self.scheduler.nodes, now)

    def _node_crashed(self, node: NodeState, run: RunId | None, reason: str) -> None:
        if node.has_crashed:
            return
        node.has_crashed = True
        is_concerned = run == self._run or (run is None and bool(node.sent))
        if is_concerned and not self.retries.may_continue_after_crash():
            self._fail(
                NodeLost(
                    node.name,
                    f"it is the last of {MAX_NODE_CRASHES} nodes that ended because of a bug of their own while they "
                    f"worked for this run: {reason}",
                )
            )

    # --- Reports ------------------------------------------------------------------------------------------------

    def _message_received(  # noqa: C901, PLR0912 - one table
        self, name: str, message: AboutRun, now: float
    ) -> None:
        if self._nested.is_on:
            self._nested.received(name, message)
        node = self.scheduler.nodes.get(name)
        if node is None:
            return
        match message:
            case Completed(_, done, others, fetched):
                node.set_others(others)
                node.heard_of(done, self.state, now)
                if fetched:
                    self.state.note_fetched(name, fetched, now)
                    self._observing.fetched(name, fetched)
                self._ends.completed(node, done, now)
            case Failed():
                if self.state.is_sent(message.index, message.attempt, name):
                    self.scheduler.failed(message, node)
                    self._failures.attempt_failed(message, name, now)
            case Recalled():
                self._ends.recalled(node, message, now)
            case Copied():
                self._drain.copied(name, message, now)
            case Started() | WorkerRetired():
                self._observing.heard(name, message)
            case Probed() | Identify():
                self._effects += self._nested.answers(name, message)
            case Stopped() | Closed():
                self._over_at(node, message)
            case Crashed(run, reason):
                self._node_crashed(node, run, reason)
            case Rejected(_, reason):
                self._fail(RemoteProtocolError(f"node {name!r} rejected a message of this run: {reason}"))
            case _:
                assert_never(message)

    def _over_at(self, node: NodeState, message: Stopped | Closed) -> None:
        if isinstance(message, Stopped):
            self._completion.stopped(node.name)
        else:
            self._completion.closed(node.name)
        if self._completion.outcome is not None:
            node.clear()

    def _refused(self, errors: Mapping[Index, HandoffError], now: float) -> None:
        """End functions that can't be sent; those that have been sent in name come off their nodes' books."""
        for index in errors:
            node = self.scheduler.nodes.get(self.state.node[index] or "")
            if self.state.phase[index] == SENT and node is not None:
                self.scheduler.returned(index, node)
        self._failures.refused(errors.items(), now)

    def _fetched(self, event: ResultFetched) -> None:
        if event.transfer is not None:
            self.state.transfers.append(event.transfer)
            self._observing.result_fetched(event.transfer)
        self._result_fetch.arrived(event.index)
        self._recording.note(event.index)

    def _relayed(self, event: RelayBegun) -> None:
        nbytes = self.state.note_relay(event.index, event.holder, event.name)
        self._observing.relayed(event, nbytes)

    # --- The end ------------------------------------------------------------------------------------------------

    def _fail(self, error: HandoffError | None, cause: bytes = b"", *, cancelled: bool = False) -> None:
        self._completion.decide(RunEnded(error, cause, cancelled))

    def _settle_nested(self, now: float) -> None:
        is_over = self._completion.outcome is not None or self.state.remaining == 0
        is_resting = self._failures.wake_at is not None
        is_busy = bool(is_resting or self._result_fetch.pending or any(self.feasibility.unmet()))
        self._effects += self._nested.settle(now, is_over=is_over, is_busy=is_busy)
        self._effects += self._work_stealing.recall(self._nested.take_misplaced())
        if not is_over and self.feasibility.is_left_alone(self.scheduler.nodes):
            self._effects += self._nested.left_alone()
        if self._nested.error is not None:
            self._fail(self._nested.error)

    def _end_if_done(self) -> None:
        failed, is_busy = self._failures.outcome, bool(self._result_fetch.pending or self._growth.is_open)
        if failed or not is_busy:
            self._options.durations.learn(self._program.templates, self._plan.template_of, self.state)
            self._completion.decide(failed or RunEnded(None))

    def _settle_functions(self, now: float) -> None:
        if self._recovery.lost_for_good:
            self._failures.lost_for_good(now)
        self._failures.refused(self.feasibility.timed_out(self.scheduler.nodes, now), now)
        if self._failures.must_stop_others:
            self._effects += stop_others(
                self._run, self._plan, self.state, self._recovery, self._failures, now
            )
        if self._growth.is_on:
            is_watched = self._observing.is_on or self._recording.is_on
            self._effects += self._growth.settle(now, is_watched=is_watched)
        if self.state.remaining == 0:
            self._end_if_done()

    def _settle(self, now: float) -> list[RunEffect]:
        """Do what follows, after each event."""
        if self._ends.effects:
            self._effects += self._ends.effects
            self._ends.effects = []
        if self._nested.is_on:
            self._settle_nested(now)
        if self._completion.outcome is None:
            self._settle_functions(now)
        self._effects += self._drain.settle(now)
        if self._completion.outcome is None:
            messages = self.scheduler.dispatch(now, self._observing.sent if self._observing.is_on else None)
            messages += self._work_stealing.recalls(now)
            for message in messages:
                self._completion.sent_to(message.name)
            self._effects += messages
            self._effects += self._result_fetch.next_fetches()
            self._effects += self._recording.take()
        else:
            self.scheduler.end()
            # First: if the results can't be recorded or handed over, the run is not to end well.
            self._effects += self._recording.take()
            self._effects += self._completion.wind_up(self._drain.holders(), self._drain.leaving)
        if self._load.has_news_for_others():
            self._effects.append(TellOfRoom())
        effects, self._effects = self._effects, []
        return self._observing.take() + effects if self._observing.is_on else effects
