"""The number of workers of a node: the usual one, more while claims leave room unused, and replacements for those that died.

There are as many sync workers as whole cores; where claims of fractions, or of other things than cores, would leave
room unused, more are started, and killed again once they have been idle for a while. So are workers in place of those
whose functions wait for nested runs. A worker that runs a stage of a stream is none of these, and is replaced at once: there
may be more stages than cores, and nobody knows when one ends.
"""

from handoff_actors.core.node.events import KillWorker, SpawnWorker
from handoff_actors.core.node.scheduling.worker_state import HeldJob, KillReason, WorkerState
from handoff_actors.ids import Attempt, Index, Resources, RunId, WorkerId

#: Workers beyond the usual number end after so long without work.
IDLE_S = 5.0
#: Waits between attempts to start a worker where they end before they are up.
FIRST_RESPAWN_S = 0.1
LAST_RESPAWN_S = 5.0

AttemptKey = tuple[RunId, Index, Attempt]


class WorkerRoster:
    """The workers of a node, and which of them are idle."""

    def __init__(self, usual: int, most: int) -> None:
        self.workers: dict[WorkerId, WorkerState] = {}
        self.usual = usual
        #: Sync workers that are running or starting, are not being killed, run no stage, and don't lend their slots.
        self.size = 0
        #: Sync workers that lend their slots and are not being killed, and how many of these slots others may have.
        self.lent = 0
        self.most_lent = 0
        #: Sync workers that there may be at most.
        self.most = most
        #: Idle sync workers, and since when.
        self.idle: dict[WorkerId, float] = {}
        #: The workers that run stages, by attempt: one of them may be ending while the next runs elsewhere.
        self.stages: dict[AttemptKey, WorkerState] = {}
        #: Async workers that get no more jobs, and end with those that they have.
        self.retiring: list[WorkerState] = []
        self._next_worker = 1
        self._failed_starts = 0
        self._respawn_at: float | None = None

    @property
    def starting(self) -> int:
        """The number of sync workers that are starting."""
        return sum(state.pid is None and not state.is_async for state in self.workers.values())

    @property
    def wake_at(self) -> float | None:
        """The time at which a worker has been idle for too long, or may be started again."""
        times = [] if self._respawn_at is None else [self._respawn_at]
        if self.idle and self.size > self.usual:
            times += [since + IDLE_S for _, since in self._without_objects()]
        return min(times, default=None)

    def spawn(self, *, is_async: bool) -> SpawnWorker:
        """Start one more worker."""
        worker = WorkerId(self._next_worker)
        self._next_worker += 1
        self.workers[worker] = WorkerState(worker, is_async)
        self.size += not is_async
        return SpawnWorker(worker, is_async)

    def spawn_for(self, wanted: int, *, have_claims: bool) -> list[SpawnWorker]:
        """Start enough workers for `wanted` more jobs, up to the maximum; for jobs without claims, up to the usual number."""
        if self._respawn_at is not None:
            return []
        most = (self.most if have_claims else self.usual) - max(0, self.lent - self.most_lent)
        count = min(most - self.size, wanted - self.starting)
        return [self.spawn(is_async=False) for _ in range(count)]

    def spawn_for_stages(self, wanted: int) -> list[SpawnWorker]:
        """Start enough workers for so many stages, which take none of the usual ones in the end."""
        if self._respawn_at is not None:
            return []
        count = min(self.most - self.size, wanted - self.starting)
        return [self.spawn(is_async=False) for _ in range(count)]

    def keep_size(self, now: float) -> list[SpawnWorker]:
        """Replace workers that are gone, unless this is the pause after failed starts."""
        if self._respawn_at is not None and now >= self._respawn_at:
            self._respawn_at = None
        missing = self.usual - self.size - self.lent
        if missing <= 0 or self._respawn_at is not None:
            return []
        return [self.spawn(is_async=False) for _ in range(missing)]

    def started(self, worker: WorkerId, pid: int, now: float) -> None:
        """Note that a worker is ready."""
        state = self.workers[worker]
        state.pid, state.last_message_at = pid, now
        self._failed_starts = 0
        self.set_free(state, now)

    def set_free(self, state: WorkerState, now: float) -> None:
        """Note that a worker is idle."""
        if not state.is_async and state.verdict is None:
            self.idle[state.worker] = now

    def left(self, worker: WorkerId, now: float) -> WorkerState:
        """Remove a worker that has ended."""
        state = self.workers.pop(worker)
        if state.is_retiring:
            self.retiring = [other for other in self.retiring if other is not state]
        self._leave_out(state)
        self.idle.pop(worker, None)
        if state.runs_stage:
            self.stages = {key: other for key, other in self.stages.items() if other is not state}
        if state.pid is None:
            self._failed_starts += 1
            self._respawn_at = now + min(LAST_RESPAWN_S, FIRST_RESPAWN_S * 2 ** (self._failed_starts - 1))
        return state

    def kill(self, state: WorkerState, verdict: KillReason) -> KillWorker:
        """Kill a worker, whatever it does."""
        self._leave_out(state)
        state.verdict = verdict
        self.idle.pop(state.worker, None)
        return KillWorker(state.worker)

    def lend_slot(self, state: WorkerState) -> None:
        """Let another worker run in place of a sync worker, whose job waits."""
        if state.verdict is None and not state.runs_stage:
            self.size, self.lent = self.size - 1, self.lent + 1

    def take_slot_back(self, state: WorkerState) -> None:
        """Count a worker again. If there are more than usual now, some end once they have been idle for a while."""
        if state.verdict is None and not state.runs_stage:
            self.size, self.lent = self.size + 1, self.lent - 1

    def begin_stage(self, state: WorkerState) -> None:
        """Have another worker take the place of a sync worker that runs a stage from now on."""
        state.runs_stage = True
        [(key, held)] = state.held.items()
        self.stages[*key, held.job.attempt] = state
        self.size -= 1

    def end_stage(self, state: WorkerState, key: AttemptKey) -> None:
        """Count a worker again, as `take_slot_back` does."""
        state.runs_stage = False
        del self.stages[key]
        self.size += state.verdict is None

    def _leave_out(self, state: WorkerState) -> None:
        """Count a worker no more that ends or has ended, unless that was done when it was killed."""
        if state.verdict is None and not state.is_async and not state.runs_stage:
            self.size, self.lent = self.size - (not state.lends_slot), self.lent - state.lends_slot

    def retire(self, state: WorkerState) -> list[KillWorker]:
        """Give a worker no more jobs: kill a sync worker, whose jobs have not started, or an idle one, and any other later."""
        if state.verdict is not None or state.is_retiring:
            return []
        state.is_retiring = True
        if state.held and state.is_async:
            self.retiring.append(state)
            return []
        return [self.kill(state, "retired")]

    def retire_if_replaced(self, state: WorkerState) -> None:
        """Give an async worker no more jobs if there is another one."""
        if len(self.async_workers()) > 1:
            state.is_retiring = True
            self.retiring.append(state)

    def kill_retired(self) -> list[KillWorker]:
        """Kill retiring workers that have nothing to do any more."""
        ready = [state for state in self.retiring if not state.held or state.verdict is not None]
        if not ready:
            return []
        self.retiring = [state for state in self.retiring if state not in ready]
        return [self.kill(state, "retired") for state in ready if state.verdict is None]

    def kill_idle(self, now: float) -> list[KillWorker]:
        """Kill workers beyond the usual number that have been idle for a while, and keep no objects."""
        long_idle = [state for state, since in self._without_objects() if now >= since + IDLE_S]
        surplus = max(0, self.size - self.usual)
        return [self.kill(state, "idle") for state in long_idle[:surplus]]

    def _without_objects(self) -> list[tuple[WorkerState, float]]:
        idle = ((self.workers[worker], since) for worker, since in self.idle.items())
        return [(state, since) for state, since in idle if not state.warm]

    def pick_idle(self, devices: tuple[int, ...] | None) -> WorkerState | None:
        """Return an idle sync worker that may use `devices`: bound to just these, or to none yet.

        The first one that was started: where few are needed it is always the same, with its imports and its heap. Those
        that keep objects come last.
        """
        warm: WorkerState | None = None
        for worker in sorted(self.idle):
            state = self.workers[worker]
            if devices is None or state.devices is None or state.devices == devices:
                if not state.warm:
                    return state
                warm = warm or state
        return warm

    def async_worker(self) -> WorkerState | None:
        """The async worker, unless there is none, it is to end, or a coroutine may hold up its event loop."""
        return next(iter(self.async_workers()), None)

    def async_workers(self) -> list[WorkerState]:
        """The workers that may be given coroutines; more than one only for a while, after the loop of one was held up."""
        return [
            state
            for state in self.workers.values()
            if state.is_async and state.verdict is None and not (state.is_retiring or state.loop_holders)
        ]

    @property
    def may_spawn(self) -> bool:
        """True unless starting a worker has just failed."""
        return self._respawn_at is None

    def claimed_by_others(self, run: RunId) -> Resources:
        """The sum of the claims of all runs but one."""
        others: Resources = {}
        for state in self.workers.values():
            claims = [state.claim] if state.claim and state.lane and state.lane.run != run else []
            claims += [held.claim for key, held in state.held.items() if held.claim and key[0] != run]
            for claim in claims:
                for resource, amount in claim.amounts.items():
                    others[resource] = others.get(resource, 0.0) + amount
        return others

    def held(self, run: RunId, index: Index) -> HeldJob | None:
        """Find the job of a function that some worker holds."""
        jobs = (state.held.get((run, index)) for state in self.workers.values())
        return next(filter(None, jobs), None)

    def load(self) -> tuple[int, int]:
        """The number of jobs that run, and of those that wait in workers."""
        running = waiting = 0
        for state in self.workers.values():
            now_running = len(state.held) if state.is_async else min(1, len(state.held))
            running += now_running
            waiting += len(state.held) - now_running
        return running, waiting

    def busy(self) -> int:
        """The number of sync jobs and fused groups that workers hold, without stages and those that lend their slots."""
        workers = [state for state in self.workers.values() if not (state.is_async or state.runs_stage)]
        return sum(state.held_groups() for state in workers) - self.lent

    def count_claims(self) -> int:
        """The number of claims that jobs hold."""
        claims = sum(state.claim is not None for state in self.workers.values())
        held = (held for state in self.workers.values() for held in state.held.values())
        return claims + sum(one.claim is not None for one in held)

    def check(self) -> None:
        """Assert that the sums are right."""
        staying = [
            state
            for state in self.workers.values()
            if not (state.is_async or state.runs_stage) and state.verdict is None
        ]
        stages = {
            (*key, held.job.attempt): state
            for state in self.workers.values()
            for key, held in state.held.items()
            if state.runs_stage
        }
        assert stages == self.stages, "other workers run stages"
        lent = [state for state in staying if state.lends_slot]
        assert (self.size, self.lent) == (len(staying) - len(lent), len(lent)), "the workers are miscounted"
        for state in self.workers.values():
            waiting = [held for held in state.held.values() if held.nested_runs]
            assert state.waiting == len(waiting), "jobs that wait are miscounted"
            assert state.loop_holders == sum(held.loop_holders for held in waiting), "a loop is not held up"
            assert state.is_async or len({key[0] for key in state.held}) <= 1, (
                "a sync worker serves one run at a time"
            )
            assert state.is_async or state.held or state.claim is None, "an idle worker holds a claim"
            assert state.worker not in self.idle or not state.held, "an idle worker holds a job"

    def has(self, run: RunId) -> bool:
        """True if some worker holds a job of a run."""
        return any(key[0] == run for state in self.workers.values() for key in state.held)
