"""Reports about attempts: whether a result is kept, and what the run is told."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from handoff_actors.core.node.cancelling import not_run
from handoff_actors.core.node.circuit_breaker import CircuitBreaker
from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import (
    CheckValue,
    DiscardValue,
    KeepValue,
    LogDeath,
    LogRetirement,
    NodeEffect,
    ObjectMade,
    Reply,
    RunJobs,
    WorkerDone,
    WorkerExited,
    WorkerFailed,
    WorkerRecalled,
    WorkersSampled,
    WorkerUnfit,
    WorkerUp,
)
from handoff_actors.core.node.failures import CANCELLED, death, failure, how_it_ended, no_room, too_long
from handoff_actors.core.node.inputs import Inputs, stored_inputs
from handoff_actors.core.node.lost_values import LostValues
from handoff_actors.core.node.scheduling.fair_queue import tickets_of
from handoff_actors.core.node.scheduling.idle_guard import restless
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.core.node.scheduling.worker_state import HeldJob
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.core.node.stage_events import DiscardItems
from handoff_actors.ids import Attempt, Index, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, StoredPart, Ticket
from handoff_actors.wire.messages.runs import Completed, Started, WorkerRetired


class AttemptReports:
    """Turns what workers report into effects on the store and messages to runs."""

    def __init__(
        self,
        clients: Clients,
        scheduler: WorkerScheduler,
        inputs: Inputs,
        spill_policy: SpillPolicy,
        circuit_breaker: CircuitBreaker,
        lost_values: LostValues,
    ) -> None:
        self._clients = clients
        self._scheduler = scheduler
        self._inputs = inputs
        self._spill_policy = spill_policy
        self._circuit_breaker = circuit_breaker
        self._lost_values = lost_values

    def started(self, effects: Iterable[NodeEffect]) -> list[NodeEffect]:
        """Tell watched runs which attempts workers are being given."""
        reports: list[NodeEffect] = []
        for effect in effects:
            run = self._clients.live(effect.run) if isinstance(effect, RunJobs) else None
            if isinstance(effect, RunJobs) and run is not None and effect.run in self._clients.watched:
                tickets = [ticket for job in effect.jobs for ticket in tickets_of(job)]
                reports.append(Reply(run.peer, Started(effect.run, tickets)))
        return reports

    def changed(self, event: WorkerUp | ObjectMade, now: float) -> list[NodeEffect]:
        """Note that a worker is ready, or keeps one more object."""
        match event:
            case WorkerUp(worker, pid):
                self._scheduler.worker_up(worker, pid, now)
            case ObjectMade(worker, key, nbytes):
                self._scheduler.warm.made(worker, key, nbytes)
            case _:
                assert_never(event)
        return []

    def done(self, event: WorkerDone, now: float) -> list[NodeEffect]:
        """Report jobs that a worker has finished."""
        accepted, behind = self._scheduler.finished(event.worker, event.run, event.done, now)
        stored = [
            entry for entry in event.done if entry.additions is not None or isinstance(entry.value, int)
        ]
        effects = self._report_separated(behind) if behind else []
        kept = self._take_in(stored, accepted, event.run, effects, now) if stored else accepted
        return self._completed(event.run, kept, effects, now)

    def _completed(
        self, run_id: RunId, kept: list[Done], effects: list[NodeEffect], now: float
    ) -> list[NodeEffect]:
        run = self._clients.live(run_id)
        if kept:
            self._circuit_breaker.succeeded()
        if run is not None and kept:
            others = self._scheduler.warm.claimed_by_others(run_id) if len(self._clients) > 1 else {}
            fetched = run.take_fetched(now) if run.fetched else []
            effects.append(Reply(run.peer, Completed(run_id, kept, others, fetched)))
        return effects

    def _take_in(
        self,
        stored: Iterable[Done],
        accepted: list[Done],
        run: RunId,
        effects: list[NodeEffect],
        now: float,
    ) -> list[Done]:
        """Keep stored values that count, as far as there is room for all parts of one. Returns the entries of `accepted` that were kept."""
        client_run = self._clients.live(run)
        counting = {(entry.index, entry.attempt) for entry in accepted} if client_run is not None else set()
        refused: set[Index] = set()
        for entry in stored:
            parts = _parts_of(entry)
            nbytes = sum(part.nbytes for part in parts)
            counts = (entry.index, entry.attempt) in counting
            if client_run is not None and counts and nbytes and not self._spill_policy.has_room(nbytes):
                counts = False
                refused.add(entry.index)
                refusal = no_room(run, entry, nbytes, self._spill_policy)
                self._circuit_breaker.failed(run, entry.index, refusal.kind, refusal.reason, now)
                effects.append(Reply(client_run.peer, refusal))
            effects += [
                self._stored(run, part.index, entry.attempt, part.nbytes, counts=counts) for part in parts
            ]
        return [entry for entry in accepted if entry.index not in refused] if refused else accepted

    def failed(self, event: WorkerFailed, now: float) -> list[NodeEffect]:
        """Report an attempt that failed; its worker survives."""
        held, behind = self._scheduler.failed(event.worker, event.run, event.index, event.attempt, now)
        run = self._clients.live(event.run)
        if held is None or run is None:
            return []
        kind, error, reason = event.kind, event.error, event.reason
        if held.verdict == "timeout":
            kind, error, reason = "timeout", b"", too_long(run.templates[held.job.template])
        elif held.verdict == "cancelled":
            kind, error, reason = "cancelled", b"", CANCELLED
        if self._lost_values.is_cause_of(kind, now):
            kind, error, reason = "input", b"", f"the store of its node was removed: {reason}"
        failed = failure(
            event.run, held.job, kind, reason, error=error, ran_s=event.ran_s, traces=event.traces
        )
        self._circuit_breaker.failed(event.run, event.index, kind, reason, now)
        separated = self._report_separated(behind)
        # A file may be gone without its directory.
        checks = stored_inputs(held.job) if kind == "input" else []
        return [
            *(CheckValue(event.run, ref.index) for ref in checks),
            Reply(run.peer, failed),
            *separated,
        ]

    def recalled(self, event: WorkerRecalled, now: float) -> list[NodeEffect]:
        """Queue again what a worker has given back without starting it."""
        separated, killed = self._scheduler.recalled(event.worker, event.jobs, now)
        return [*self._report_separated(separated), *killed]

    def exited(self, event: WorkerExited, now: float) -> list[NodeEffect]:
        """Report what a worker that has ended takes with it."""
        effects: list[NodeEffect] = []
        ran_s = self._ran_s(event.worker, now)
        deaths = self._deaths(event, ran_s)
        lost_jobs, separated = self._scheduler.exited(event.worker, now)
        for lost in lost_jobs:
            run, job = self._clients.live(lost.run), lost.job
            assert run is not None, "workers serve runs that are open"
            # It may have died with its result half written.
            effects.append(DiscardValue(lost.run, job.index, job.attempt))
            if run.templates[job.template].is_stage:
                effects.append(DiscardItems(lost.run, job.index, job.attempt))
            match lost.kind:
                case "timeout":
                    reason = too_long(run.templates[job.template])
                case "memory" | "worker":
                    reason = lost.reason or how_it_ended(event)
                case "cancelled":
                    reason = CANCELLED
                case _:
                    assert_never(lost.kind)
            self._circuit_breaker.failed(lost.run, job.index, lost.kind, reason, now)
            effects.append(Reply(run.peer, death(lost.run, job, lost.kind, reason, event, ran_s or 0.0)))
        effects += [DiscardValue(held.lane.run, held.job.index, held.job.attempt) for held in separated]
        return [*effects, *self._report_separated(separated), *deaths]

    def _ran_s(self, worker: WorkerId, now: float) -> float | None:
        """The seconds for which a worker has run its function; None if it had none, or several at once."""
        state = self._scheduler.roster.workers[worker]
        return now - state.last_message_at if state.held and not state.is_async else None

    def _deaths(self, event: WorkerExited, ran_s: float | None) -> list[NodeEffect]:
        state = self._scheduler.roster.workers[event.worker]
        if state.is_retiring or state.verdict not in {None, "memory"}:
            return []
        held = [(run, Ticket(index, one.job.attempt)) for (run, index), one in state.held.items()]
        return [LogDeath(event, state.reason, held, ran_s)]

    def unfit(self, event: WorkerUnfit) -> list[NodeEffect]:
        """Retire a worker for what a function has left behind in it, and tell its run."""
        retired = self._scheduler.retire(event.worker)
        told = self._tell_of_retirement(
            event.worker, event.run, Ticket(event.index, event.attempt), event.reason
        )
        return [*retired, told]

    def restless(self, sample: WorkersSampled) -> list[NodeEffect]:
        """Retire idle workers in which something runs on, and tell the runs of their latest functions."""
        effects: list[NodeEffect] = []
        for state, reason in restless(self._scheduler.roster.workers.values(), sample):
            assert state.latest is not None, "only workers that have run something are judged"
            effects += self._scheduler.retire(state.worker)
            effects.append(self._tell_of_retirement(state.worker, *state.latest, reason))
        return effects

    def _tell_of_retirement(self, worker: WorkerId, run: RunId, ticket: Ticket, reason: str) -> NodeEffect:
        client_run = self._clients.live(run)
        if client_run is None:
            return LogRetirement(worker, reason)
        return Reply(client_run.peer, WorkerRetired(run, ticket.index, ticket.attempt, reason))

    def _report_separated(self, members: Iterable[HeldJob]) -> list[NodeEffect]:
        """Report to runs the members that no longer run as part of their fused group, and jobs that they have cancelled."""
        by_run: dict[RunId, list[tuple[Ticket, bool]]] = {}
        for held in members:
            by_run.setdefault(held.lane.run, []).append((held.ticket, held.verdict is not None))
        client_runs = ((self._clients.live(run), run, attempts) for run, attempts in by_run.items())
        return [
            Reply(client_run.peer, report)
            for client_run, run, attempts in client_runs
            if client_run is not None
            for report in not_run(run, attempts)
        ]

    def _stored(self, run: RunId, index: Index, attempt: Attempt, nbytes: int, *, counts: bool) -> NodeEffect:
        if not (counts and self._inputs.made(run, index, attempt, nbytes)):
            return DiscardValue(run, index, attempt)
        self._spill_policy.put((run, index), nbytes)
        return KeepValue(run, index, attempt)


def _parts_of(entry: Done) -> Sequence[StoredPart]:
    """The values that an attempt has stored: its own, or those that its graph, or the rest of its value, refers to."""
    if entry.additions is not None:
        return entry.additions.parts
    assert isinstance(entry.value, int)
    return (StoredPart(entry.index, entry.value),)
