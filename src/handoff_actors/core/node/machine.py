"""The decisions of a node: which functions it accepts, when they run, and what it reports about them.

A run exists here from the first `Assign` that names it until its `Close`, or until the lease of the peer that it
belongs to ends. A function is waiting for inputs, then queued, then given to a worker; its run hears `Completed`,
`Failed` or `Recalled` about each attempt, once. Values live as long as the run. Stale messages about runs, attempts or
workers that are gone are ignored. A message that is not in the protocol changes nothing, and its run hears `Rejected`.
"""

from typing import assert_never

from handoff_actors.core.node.advertisement import advertisement
from handoff_actors.core.node.advertiser import Advertiser, Standing
from handoff_actors.core.node.arrivals import Arrivals
from handoff_actors.core.node.attempt_reports import AttemptReports
from handoff_actors.core.node.cancelling import Cancelling
from handoff_actors.core.node.circuit_breaker import CircuitBreaker
from handoff_actors.core.node.clients import ClientRun, Clients
from handoff_actors.core.node.drops import Drops
from handoff_actors.core.node.events import (
    Advertise,
    IdAsked,
    InputFetched,
    InputMissing,
    Leave,
    MembersCounted,
    MessageFromPeer,
    NestedWaitBegan,
    NestedWaitEnded,
    NodeEffect,
    NodeEvent,
    ObjectMade,
    OutputReceived,
    PeerConnected,
    PeerLost,
    Reply,
    SpillFailed,
    SpillValue,
    StoreLost,
    ValueMissing,
    ValueSpilled,
    WorkerDone,
    WorkerExited,
    WorkerFailed,
    WorkerRecalled,
    WorkersSampled,
    WorkerUnfit,
    WorkerUp,
)
from handoff_actors.core.node.failures import rejection
from handoff_actors.core.node.function_ids import FunctionIds
from handoff_actors.core.node.function_reports import FunctionReports
from handoff_actors.core.node.inputs import Inputs, stored_inputs
from handoff_actors.core.node.kept_values import KeptValues
from handoff_actors.core.node.lifetime import FOREVER, Lifetime
from handoff_actors.core.node.limits import NO_LIMITS, Limits
from handoff_actors.core.node.lost_values import LostValues
from handoff_actors.core.node.nested_runs import NestedRuns
from handoff_actors.core.node.node_drain import NodeDrain
from handoff_actors.core.node.run_endings import RunEndings
from handoff_actors.core.node.run_listing import overview
from handoff_actors.core.node.scheduling.fair_queue import JobLane, tickets_of
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.core.node.stage_events import StageAnswered
from handoff_actors.core.node.stages import Stages
from handoff_actors.core.node.store_changes import StoreChanges
from handoff_actors.core.node.validation import check_jobs, check_message
from handoff_actors.core.resources import ResourceLedger
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import Index, PeerId, Resources, RunId
from handoff_actors.wire.messages.jobs import Job, Ref, Ticket
from handoff_actors.wire.messages.kept import DropKept, FindKept, Keep, KeptEntry
from handoff_actors.wire.messages.members import Backlog, Beat, Goodbye, ListRuns, Redeclare, Redeclared
from handoff_actors.wire.messages.nested import Identified, Probe
from handoff_actors.wire.messages.runs import (
    Assign,
    CancelJobs,
    Close,
    Copied,
    Copy,
    Drop,
    Recall,
    Recalled,
    Stop,
)
from handoff_actors.wire.messages.stages import StageInput


class NodeMachine:
    """One node. See `core.machine.Machine`."""

    #: There may be jobs that the node can't ever hold.
    _has_misfits = False

    def __init__(
        self,
        capabilities: Resources,
        workers: int,
        most_workers: int,
        lease_s: float,
        limits: Limits = NO_LIMITS,
        lifetime: Lifetime = FOREVER,
    ) -> None:
        self._limits = limits
        self._scheduler = WorkerScheduler(capabilities, workers, most_workers)
        self._inputs = Inputs()
        self._spill_policy = SpillPolicy(limits.store_nbytes)
        self._clients = Clients(lease_s)
        self._circuit_breaker = CircuitBreaker()
        self._lost_values = LostValues(self._clients, self._inputs, self._spill_policy)
        self._kept = KeptValues(self._inputs, self._spill_policy)
        self._arrivals = self._make_arrivals()
        self._drops = Drops(self._clients, self._scheduler, self._inputs, self._spill_policy)
        self._reports = AttemptReports(
            self._clients,
            self._scheduler,
            self._inputs,
            self._spill_policy,
            self._circuit_breaker,
            self._lost_values,
        )
        self._cancelling = Cancelling(self._clients, self._scheduler, self._inputs)
        self._ids = FunctionIds(self._clients, self._scheduler.roster)
        self._function_reports = FunctionReports(self._clients, self._scheduler.roster, self._ids)
        self._nested = NestedRuns(self._clients, self._scheduler, self._inputs, self._ids)
        self._endings = self._make_endings()
        self._store_changes = StoreChanges(
            self._clients, self._spill_policy, self._lost_values, self._endings
        )
        #: The shell asks it, too.
        self.stages = Stages(self._clients, self._scheduler.roster, self._inputs, self._spill_policy)
        self._drain = NodeDrain(lifetime)
        self._advertiser = Advertiser()

    def _make_arrivals(self) -> Arrivals:
        return Arrivals(self._clients, self._inputs, self._spill_policy, self._circuit_breaker, self._kept)

    def _make_endings(self) -> RunEndings:
        return RunEndings(
            self._clients, self._scheduler, self._inputs, self._spill_policy, self._nested, self._kept
        )

    # --- The shape of a machine ---------------------------------------------------------------------------------

    def start(self, now: float) -> list[NodeEffect]:
        """Start the workers."""
        self._drain.start(now)
        return [*self._scheduler.start(now), *self._settle(now)]

    def handle(self, event: NodeEvent, now: float) -> list[NodeEffect]:
        """Take one event."""
        effects = self._dispatch(event, now)
        effects += self._settle(now)
        return effects

    def wake(self, now: float) -> list[NodeEffect]:
        """Act on leases, time limits and other deadlines that have passed."""
        effects = [*self._scheduler.wake(now), *self._kept.wake(now)]
        self._circuit_breaker.wake(now)
        for peer in self._clients.lapsed(now):
            effects += self._endings.peer_gone(peer, now)
        effects += self._settle(now)
        return effects

    @property
    def wake_at(self) -> float | None:
        """The time of the next deadline."""
        times = (
            self._scheduler.wake_at,
            self._clients.wake_at,
            self._spill_policy.wake_at,
            self._circuit_breaker.wake_at,
            self._drain.wake_at,
            self._kept.wake_at,
            self._advertiser.wake_at,
        )
        return min(time for time in times if time is not None)

    def check(self) -> None:
        """Assert every invariant."""
        self._scheduler.check()
        self._inputs.check()
        self._spill_policy.check()
        self._clients.check()
        self.stages.check()
        lives = {run for run, _ in self._clients.lives()}
        assert lives == self._scheduler.templates.keys(), "the scheduler serves other runs than the open ones"

    # --- What the shell may ask ---------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """True if no run, job or claim is left, but for objects that no function uses."""
        claims = len(self._scheduler.ledger) - len(self._scheduler.warm.unused_claims())
        return len(self._clients) == 0 and len(self._scheduler.queue) == 0 and claims == 0

    @property
    def is_working(self) -> bool:
        """True if some worker has something to do."""
        return any(state.held for state in self._scheduler.roster.workers.values())

    @property
    def is_to_be_sampled(self) -> bool:
        """True while memory or CPU time of workers may call for action."""
        return self._scheduler.is_to_be_sampled

    @property
    def ledger(self) -> ResourceLedger:
        """The resources of the node, claimed and spare."""
        return self._scheduler.ledger

    @property
    def runs(self) -> int:
        """The number of runs that the node serves."""
        return len(self._clients)

    @property
    def backlogs(self) -> list[Backlog]:
        """The functions that wait for nodes with room, as all clients have last told them."""
        return self._clients.backlogs()

    @property
    def spilled_nbytes(self) -> int:
        """Bytes of all values that have been moved to disk so far."""
        return self._spill_policy.spilled_nbytes

    @property
    def capabilities(self) -> Resources:
        """The total resources that the node offers."""
        return dict(self._scheduler.ledger.totals)

    def advertisement(self) -> Advertise:
        """The state of the node, as it is to be published now."""
        return advertisement(self._scheduler, self._inputs, self._drain, self._circuit_breaker)

    def size_of(self, run: RunId, index: Index) -> int | None:
        """The size in bytes of a stored value; None where it is not here."""
        return self._inputs.size(run, index)

    def kept_values(self, now: float) -> list[KeptEntry]:
        """List the values that are here under names."""
        return self._kept.named(now)

    def has_version(self, run: RunId, index: Index, version: int) -> bool:
        """True if a stored value is the one that this attempt made; version 0 stands for any attempt."""
        return self._inputs.has_version(run, index, version)

    # --- Events -------------------------------------------------------------------------------------------------

    def _dispatch(self, event: NodeEvent, now: float) -> list[NodeEffect]:  # noqa: C901, PLR0912 - one table
        match event:
            case WorkerDone():
                return self._reports.done(event, now)
            case MessageFromPeer():
                return self._received(event, now)
            case WorkerFailed():
                return self._reports.failed(event, now)
            case WorkerRecalled():
                return self._reports.recalled(event, now)
            case WorkerUp() | ObjectMade():
                return self._reports.changed(event, now)
            case WorkerExited(worker):
                ended = self._endings.attempts_on(worker)
                return [*self._reports.exited(event, now), *self._endings.end_nested(ended, now)]
            case OutputReceived() | IdAsked():
                return self._function_reports.take(event)
            case WorkerUnfit():
                return self._reports.unfit(event)
            case WorkersSampled():
                return self._sampled(event)
            case InputFetched():
                return self._input_fetched(event, now)
            case ValueSpilled() | SpillFailed() | StoreLost() | ValueMissing():
                return self._store_changes.changed(event, now)
            case InputMissing():
                reports = self._arrivals.missing(event, now)
                return [*reports, *self.stages.missing(event.run, event.reason)]
            case StageAnswered():
                return self.stages.answered(event)
            case PeerLost(peer):
                return self._endings.peer_gone(peer, now)
            case _:
                self._note(event, now)
                return []

    def _note(
        self,
        event: NestedWaitBegan | NestedWaitEnded | PeerConnected | MembersCounted | Leave,
        now: float,
    ) -> None:
        """Take note of an event that has no effects by itself."""
        match event:
            case NestedWaitBegan() | NestedWaitEnded():
                self._scheduler.lending.handle(event)
            case PeerConnected(peer, has_lease, name):
                self._clients.connected(peer, now, name, has_lease=has_lease)
            case MembersCounted(members):
                self._advertiser.count(members)
            case Leave():
                self._drain.begin()
            case _:
                assert_never(event)

    def _received(self, event: MessageFromPeer, now: float) -> list[NodeEffect]:
        if not self._clients.renew_lease(event.peer, now):
            return []
        try:
            return self._act_on(event, now)
        except RemoteProtocolError as error:
            return rejection(event, str(error))

    def _act_on(  # noqa: C901, PLR0912 - one table
        self, event: MessageFromPeer, now: float
    ) -> list[NodeEffect]:
        """Act on a peer's message. Raises RemoteProtocolError before anything is changed."""
        check_message(event.message)
        match event.message:
            case Assign():
                return self._assign(event.peer, event.message, now)
            case StageInput():
                return self.stages.received(event.peer, event.message, now)
            case Copy():
                return self._copy(event.peer, event.message, now)
            case Recall(run, tickets, room):
                at_most = self._clients.may_give_back(event.peer, room, now)
                return self._recall(event.peer, run, tickets, at_most, now)
            case CancelJobs() | Drop() | Stop() | Close():
                return self._let_go(event.peer, event.message, now)
            case Keep() | FindKept() | DropKept():
                return self._kept.received(event.peer, event.message, now)
            case Probe():
                return self._nested.probe(event.peer, event.message)
            case Identified():
                return self._ids.identified(event.peer, event.message)
            case Redeclare(capabilities):
                self._scheduler.ledger.redeclare(capabilities)
                self._has_misfits = True
                return [Reply(event.peer, Redeclared())]
            case Goodbye():
                return self._endings.peer_gone(event.peer, now, has_left=True)
            case Beat(runs, backlogs):
                self._clients.note_progress(event.peer, runs)
                self._clients.note_backlogs(event.peer, backlogs)
                return []
            case ListRuns():
                return [Reply(event.peer, overview(self._clients, self._scheduler, self._inputs))]
            case _:
                # Transfers and introductions are the shell's.
                return []

    def _assign(self, peer: PeerId, message: Assign, now: float) -> list[NodeEffect]:
        if self._clients.is_displaced(message.run, peer):
            tickets = self._clients.refuse(peer, message)
            return [*self._endings.end(message.run, now), Reply(peer, Recalled(message.run, tickets))]
        known = self._clients.known_templates(peer, message.run)
        if known is None:
            return []
        check_jobs(message, known)
        run = self._clients.open(peer, message.run, message.dag_name, is_watched=message.is_watched)
        if message.parent is not None:
            run.parent = message.parent
            self._scheduler.nested.add(message.run)
        self._scheduler.templates[message.run] = run.templates
        run.learn(message.templates, self._clients.importable(now))
        return self._accept(message.run, run, message.jobs, now)

    def _accept(self, run: RunId, state: ClientRun, jobs: list[Job], now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        ready: list[Job] = []
        attempts, packages = state.attempts, state.packages
        is_fetching = bool(self._inputs.fetching(run))
        for job in jobs:
            if job.attempt <= attempts.get(job.index, 0):
                continue
            attempts[job.index] = job.attempt
            if job.then:
                attempts.update((member.index, member.attempt) for member in job.then)
            if is_fetching:
                effects += self._drops.replace(run, state, job)
            refs = stored_inputs(job)
            if packages:
                refs += state.packages_of(job)
            missing = self._missing_inputs(run, job, refs) if refs else None
            if missing is None:
                ready.append(job)
            else:
                effects += state.fetches(run, missing, now, self._inputs.is_here)
        self._enqueue(run, ready)
        return effects

    def _missing_inputs(self, run: RunId, job: Job, refs: list[Ref]) -> list[Ref] | None:
        for ref in refs:
            self._spill_policy.use((run, ref.index))
        return self._inputs.await_inputs(run, job, refs)

    def _copy(self, peer: PeerId, message: Copy, now: float) -> list[NodeEffect]:
        is_unwelcome = self._drain.has_begun or self._clients.is_displaced(message.run, peer)
        if is_unwelcome or self._clients.known_templates(peer, message.run) is None:
            return [Reply(peer, Copied(message.run, [], [ref.index for ref in message.values]))]
        run = self._clients.open(peer, message.run)
        self._scheduler.templates[message.run] = run.templates
        here, missing = self._inputs.await_copies(message.run, message.values)
        reports: list[NodeEffect] = [Reply(peer, Copied(message.run, here, []))] if here else []
        return [*reports, *run.fetches(message.run, missing, now, self._inputs.is_here)]

    def _let_go(
        self, peer: PeerId, message: CancelJobs | Drop | Stop | Close, now: float
    ) -> list[NodeEffect]:
        match message:
            case CancelJobs():
                return self._cancelling.cancel(peer, message, now)
            case Drop():
                return self._drops.drop(peer, message)
            case Stop(run):
                return self._endings.stop(peer, run, now)
            case Close(run):
                return self._endings.close(peer, run, now)
            case _:
                assert_never(message)

    def _enqueue(self, run: RunId, jobs: list[Job]) -> None:
        templates = self._scheduler.templates.get(run)
        if templates is not None:
            lanes = self._scheduler.queue.add_all(run, templates, jobs)
            self._has_misfits |= any(map(self._never_holds, lanes))

    def _recall(
        self, peer: PeerId, run: RunId, tickets: list[Ticket], at_most: int, now: float
    ) -> list[NodeEffect]:
        wanted = {(ticket.index, ticket.attempt) for ticket in tickets}
        jobs = self._cancelling.take_back(run, lambda job: (job.index, job.attempt) in wanted, at_most)
        self._clients.gave_back(peer, len(jobs), now)
        return [Reply(peer, Recalled(run, [ticket for job in jobs for ticket in tickets_of(job)]))]

    def _give_back(self, now: float) -> list[NodeEffect]:
        """Give back jobs that will never start here, which the sender can't have known yet."""
        effects: list[NodeEffect] = []
        for run, state in self._clients.lives():
            lanes = [
                lane
                for lane in self._scheduler.queue.lanes(run)
                if self._drain.has_begun or self._never_holds(lane)
            ]
            tickets = [Ticket(job.index, job.attempt) for lane in lanes for job in lane.jobs]
            if self._drain.has_begun:
                tickets += self._inputs.waiting(run)
            if tickets:
                effects += self._recall(state.peer, run, tickets, len(tickets), now)
        return effects

    def _never_holds(self, lane: JobLane) -> bool:
        return not self._scheduler.ledger.could_ever_hold(lane.needs)

    # --- Values and workers ------------------------------------------------------------------------------------

    def _input_fetched(self, event: InputFetched, now: float) -> list[NodeEffect]:
        ready, reports = self._arrivals.fetched(event, now)
        self._enqueue(event.run, ready)
        return reports

    def _sampled(self, event: WorkersSampled) -> list[NodeEffect]:
        overgrown = self._scheduler.end_overgrown(event, self._limits.memory_factor)
        return [*overgrown, *self._reports.restless(event)]

    # --- After each event ---------------------------------------------------------------------------------------

    def _settle(self, now: float) -> list[NodeEffect]:
        effects = self.stages.settle()
        if self._drain.has_begun or self._has_misfits:
            effects += self._give_back(now)
        if self._clients.closing:
            effects += self._endings.finish()
        leaving = self._spill_policy.next_to_leave(now)
        if leaving is not None:
            effects.append(SpillValue(*leaving))
        filled = self._scheduler.fill(now, may_start=not self._spill_policy.is_crowded)
        effects += [*self._reports.started(filled), *filled] if self._clients.watched else filled
        effects += self._advertiser.speak(self._standing(), self.advertisement, now)
        effects += self._clients.take_changes()
        effects += self._spill_policy.take_changes(now)
        is_busy = self._drain.has_begun and (self.is_working or self._inputs.nbytes > self._kept.named_nbytes)
        return effects + self._drain.effects(now, runs=len(self._clients), is_busy=is_busy)

    def _standing(self) -> Standing:
        scheduler = self._scheduler
        return (
            scheduler.warm.claimed(),
            scheduler.ledger.totals,
            self._drain.has_begun,
            len(scheduler.roster.idle),
            scheduler.queue.waiting_runs > 0,
            self._circuit_breaker.reason,
        )
