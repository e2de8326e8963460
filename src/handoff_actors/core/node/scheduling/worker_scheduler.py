"""The scheduler of a node's workers: which one runs which job next, under which claim, and which job killed one that died.

A sync worker is lent to one lane at a time, under one claim, and runs what it is given in order. It holds several
jobs only where they are known to be short; should one of them turn out long, the others are recalled from it. Jobs
with a time limit, and suspects, are given singly, so that it is known when they began and which one killed a worker.
The async worker runs many coroutines of many runs, each under a claim of its own.
"""

from collections.abc import Iterable, Iterator

from handoff_actors.core.node.events import (
    CancelCoroutine,
    KillWorker,
    NodeEffect,
    RecallWorker,
    RunJobs,
    WorkersSampled,
)
from handoff_actors.core.node.scheduling.blocked_lanes import BlockedLanes
from handoff_actors.core.node.scheduling.cancelled_jobs import (
    cancelled_groups,
    held_among,
    is_first,
    is_running_cancelled,
    loss_of,
)
from handoff_actors.core.node.scheduling.fair_queue import FairQueue, JobLane
from handoff_actors.core.node.scheduling.idle_guard import is_to_be_judged
from handoff_actors.core.node.scheduling.job_deadlines import JobDeadlines
from handoff_actors.core.node.scheduling.lending import Lending
from handoff_actors.core.node.scheduling.memory_guard import is_short, overgrown
from handoff_actors.core.node.scheduling.warm_objects import WarmObjects
from handoff_actors.core.node.scheduling.worker_roster import WorkerRoster
from handoff_actors.core.node.scheduling.worker_state import (
    CancelReason,
    HeldJob,
    Key,
    LostJob,
    WorkerState,
)
from handoff_actors.core.resources import GPU, ResourceLedger
from handoff_actors.ids import Attempt, Index, Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Job, Template, Ticket

#: Coroutines at once on a node, where no claim says less.
MAX_COROUTINES = 4096
#: Time in seconds that a cancelled coroutine may take to clean up before its worker is killed.
CANCEL_GRACE_S = 0.5
#: Seconds that one lane may keep a worker while other runs wait.
TURN_S = 0.02


class WorkerScheduler:
    """The workers of one node, its ledger, and the jobs that wait for them."""

    def __init__(self, totals: Resources, usual: int, most: int) -> None:
        self.ledger = ResourceLedger(totals)
        self.queue = FairQueue()
        self.roster = WorkerRoster(usual, most)
        self.lending = Lending(self.ledger, self.roster)
        #: The objects that workers keep.
        self.warm = WarmObjects(self.ledger, self.roster)
        self._blocked = BlockedLanes(self.ledger, self.roster)
        self._deadlines = JobDeadlines(self.roster.workers)
        #: The templates of open runs; jobs of other runs do not run again.
        self.templates: dict[RunId, dict[int, Template]] = {}
        #: Open runs that functions have begun.
        self.nested = self._blocked.nested

    # --- What happens -------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[NodeEffect]:
        """Start the usual workers."""
        return [*self.roster.keep_size(now)]

    def worker_up(self, worker: WorkerId, pid: int, now: float) -> None:
        """Note that a worker is ready."""
        self.roster.started(worker, pid, now)

    def finished(
        self, worker: WorkerId, run: RunId, done: Iterable[Done], now: float
    ) -> tuple[list[Done], list[HeldJob]]:
        """Take finished jobs off a worker, with the rest of the fused group of each that has ended with more than a plain value.

        Returns the entries that it was known to hold, and those of fused groups, which will not run as a part of them.
        """
        state = self.roster.workers.get(worker)
        if state is None:
            return [], []
        accepted: list[Done] = []
        behind: list[HeldJob] = []
        lane: JobLane | None = None
        seconds = 0.0
        for entry in done:
            held = state.held.get((run, entry.index))
            if held is None or held.job.attempt != entry.attempt:
                continue
            del state.held[run, entry.index]
            if held.claim is not None or held.nested_runs or held.lane.warm or state.runs_stage:
                self._let_go(state, held, now)
            accepted.append(entry)
            if entry.additions is not None:
                behind += self._take_group(state, held.head, now)
            lane = held.lane
            seconds += entry.ran_s
        if lane is not None:
            state.is_held_up = False
            state.latest = run, Ticket(accepted[-1].index, accepted[-1].attempt)
            lane.learn(seconds / len(accepted))
        self._message_received(state, now)
        return accepted, behind

    def failed(
        self, worker: WorkerId, run: RunId, index: Index, attempt: Attempt, now: float
    ) -> tuple[HeldJob | None, list[HeldJob]]:
        """Take a failed job off a worker, with the rest of its fused group. Returns None if the worker did not hold it."""
        state = self.roster.workers.get(worker)
        held = state.held.get((run, index)) if state else None
        if state is None or held is None or held.job.attempt != attempt:
            return None, []
        self._let_go(state, state.held.pop((run, index)), now)
        state.latest = run, Ticket(index, attempt)
        behind = self._take_group(state, held.head, now)
        state.is_held_up = False
        self._message_received(state, now)
        return held, behind

    def recalled(
        self, worker: WorkerId, tickets: Iterable[tuple[RunId, Ticket]], now: float
    ) -> tuple[list[HeldJob], list[NodeEffect]]:
        """Queue the jobs that a worker gives back, in front. A cancelled job that it keeps is running: it is stopped.

        Returns the jobs that are not queued: members of fused groups whose head it keeps, cancelled jobs and their groups.
        """
        state = self.roster.workers.get(worker)
        if state is None:
            return [], []
        state.recalled, state.is_held_up = False, True
        back: dict[JobLane, list[Job]] = {}
        separated: list[HeldJob] = []
        heads: set[Key] = set()
        cancelled = cancelled_groups(state)
        for held in self._given_back(state, tickets, now):
            run, head = held.lane.run, held.head or held.job
            if id(head) in cancelled:
                separated.append(held)
            elif head is held.job:
                heads.add((run, head.index))
                back.setdefault(held.lane, []).append(head)
            elif (run, head.index) not in heads:
                separated.append(held)
        for lane, jobs in back.items():
            self.queue.put_back(lane, jobs)
        self._message_received(state, now)
        return separated, [self.roster.kill(state, "cancelled")] if is_running_cancelled(state) else []

    def exited(self, worker: WorkerId, now: float) -> tuple[list[LostJob], list[HeldJob]]:
        """Remove a worker that has ended. Its jobs are queued again, but for the one that killed it or exceeded its time limit.

        Returns the lost jobs, and the members of fused groups: their inputs may have gone with the worker.
        """
        state = self.roster.left(worker, now)
        alone = len(state.held) == 1
        lost_jobs: list[LostJob] = []
        separated: list[HeldJob] = []
        # Backwards, since each that is queued again goes in front.
        for (run, _), held in reversed(state.held.items()):
            if held.claim is not None:
                self.ledger.release(held.claim)
            if run not in self.templates:
                continue
            kind = loss_of(held, state, is_alone=alone)
            if kind is not None:
                lost_jobs.append(LostJob(held.job, run, kind, state.reason))
            elif held.head is not None:
                separated.append(held)
            else:
                self._queue_again(run, held, suspect=state.verdict in {None, "memory"})
        if state.claim is not None:
            self.ledger.release(state.claim)
        self.warm.left(state)
        return lost_jobs, separated

    def stop_run(self, run: RunId, now: float) -> list[NodeEffect]:
        """Remove a run's jobs from the queue and the workers. Its templates must be gone already."""
        self.queue.forget(run)
        effects: list[NodeEffect] = []
        for state in self.roster.workers.values():
            keys = [key for key in state.held if key[0] == run]
            if not keys:
                continue
            if state.is_async:
                for key in keys:
                    effects += self._cancel(state, state.held[key], "closed", now)
            elif state.verdict is None:
                effects.append(self.roster.kill(state, "closed"))
        return effects

    def cancel(self, run: RunId, tickets: Iterable[Ticket], now: float) -> list[NodeEffect]:
        """Begin to end these attempts, as far as workers hold them. See `core.node.cancelling`."""
        effects: list[NodeEffect] = []
        for state, held in held_among(self.roster.workers.values(), run, tickets):
            if state.is_async:
                effects += self._cancel(state, held, "cancelled", now)
                continue
            self._begin_to_cancel(state, held, "cancelled", now)
            if not state.recalled and state.verdict is None:
                state.recalled = True
                effects.append(RecallWorker(state.worker))
        return effects

    def end_overgrown(self, sample: WorkersSampled, factor: float) -> list[NodeEffect]:
        """Kill workers that use too much memory; where the machine is short of it, first those that only keep objects."""
        self.lending.sampled(sample)
        effects: list[NodeEffect] = []
        if factor and is_short(sample) and (unneeded := self.warm.give_up_longest_unused()):
            return [*unneeded]
        for state, reason in overgrown(self.roster.workers.values(), sample, factor):
            state.reason = reason
            effects.append(self.roster.kill(state, "memory"))
        return effects

    def retire(self, worker: WorkerId) -> list[NodeEffect]:
        """Let a worker run no further jobs. Those that it holds are queued again when it has ended."""
        state = self.roster.workers.get(worker)
        return [] if state is None else [*self.roster.retire(state)]

    @property
    def is_to_be_sampled(self) -> bool:
        """True while some worker has something to do, or has just had and is not known to be quiet."""
        return any(state.held or is_to_be_judged(state) for state in self.roster.workers.values())

    # --- What to do next ----------------------------------------------------------------------------------------

    def fill(self, now: float, *, may_start: bool = True) -> list[NodeEffect]:
        """Start as many jobs as there is room for."""
        effects: list[NodeEffect] = []
        if self.roster.retiring:
            effects += self.roster.kill_retired()
        effects += self.roster.keep_size(now)
        if not may_start or not self.queue.waiting_runs:
            return effects
        starved = self._blocked.most_starved(now)
        self._start_stages(starved, now, effects)
        effects += self._refill(starved, now)
        while self.queue.waiting_runs and self._start_one(starved, now, effects):
            if starved is not None and starved.blocked_since is None:
                # It has started, and holds up nobody any more.
                starved = self._blocked.most_starved(now)
        if self.queue.is_of_one_lane and not self.roster.starting:
            effects += self._refill(starved, now, is_ahead=True)
        if KillWorker in map(type, effects):
            # To make room.
            effects += [*self.roster.keep_size(now), *self._replace_async()]
        return effects

    def _replace_async(self) -> list[NodeEffect]:
        """Start an async worker in the place of one that was just killed, if any coroutine waits that came before."""
        roster = self.roster
        is_missing = roster.may_spawn and roster.async_worker() is None and self.queue.has_coroutines()
        return [roster.spawn(is_async=True)] if is_missing else []

    def wake(self, now: float) -> list[NodeEffect]:
        """Act on time limits, silent workers and idle workers."""
        effects: list[NodeEffect] = []
        for state, held in self._deadlines.passed(now):
            effects += self._time_is_up(state, held, now)
        for state in self.roster.workers.values():
            if state.may_be_stuck and now >= self._recalls_at(state):
                state.recalled = True
                effects.append(RecallWorker(state.worker))
        effects += self.warm.wake(now)
        effects += self.roster.kill_idle(now)
        return effects

    @property
    def wake_at(self) -> float | None:
        """The time of the next time limit, silence or idleness to act on."""
        times = [self._recalls_at(state) for state in self.roster.workers.values() if state.may_be_stuck]
        others = (self._deadlines.next_at, self.roster.wake_at, self.warm.wake_at)
        return min([*times, *(at for at in others if at is not None)], default=None)

    def _recalls_at(self, state: WorkerState) -> float:
        is_wanted = bool(self.roster.idle) and state.lane is not None and self.ledger.fits(state.lane.cost)
        return state.recalls_at(is_wanted=is_wanted)

    def load(self) -> tuple[int, int]:
        """The number of jobs that run, and of those that wait."""
        running, waiting = self.roster.load()
        return running, waiting + len(self.queue)

    def busy(self) -> int:
        """The number of sync jobs that run or are queued, without stages; a fused group counts as one, as its runner counts it."""
        return self.roster.busy() + self.queue.waiting_sync()

    def check(self) -> None:
        """Assert every invariant."""
        for part in (self.ledger, self.queue, self.roster, self.warm):
            part.check()
        claims = self.roster.count_claims() + self.warm.count_claims()
        assert claims == len(self.ledger), f"{claims} claims are known, the ledger has {len(self.ledger)}"

    # --- Starting -----------------------------------------------------------------------------------------------

    def _start_stages(self, starved: JobLane | None, now: float, effects: list[NodeEffect]) -> None:
        """Start stages before all else: workers that were started for them must not go to others."""
        for lane in self.queue.waiting_stages():
            while lane.jobs and self._blocked.may_go_before(starved, lane):
                if not self._start_lane(lane, now, effects):
                    break
                self.queue.had_its_turn(lane)
                effects += self.roster.keep_size(now)

    def _start_one(self, starved: JobLane | None, now: float, effects: list[NodeEffect]) -> bool:
        for run in self.queue.turns():
            for lane in self.queue.lanes(run):
                if self._blocked.may_go_before(starved, lane) and self._start_lane(lane, now, effects):
                    self.queue.had_its_turn(lane)
                    return True
        return False

    def _start_lane(self, lane: JobLane, now: float, effects: list[NodeEffect]) -> bool:
        if lane.cost and not self.ledger.fits(lane.cost):
            return self._is_blocked(lane, now, effects)
        started = (
            self._start_async(lane, now, effects) if lane.is_async else self._start_sync(lane, now, effects)
        )
        if started:
            lane.blocked_since = None
        return started

    def _is_blocked(self, lane: JobLane, now: float, effects: list[NodeEffect]) -> bool:
        self._blocked.add(lane, now)
        effects += self.warm.make_room_for(lane)
        return False

    def _start_warm(self, lane: JobLane, now: float, effects: list[NodeEffect]) -> bool:
        state = self.warm.lend(lane, now)
        if state is not None:
            self._lend(state, lane, now, effects)
            return True
        if not self.ledger.fits(lane.needs):
            return self._is_blocked(lane, now, effects)
        # No worker is idle, or they are all bound to other devices.
        devices = self.ledger.devices_for(lane.needs) if GPU in lane.needs else None
        effects += self.lending.make_room(lane, devices)
        return False

    def _start_sync(self, lane: JobLane, now: float, effects: list[NodeEffect]) -> bool:
        if lane.warm:
            return self._start_warm(lane, now, effects)
        devices = self.ledger.devices_for(lane.cost) if GPU in lane.cost else None
        state = self.roster.pick_idle(devices)
        if state is None:
            effects += self.lending.make_room(lane, devices)
            return False
        state.claim = self.ledger.claim(lane.cost) if lane.cost else None
        if devices is not None:
            state.devices = devices
        self._lend(state, lane, now, effects)
        return True

    def _lend(self, state: WorkerState, lane: JobLane, now: float, effects: list[NodeEffect]) -> None:
        del self.roster.idle[state.worker]
        state.lane, state.lent_at, state.last_message_at = lane, now, now
        state.used_before_nbytes = state.used_nbytes
        self._give(state, lane, now, effects)
        if lane.is_stage:
            self.roster.begin_stage(state)

    def _start_async(self, lane: JobLane, now: float, effects: list[NodeEffect]) -> bool:
        state = self.roster.async_worker()
        if state is None:
            if self.roster.may_spawn:
                effects.append(self.roster.spawn(is_async=True))
            return False
        if state.pid is None or len(state.held) >= MAX_COROUTINES:
            return False
        if lane.warm and not self.warm.have(state, lane, now):
            return self._is_blocked(lane, now, effects)
        jobs: list[Job] = []
        while lane.jobs and len(state.held) - state.waiting < MAX_COROUTINES and self.ledger.fits(lane.cost):
            job = lane.jobs.popleft()
            claim = self.ledger.claim(lane.cost) if lane.cost else None
            state.held[lane.run, job.index] = held = HeldJob(job, lane, claim)
            if lane.timeout is not None:
                self._deadlines.add(now + lane.timeout, state, held)
            jobs.append(job)
            if claim is not None and claim.devices:
                # Coroutines share one environment, so each set of devices goes out on its own.
                break
        devices = self.warm.devices(state, lane, claim)
        effects.append(RunJobs(state.worker, lane.run, self.templates[lane.run], jobs, devices))
        return True

    def _give(self, state: WorkerState, lane: JobLane, now: float, effects: list[NodeEffect]) -> None:
        share = -(-len(lane.jobs) // (1 + len(self.roster.idle)))
        count = max(1, min(lane.depth - len(state.held), share))
        jobs = [lane.jobs.popleft() for _ in range(min(count, len(lane.jobs)))]
        held, run = state.held, lane.run
        for job in jobs:
            head = job if job.then else None
            held[run, job.index] = one = HeldJob(job, lane, None, head)
            if lane.timeout is not None:
                self._deadlines.add(now + lane.timeout, state, one)
            for member in job.then:
                held[run, member.index] = HeldJob(member, lane, None, head)
        devices = self.warm.devices(state, lane, state.claim)
        effects.append(RunJobs(state.worker, lane.run, self.templates[lane.run], jobs, devices))

    def _refill(self, starved: JobLane | None, now: float, *, is_ahead: bool = False) -> list[NodeEffect]:
        """Give workers that are about to run dry more jobs of their lane, under the claim that they hold."""
        effects: list[NodeEffect] = []
        for state in self.roster.workers.values():
            lane = state.lane
            if lane is None or not lane.jobs or not state.held or state.verdict or state.lends_slot:
                continue
            if state.recalled or state.is_held_up:
                continue
            its_turn = self.queue.waiting_runs == 1 or now - state.lent_at < TURN_S
            least = 1 if is_ahead and lane.is_brief else lane.depth // 2
            if its_turn and self._blocked.may_go_before(starved, lane) and len(state.held) <= least:
                self._give(state, lane, now, effects)
                if not lane.jobs:
                    self.queue.had_its_turn(lane)
        return effects

    # --- Ending -------------------------------------------------------------------------------------------------

    def _let_go(self, state: WorkerState, held: HeldJob, now: float) -> None:
        if held.nested_runs:
            self.lending.take_back(state, held)
        if state.runs_stage:
            self.roster.end_stage(state, (held.lane.run, held.job.index, held.job.attempt))
        if held.claim is not None:
            self.ledger.release(held.claim)
        if held.lane.warm:
            self.warm.ended(state, held.lane, now)

    def _take_group(self, state: WorkerState, head: Job | None, now: float) -> list[HeldJob]:
        """Take off a worker what it still holds of a fused group, if that is one."""
        members = [] if head is None else list(state.fused_group(head))
        for member in members:
            self._let_go(state, state.held.pop((member.lane.run, member.job.index)), now)
        return members

    def _given_back(
        self, state: WorkerState, tickets: Iterable[tuple[RunId, Ticket]], now: float
    ) -> Iterator[HeldJob]:
        """Take jobs off a worker that gives them back. Yields those whose runs go on."""
        for run, ticket in tickets:
            held = state.held.get((run, ticket.index))
            if held is not None and held.job.attempt == ticket.attempt:
                self._let_go(state, state.held.pop((run, ticket.index)), now)
                if run in self.templates:
                    yield held

    def _message_received(self, state: WorkerState, now: float) -> None:
        state.last_message_at = now
        if state.held or state.is_async:
            return
        if state.claim is not None:
            self.ledger.release(state.claim)
            state.claim = None
        state.lane = None
        state.recalled = state.is_held_up = False
        self.roster.set_free(state, now)

    def _queue_again(self, run: RunId, held: HeldJob, *, suspect: bool) -> None:
        template = self.templates[run][held.job.template]
        suspect = suspect or held.lane.suspect
        lane = self.queue.lane(run, template, suspect=suspect, warm=held.lane.warm)
        self.queue.put_back(lane, [held.job])

    def _time_is_up(self, state: WorkerState, held: HeldJob, now: float) -> list[NodeEffect]:
        if state.verdict is not None:
            return []
        if not state.is_async:
            if held.verdict is None:
                return [self.roster.kill(state, "timeout")]
            return [self.roster.kill(state, "cancelled")] if is_first(state, held) else []
        if held.verdict is None:
            return self._cancel(state, held, "timeout", now)
        if now < held.killed_at:
            return []
        # The function was cancelled and did not stop: its worker is killed, the other coroutines start again.
        return [self.roster.kill(state, "closed")]

    def _cancel(
        self, state: WorkerState, held: HeldJob, verdict: CancelReason, now: float
    ) -> list[NodeEffect]:
        if held.verdict is not None:
            return []
        self._begin_to_cancel(state, held, verdict, now)
        return [CancelCoroutine(state.worker, held.lane.run, held.job.index, held.job.attempt)]

    def _begin_to_cancel(self, state: WorkerState, held: HeldJob, verdict: CancelReason, now: float) -> None:
        held.verdict, held.killed_at = verdict, now + CANCEL_GRACE_S
        self._deadlines.add(held.killed_at, state, held)
