"""A node's workers: which one runs what next, under which claim, and whose fault it is when one dies.

A sync worker is lent to one lane at a time, under one claim, and runs what it is given in order. It holds several
jobs only where they are known to be short; should one of them turn out long, the others are recalled from it. Jobs
with a time limit, and suspects, are given singly, so that it is known when they began and whose fault a death is.
The async worker runs many coroutines of many runs, each under a claim of its own.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from handoff_actors.core.node.events import CancelCoroutine, Give, MemorySampled, NodeEffect, RecallWorker
from handoff_actors.core.node.fair_queue import FairQueue, Lane
from handoff_actors.core.node.memory_guard import overgrown
from handoff_actors.core.node.worker_roster import Staff
from handoff_actors.core.node.worker_state import Casualty, Given, Key, Slot
from handoff_actors.core.resources import GPU, Ledger
from handoff_actors.ids import Attempt, Index, Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Job, Template, Ticket

#: Coroutines at once on a node, where no claim says less.
MAX_COROUTINES = 4096
#: A coroutine that has been cancelled may take so long to clean up before its worker is killed.
CANCEL_GRACE_S = 0.5
#: What claims have kept waiting for so long is served before anything that wants the same.
STARVED_S = 1.0
#: One lane may keep a worker for so long while other runs wait.
TURN_S = 0.02


class Crew:
    """The workers of one node, its ledger, and the jobs that wait for them."""

    def __init__(self, totals: Resources, usual: int, most: int) -> None:
        self.ledger = Ledger(totals)
        self.queue = FairQueue()
        self.staff = Staff(usual, most)
        #: Lanes for whose head there was no room when that was last looked at, and perhaps some others.
        self._blocked: dict[Lane, None] = {}
        #: Of runs that are open; what belongs to others does not run again.
        self.templates: dict[RunId, dict[int, Template]] = {}
        #: (when, worker, run, index, attempt) of time limits.
        self._deadlines: list[tuple[float, WorkerId, RunId, Index, Attempt]] = []

    # --- What happens -------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[NodeEffect]:
        """Start the usual workers."""
        return [*self.staff.keep_strength(now)]

    def worker_up(self, worker: WorkerId, pid: int, now: float) -> None:
        """A worker is ready."""
        self.staff.came_up(worker, pid, now)

    def finished(self, worker: WorkerId, run: RunId, done: Iterable[Done], now: float) -> list[Done]:
        """Take jobs out of a worker's hands; what it was not known to have is left out of the answer."""
        slot = self.staff.slots.get(worker)
        if slot is None:
            return []
        accepted: list[Done] = []
        lane: Lane | None = None
        seconds = 0.0
        for entry in done:
            given = slot.given.get((run, entry.index))
            if given is None or given.job.attempt != entry.attempt:
                continue
            self._take_from(slot, (run, entry.index))
            accepted.append(entry)
            lane = given.lane
            seconds += entry.ran_s
        if lane is not None:
            slot.is_held_up = False
            lane.learn(seconds / len(accepted))
        self._heard(slot, now)
        return accepted

    def failed(
        self, worker: WorkerId, run: RunId, index: Index, attempt: Attempt, now: float
    ) -> tuple[Given | None, list[Ticket]]:
        """Take a job out of a worker's hands, and what was to run behind it; None if it was not known to have it."""
        slot = self.staff.slots.get(worker)
        given = slot.given.get((run, index)) if slot else None
        if slot is None or given is None or given.job.attempt != attempt:
            return None, []
        self._take_from(slot, (run, index))
        behind = [] if given.head is None else list(slot.unit(given.head))
        for ticket in behind:
            self._take_from(slot, (run, ticket.index))
        slot.is_held_up = False
        self._heard(slot, now)
        return given, behind

    def recalled(
        self, worker: WorkerId, tickets: Iterable[tuple[RunId, Ticket]], now: float
    ) -> list[tuple[RunId, Ticket]]:
        """Queue again, in front, what a worker gives back; the answer is what was to run behind something that it keeps."""
        slot = self.staff.slots.get(worker)
        if slot is None:
            return []
        slot.recalled, slot.is_held_up = False, True
        back: dict[Lane, list[Job]] = {}
        parted: list[tuple[RunId, Ticket]] = []
        heads: set[Key] = set()
        for run, ticket in tickets:
            given = slot.given.get((run, ticket.index))
            if given is None or given.job.attempt != ticket.attempt:
                continue
            self._take_from(slot, (run, ticket.index))
            if run not in self.templates:
                continue
            if given.head is None or given.head is given.job:
                heads.add((run, ticket.index))
                back.setdefault(given.lane, []).append(given.job)
            elif (run, given.head.index) not in heads:
                parted.append((run, ticket))
        for lane, jobs in back.items():
            self.queue.put_back(lane, jobs)
        self._heard(slot, now)
        return parted

    def exited(self, worker: WorkerId, now: float) -> tuple[list[Casualty], list[tuple[RunId, Ticket]]]:
        """A worker has ended. What it held is queued again, but for what is to blame or has run out of time.

        The second part of the answer are members of units: what they take may have gone with the worker.
        """
        slot = self.staff.left(worker, now)
        alone = len(slot.given) == 1
        casualties: list[Casualty] = []
        parted: list[tuple[RunId, Ticket]] = []
        # Backwards, since each that is queued again goes in front.
        for (run, _), given in reversed(slot.given.items()):
            if given.claim is not None:
                self.ledger.release(given.claim)
            if run not in self.templates:
                continue
            if given.verdict == "timeout" or slot.verdict == "timeout":
                casualties.append(Casualty(given.job, run, "timeout"))
            elif slot.verdict in {None, "memory"} and alone:
                casualties.append(Casualty(given.job, run, slot.verdict or "worker", slot.reason))
            elif given.head is not None:
                parted.append((run, Ticket(given.job.index, given.job.attempt)))
            else:
                self._queue_again(run, given, suspect=slot.verdict in {None, "memory"})
        if slot.claim is not None:
            self.ledger.release(slot.claim)
        return casualties, parted

    def stop_run(self, run: RunId, now: float) -> list[NodeEffect]:
        """Let nothing of a run wait or run. Its templates must be gone already."""
        self.queue.forget(run)
        effects: list[NodeEffect] = []
        for slot in self.staff.slots.values():
            keys = [key for key in slot.given if key[0] == run]
            if not keys:
                continue
            if slot.is_async:
                for key in keys:
                    effects += self._cancel(slot, slot.given[key], key, "closed", now)
            elif slot.verdict is None:
                effects.append(self.staff.dismiss(slot, "closed"))
        return effects

    def end_overgrown(self, sample: MemorySampled, factor: float) -> list[NodeEffect]:
        """End workers that have more memory than they may."""
        effects: list[NodeEffect] = []
        for slot, reason in overgrown(self.staff.slots.values(), sample, factor):
            slot.reason = reason
            effects.append(self.staff.dismiss(slot, "memory"))
        return effects

    # --- What to do next ----------------------------------------------------------------------------------------

    def fill(self, now: float, *, may_start: bool = True) -> list[NodeEffect]:
        """Give out what can start."""
        effects: list[NodeEffect] = [*self.staff.keep_strength(now)]
        if not may_start or not self.queue.waiting_runs:
            return effects
        starved = self._most_starved(now) if self._blocked else None
        effects += self._refill(starved, now)
        while self.queue.waiting_runs and self._start_one(starved, now, effects):
            pass
        if self.queue.is_of_one_lane and not self.staff.starting:
            effects += self._refill(starved, now, is_ahead=True)
        return effects

    def wake(self, now: float) -> list[NodeEffect]:
        """Act on time limits, on silence and on idleness."""
        effects: list[NodeEffect] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, worker, run, index, attempt = heappop(self._deadlines)
            effects += self._time_is_up(worker, (run, index), attempt, now)
        for slot in self.staff.slots.values():
            if slot.may_be_stuck and now >= self._recalls_at(slot):
                slot.recalled = True
                effects.append(RecallWorker(slot.worker))
        effects += self.staff.dismiss_idle(now)
        return effects

    @property
    def wake_at(self) -> float | None:
        """The next time limit, silence or idleness to look at."""
        times = [self._deadlines[0][0]] if self._deadlines else []
        times += [self._recalls_at(slot) for slot in self.staff.slots.values() if slot.may_be_stuck]
        staff = self.staff.wake_at
        if staff is not None:
            times.append(staff)
        return min(times, default=None)

    def _recalls_at(self, slot: Slot) -> float:
        is_wanted = bool(self.staff.idle) and slot.lane is not None and self.ledger.fits(slot.lane.cost)
        return slot.recalls_at(is_wanted=is_wanted)

    def load(self) -> tuple[int, int]:
        """How many jobs run, and how many wait."""
        running = queued = 0
        for slot in self.staff.slots.values():
            now_running = len(slot.given) if slot.is_async else min(1, len(slot.given))
            running += now_running
            queued += len(slot.given) - now_running
        return running, queued + len(self.queue)

    def check(self) -> None:
        """Assert every invariant."""
        self.ledger.check()
        self.queue.check()
        staying = [slot for slot in self.staff.slots.values() if not slot.is_async and slot.verdict is None]
        assert self.staff.strength == len(staying), "the staff is miscounted"
        for slot in self.staff.slots.values():
            assert slot.is_async or len({key[0] for key in slot.given}) <= 1, (
                "a sync worker serves one run at a time"
            )
            assert slot.is_async or slot.given or slot.claim is None, "an idle worker holds a claim"
            assert slot.worker not in self.staff.idle or not slot.given, "an idle worker holds a job"
        claims = sum(slot.claim is not None for slot in self.staff.slots.values())
        claims += sum(
            given.claim is not None for slot in self.staff.slots.values() for given in slot.given.values()
        )
        assert claims == len(self.ledger), (
            f"{claims} claims are accounted for, the ledger has {len(self.ledger)}"
        )

    # --- Starting -----------------------------------------------------------------------------------------------

    def _start_one(self, starved: Lane | None, now: float, effects: list[NodeEffect]) -> bool:
        for run in self.queue.turns():
            for lane in self.queue.lanes(run):
                if _may_go_before(starved, lane) and self._start_lane(lane, now, effects):
                    self.queue.had_its_turn(lane)
                    return True
        return False

    def _start_lane(self, lane: Lane, now: float, effects: list[NodeEffect]) -> bool:
        if lane.cost and not self.ledger.fits(lane.cost):
            if lane.blocked_since is None:
                lane.blocked_since = now
                self._blocked[lane] = None
            return False
        started = (
            self._start_async(lane, now, effects) if lane.is_async else self._start_sync(lane, now, effects)
        )
        if started:
            lane.blocked_since = None
        return started

    def _start_sync(self, lane: Lane, now: float, effects: list[NodeEffect]) -> bool:
        devices = self.ledger.devices_for(lane.cost) if GPU in lane.cost else None
        slot = self.staff.pick_idle(devices)
        if slot is None:
            self._make_room(lane, devices, effects)
            return False
        del self.staff.idle[slot.worker]
        slot.lane, slot.lent_at, slot.heard_at = lane, now, now
        slot.used_before_nbytes = slot.used_nbytes
        slot.claim = self.ledger.claim(lane.cost) if lane.cost else None
        if devices is not None:
            slot.devices = devices
        self._give(slot, lane, now, effects)
        return True

    def _start_async(self, lane: Lane, now: float, effects: list[NodeEffect]) -> bool:
        slot = self.staff.async_slot()
        if slot is None:
            if self.staff.may_hire:
                effects.append(self.staff.hire(is_async=True))
            return False
        if slot.pid is None:
            return False
        jobs: list[Job] = []
        while lane.jobs and len(slot.given) < MAX_COROUTINES and self.ledger.fits(lane.cost):
            job = lane.jobs.popleft()
            claim = self.ledger.claim(lane.cost) if lane.cost else None
            slot.given[lane.run, job.index] = Given(job, lane, claim)
            self._set_deadline(slot, lane, job, now)
            jobs.append(job)
            if claim is not None and claim.devices:
                # Coroutines share one environment, so each set of devices goes out on its own.
                break
        if jobs:
            devices = claim.devices if claim is not None and claim.devices else None
            effects.append(Give(slot.worker, lane.run, self.templates[lane.run], jobs, devices))
        return bool(jobs)

    def _give(self, slot: Slot, lane: Lane, now: float, effects: list[NodeEffect]) -> None:
        sharers = 1 + len(self.staff.idle)
        count = max(1, min(lane.depth - len(slot.given), -(-len(lane.jobs) // sharers)))
        jobs = [lane.jobs.popleft() for _ in range(min(count, len(lane.jobs)))]
        for job in jobs:
            head = job if job.then else None
            slot.given[lane.run, job.index] = Given(job, lane, None, head)
            for member in job.then:
                slot.given[lane.run, member.index] = Given(member, lane, None, head)
            self._set_deadline(slot, lane, job, now)
        devices = slot.claim.devices if slot.claim is not None and GPU in slot.claim.amounts else None
        effects.append(Give(slot.worker, lane.run, self.templates[lane.run], jobs, devices))

    def _refill(self, starved: Lane | None, now: float, *, is_ahead: bool = False) -> list[NodeEffect]:
        """Give workers that are about to run dry more of the same, under the claim that they hold."""
        effects: list[NodeEffect] = []
        for slot in self.staff.slots.values():
            lane = slot.lane
            if lane is None or not lane.jobs or not slot.given or slot.verdict:
                continue
            if slot.recalled or slot.is_held_up:
                continue
            its_turn = self.queue.waiting_runs == 1 or now - slot.lent_at < TURN_S
            least = 1 if is_ahead and lane.is_brief else lane.depth // 2
            if its_turn and _may_go_before(starved, lane) and len(slot.given) <= least:
                self._give(slot, lane, now, effects)
                if not lane.jobs:
                    self.queue.had_its_turn(lane)
        return effects

    def _make_room(self, lane: Lane, devices: tuple[int, ...] | None, effects: list[NodeEffect]) -> None:
        """Start workers where claims leave room that no worker can use."""
        if not lane.cost:
            return
        if devices is not None and self.staff.idle and not self.staff.starting:
            # Those that are free are bound to other devices, and none that is not is on its way.
            effects.append(self.staff.dismiss(self.staff.slots[next(iter(self.staff.idle))], "idle"))
        effects += self.staff.hire_for(self.ledger.how_many_fit(lane.cost, len(lane.jobs)))

    def _most_starved(self, now: float) -> Lane | None:
        self._blocked = {lane: None for lane in self._blocked if lane.jobs and lane.blocked_since is not None}
        starved = [
            lane
            for lane in self._blocked
            if now - (lane.blocked_since or now) > STARVED_S and self.ledger.could_ever_hold(lane.cost)
        ]
        return min(starved, key=lambda lane: lane.blocked_since or 0.0, default=None)

    # --- Ending -------------------------------------------------------------------------------------------------

    def _take_from(self, slot: Slot, key: Key) -> None:
        given = slot.given.pop(key)
        if given.claim is not None:
            self.ledger.release(given.claim)

    def _heard(self, slot: Slot, now: float) -> None:
        slot.heard_at = now
        if slot.given or slot.is_async:
            return
        if slot.claim is not None:
            self.ledger.release(slot.claim)
            slot.claim = None
        slot.lane = None
        slot.recalled = slot.is_held_up = False
        self.staff.set_free(slot, now)

    def _queue_again(self, run: RunId, given: Given, *, suspect: bool) -> None:
        template = self.templates[run][given.job.template]
        lane = self.queue.lane(run, template, suspect=suspect or given.lane.suspect)
        self.queue.put_back(lane, [given.job])

    def _set_deadline(self, slot: Slot, lane: Lane, job: Job, now: float) -> None:
        if lane.timeout is not None:
            heappush(self._deadlines, (now + lane.timeout, slot.worker, lane.run, job.index, job.attempt))

    def _time_is_up(self, worker: WorkerId, key: Key, attempt: Attempt, now: float) -> list[NodeEffect]:
        slot = self.staff.slots.get(worker)
        given = slot.given.get(key) if slot else None
        if slot is None or given is None or given.job.attempt != attempt or slot.verdict is not None:
            return []
        if not slot.is_async:
            return [self.staff.dismiss(slot, "timeout")]
        if given.verdict is None:
            return self._cancel(slot, given, key, "timeout", now)
        # It was cancelled and did not stop: it takes its worker with it, the other coroutines start again.
        return [self.staff.dismiss(slot, "closed")]

    def _cancel(self, slot: Slot, given: Given, key: Key, verdict: str, now: float) -> list[NodeEffect]:
        if given.verdict is not None:
            return []
        given.verdict = verdict
        heappush(self._deadlines, (now + CANCEL_GRACE_S, slot.worker, key[0], key[1], given.job.attempt))
        return [CancelCoroutine(slot.worker, key[0], key[1], given.job.attempt)]


def _may_go_before(starved: Lane | None, lane: Lane) -> bool:
    """Whether a lane takes nothing from the one that has waited for too long."""
    return starved is None or lane is starved or lane.cost.keys().isdisjoint(starved.cost)
