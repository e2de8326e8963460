"""Functions that wait for nested runs: they lend their slots and their cpu to others, and take them back before queued work.

A function that waits uses no core, and what it waits for may need one. So its claim goes on without its cpu, and another
sync worker may run in place of its own. What else it claims it still holds: its memory and devices are in use. Once it goes
on, claims may exceed the node's cores: nothing starts then until enough functions have ended.

A coroutine may wait in a way that holds up its event loop, and with it all coroutines of its worker. Meanwhile further ones
run in another async worker.
"""

from typing import Final

from handoff_actors.core.node.events import (
    KillWorker,
    NestedWaitBegan,
    NestedWaitEnded,
    SpawnWorker,
    WorkersSampled,
)
from handoff_actors.core.node.scheduling.fair_queue import JobLane
from handoff_actors.core.node.scheduling.memory_guard import SHORT_SHARE
from handoff_actors.core.node.scheduling.worker_roster import WorkerRoster
from handoff_actors.core.node.scheduling.worker_state import HeldJob, WorkerState
from handoff_actors.core.resources import Claim, ResourceLedger
from handoff_actors.ids import Resources

#: Memory in MB of a worker whose function waits, beside what it shares with others: 12 to 30, by the modules that it imports.
WAITING_MB: Final = 32
#: The slots that are lent at most where a node offers no memory.
MOST_LENT: Final = 256
MEMORY: Final = "memory"


class Lending:
    """Lends and takes back, for the jobs that workers hold."""

    def __init__(self, ledger: ResourceLedger, roster: WorkerRoster) -> None:
        self._ledger = ledger
        self._roster = roster
        self._is_memory_short = False

    def handle(self, event: NestedWaitBegan | NestedWaitEnded) -> None:
        """Lend what a job does not need while it waits, and take it back once it waits for no run any more."""
        if isinstance(event, NestedWaitBegan):
            self._began(event)
        else:
            self._ended(event)

    def _began(self, event: NestedWaitBegan) -> None:
        for state, held in self._holders(event):
            held.nested_runs += 1
            held.loop_holders += event.may_hold_up_loop
            state.loop_holders += event.may_hold_up_loop
            if held.nested_runs == 1:
                self._lend(state, held)

    def _ended(self, event: NestedWaitEnded) -> None:
        for state, held in self._holders(event):
            if held.nested_runs == 1:
                self.take_back(state, held)
            elif held.nested_runs:
                held.nested_runs -= 1
                self._free_loop(state, held, min(held.loop_holders, event.may_hold_up_loop))

    def take_back(self, state: WorkerState, held: HeldJob) -> None:
        """Take back all that a job has lent: it goes on, or has ended."""
        held.nested_runs = 0
        self._free_loop(state, held, held.loop_holders)
        state.waiting -= 1
        if state.is_async:
            held.claim = self._whole(held.claim)
        elif not state.waiting:
            state.claim = self._whole(state.claim)
            self._roster.take_slot_back(state)

    def sampled(self, sample: WorkersSampled) -> None:
        """Take note of the memory of the machine."""
        self._is_memory_short = sample.available_nbytes < 2 * SHORT_SHARE * sample.total_nbytes

    def make_room(self, lane: JobLane, devices: tuple[int, ...] | None) -> list[KillWorker | SpawnWorker]:
        """Start workers where claims leave room that no idle worker can use, slots are lent, or stages wait."""
        roster, effects = self._roster, list[KillWorker | SpawnWorker]()
        bound = None if devices is None or roster.starting else roster.pick_idle(None)
        if bound is not None and (not bound.warm or roster.size >= roster.most):
            # All idle ones are bound to other devices, and no unbound one is starting.
            effects.append(roster.kill(bound, "idle"))
        if lane.is_stage:
            return [*effects, *roster.spawn_for_stages(self._ledger.how_many_fit(lane.needs, len(lane.jobs)))]
        # What is claimed for objects alone asks for no more copies of them than there are usual workers.
        most = len(lane.jobs) if lane.cost or roster.lent else int(bound is not None)
        return [*effects, *self.spawn_for(lane.needs, most)]

    def spawn_for(self, cost: Resources, jobs: int) -> list[SpawnWorker]:
        """Start workers for jobs that claim `cost`, as far as that fits and as slots are free or lent."""
        if self._roster.lent:
            self.limit()
        elif not cost:
            # The usual workers are replaced in any case.
            return []
        return self._roster.spawn_for(self._ledger.how_many_fit(cost, jobs), have_claims=bool(cost))

    def limit(self) -> None:
        """Set the number of slots that may be lent: each costs the memory of a process."""
        roster, ledger = self._roster, self._ledger
        if self._is_memory_short:
            roster.most_lent = min(roster.most_lent, roster.lent)
        elif MEMORY in ledger.totals:
            roster.most_lent = int(ledger.spare()[MEMORY] // WAITING_MB)
        else:
            roster.most_lent = MOST_LENT

    def _holders(self, event: NestedWaitBegan | NestedWaitEnded) -> list[tuple[WorkerState, HeldJob]]:
        """The worker that holds a job; none if the job has ended meanwhile."""
        held = ((state, state.held.get((event.run, event.index))) for state in self._roster.workers.values())
        return [(state, job) for state, job in held if job is not None and job.job.attempt == event.attempt]

    def _lend(self, state: WorkerState, held: HeldJob) -> None:
        state.waiting += 1
        if state.is_async:
            held.claim = self._rest(held.claim)
        elif state.waiting == 1:
            # A fork of the function before it may wait still, while the end of that is yet to be reported.
            state.claim = self._rest(state.claim)
            self._roster.lend_slot(state)

    def _rest(self, claim: Claim | None) -> Claim | None:
        return None if claim is None else self._ledger.lend_cpu(claim)

    def _whole(self, claim: Claim | None) -> Claim | None:
        return None if claim is None else self._ledger.take_back(claim)

    def _free_loop(self, state: WorkerState, held: HeldJob, runs: int) -> None:
        """Note that so many runs can't hold up an event loop any more."""
        held.loop_holders -= runs
        state.loop_holders -= runs
        if runs and not state.loop_holders:
            self._roster.retire_if_replaced(state)
