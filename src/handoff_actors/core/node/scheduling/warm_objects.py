"""The objects of `per_worker` in a node's workers: who has them, what they claim, and which of them go.

A job that needs an object runs on a worker that has it, or makes it first. Its claim is held as long as the worker has it,
beside the claims of the jobs. The node ends a worker to be rid of its objects, as nothing else gives back memory of the
machine, or of a GPU, for certain: once each of them has been unused for as long as it is to stay, or where a job could
start only if their claims were released, those unused for longest first. A worker with a job keeps all that it has.
"""

from collections.abc import Sequence

from handoff_actors.core.node.events import KillWorker
from handoff_actors.core.node.scheduling.fair_queue import JobLane
from handoff_actors.core.node.scheduling.warm_copy import WarmCopy, WarmNeed
from handoff_actors.core.node.scheduling.worker_roster import WorkerRoster
from handoff_actors.core.node.scheduling.worker_state import WorkerState
from handoff_actors.core.resources import GPU, Claim, ResourceLedger, summed
from handoff_actors.ids import Resources, RunId, WorkerId
from handoff_actors.wire.messages.members import MOST_WARM, WarmCopies


class WarmObjects:
    """The objects in the workers of one node."""

    def __init__(self, ledger: ResourceLedger, roster: WorkerRoster) -> None:
        self._ledger = ledger
        self._roster = roster
        #: The workers that have some.
        self._workers: dict[WorkerId, WorkerState] = {}

    def __bool__(self) -> bool:
        return bool(self._workers)

    # --- Jobs that need them ------------------------------------------------------------------------------------

    def lend(self, lane: JobLane, now: float) -> WorkerState | None:
        """Claim what a job of a sync lane needs on an idle worker, the one that lacks least; None if there is no room."""
        for state in self._by_lack(lane):
            claims = self._claim(state, lane, lane.cost)
            if claims is not None:
                state.claim = claims.pop() if lane.cost else None
                self._add(state, lane, claims, now)
                devices = self.devices(state, lane, state.claim)
                state.devices = state.devices if devices is None else devices
                return state
        return None

    def have(self, state: WorkerState, lane: JobLane, now: float) -> bool:
        """Claim the objects that the async worker lacks for a lane. False if there is no room for them and one of its jobs."""
        claims = self._claim(state, lane, lane.cost)
        if claims is None:
            return False
        if lane.cost:
            # Each of its jobs has its own.
            self._ledger.release(claims.pop())
        self._add(state, lane, claims, now)
        return True

    def ended(self, state: WorkerState, lane: JobLane, now: float) -> None:
        """Note that a job of a lane has ended on a worker. An object that could not be made for it is there no more."""
        for need in lane.warm:
            copy = state.warm.get(need.key)
            if copy is None or state.is_using(need.key):
                continue
            if copy.nbytes is None:
                self._release(state, need.key)
            copy.used_at = now

    def made(self, worker: WorkerId, key: bytes, nbytes: int) -> None:
        """Note that a worker has made an object."""
        state = self._workers.get(worker)
        if state is not None and key in state.warm:
            state.warm[key].nbytes = nbytes

    def left(self, state: WorkerState) -> None:
        """Release what the objects of a worker that has ended claim."""
        for key in list(state.warm):
            self._release(state, key)

    def devices(self, state: WorkerState, lane: JobLane, claim: Claim | None) -> tuple[int, ...] | None:
        """The GPUs of a job of a lane under this claim, and of the objects that it needs; None: it has no claim on any."""
        if not lane.warm:
            return None if claim is None or GPU not in claim.amounts else tuple(sorted(set(claim.devices)))
        copies = [state.warm[need.key].claim for need in lane.warm if need.key in state.warm]
        claims = [held for held in (claim, *copies) if held is not None and GPU in held.amounts]
        return tuple(sorted({device for held in claims for device in held.devices})) if claims else None

    # --- Which of them go ---------------------------------------------------------------------------------------

    def make_room_for(self, lane: JobLane) -> list[KillWorker]:
        """End workers with unused objects for whose claims a lane waits, if it can start then."""
        if not self._workers:
            return []
        # Best with what it needs where that is; else with nothing kept.
        for kept in [*self._by_lack(lane)[:1], None]:
            lacking = lane.warm if kept is None else _lacking(kept, lane)
            costs = [cost for cost in (*(need.cost for need in lacking), lane.cost) if cost]
            victims = self._victims(costs, kept)
            if victims is not None:
                return [self._roster.kill(state, "idle") for state in victims]
        return []

    def give_up_longest_unused(self) -> list[KillWorker]:
        """End the worker whose objects have been unused for longest, unless one is ending already."""
        unused = [] if any(map(_is_ending, self._workers.values())) else self._unused()
        return [self._roster.kill(state, "idle") for state in unused[:1]]

    def wake(self, now: float) -> list[KillWorker]:
        """End the workers whose objects have been unused for as long as they are to stay."""
        effects: list[KillWorker] = []
        for state in list(self._workers.values()):
            due_at = _due_at(state)
            if due_at is not None and now >= due_at:
                effects += (
                    [self._roster.kill(state, "idle")] if not state.held else self._roster.retire(state)
                )
        return effects

    @property
    def wake_at(self) -> float | None:
        """The time at which the next worker is to end."""
        if not self._workers:
            # Most nodes have no such objects, and are asked this after each event.
            return None
        times = (_due_at(state) for state in self._workers.values())
        return min((time for time in times if time is not None), default=None)

    # --- Questions ----------------------------------------------------------------------------------------------

    def unused_claims(self) -> list[Claim]:
        """The claims that are released as soon as somebody needs them."""
        return [claim for state in self._unused() for claim in _claims(state)]

    def claimed(self) -> Resources:
        """The claims of the node but for those of objects that no job uses."""
        if not self._workers:
            return self._ledger.claimed
        unused = summed(*(claim.amounts for claim in self.unused_claims()))
        return {
            resource: max(0.0, amount - unused.get(resource, 0.0))
            for resource, amount in self._ledger.claimed.items()
        }

    def spare(self) -> Resources:
        """The resources that are spare once objects that no job uses are gone."""
        if not self._workers:
            return self._ledger.spare()
        claimed = self.claimed()
        return {
            resource: max(0.0, total - claimed.get(resource, 0.0))
            for resource, total in self._ledger.totals.items()
        }

    def claimed_by_others(self, run: RunId) -> Resources:
        """The sum of the claims of all runs but one, and of the objects that it doesn't use in workers with jobs."""
        claims: list[Claim] = []
        for state in self._workers.values():
            if state.held:
                used = {
                    need.key for key, held in state.held.items() if key[0] == run for need in held.lane.warm
                }
                claims += [copy.claim for key, copy in state.warm.items() if copy.claim and key not in used]
        return summed(self._roster.claimed_by_others(run), *(claim.amounts for claim in claims))

    def copies(self) -> list[WarmCopies]:
        """The objects that are there, the one used last first, as many as an advert names."""
        by_key: dict[bytes, list[WarmCopy]] = {}
        for state in self._workers.values():
            for key, copy in {} if _is_ending(state) else state.warm.items():
                by_key.setdefault(key, []).append(copy)
        used = sorted(by_key.values(), key=lambda copies: -max(copy.used_at for copy in copies))
        return [
            WarmCopies(
                copies[0].need.key,
                copies[0].need.name,
                len(copies),
                sum(copy.nbytes or 0 for copy in copies),
            )
            for copies in used[:MOST_WARM]
        ]

    def count_claims(self) -> int:
        """The number of claims that objects hold."""
        return sum(len(_claims(state)) for state in self._workers.values())

    def check(self) -> None:
        """Assert that all workers with objects are known, and that what jobs need is there."""
        for worker, state in self._roster.workers.items():
            assert bool(state.warm) == (worker in self._workers), (
                f"objects of worker {worker} are not accounted for"
            )
            for held in state.held.values():
                assert all(need.key in state.warm for need in held.lane.warm), (
                    f"worker {worker} lacks an object"
                )

    # --- Within -------------------------------------------------------------------------------------------------

    def _by_lack(self, lane: JobLane) -> list[WorkerState]:
        """The idle workers: those that lack few objects of a lane first, then those that keep few others."""
        if lane.is_async:
            state = self._roster.async_worker()
            return [state] if state is not None else []
        idle = [self._roster.workers[worker] for worker in sorted(self._roster.idle)]
        return (
            sorted(idle, key=lambda state: (len(_lacking(state, lane)), len(state.warm)))
            if lane.warm
            else idle
        )

    def _claim(self, state: WorkerState, lane: JobLane, cost: Resources) -> list[Claim] | None:
        """Claim the objects of a lane that a worker lacks, and a cost behind them, if all fit and the worker may use the GPUs."""
        costs = [need.cost for need in _lacking(state, lane) if need.cost]
        claims = self._ledger.claim_all([*costs, cost] if cost else costs)
        if claims is None or lane.is_async or state.devices is None:
            return claims
        present = self.devices(state, lane, None) or ()
        devices = {*present, *(device for claim in claims for device in claim.devices)}
        if not devices or tuple(sorted(devices)) == state.devices:
            return claims
        for claim in claims:
            self._ledger.release(claim)
        return None

    def _add(self, state: WorkerState, lane: JobLane, claims: Sequence[Claim], now: float) -> None:
        made = iter(claims)
        for need in _lacking(state, lane):
            state.warm[need.key] = WarmCopy(need, next(made) if need.cost else None, now)
        for need in lane.warm:
            state.warm[need.key].used_at = now
        self._workers[state.worker] = state

    def _release(self, state: WorkerState, key: bytes) -> None:
        copy = state.warm.pop(key)
        if copy.claim is not None:
            self._ledger.release(copy.claim)
        if not state.warm:
            del self._workers[state.worker]

    def _unused(self) -> list[WorkerState]:
        """The workers without a job and with objects, those that have had none for longest first."""
        unused = [state for state in self._workers.values() if not (state.held or _is_ending(state))]
        return sorted(unused, key=_used_at)

    def _victims(self, costs: Sequence[Resources], kept: WorkerState | None) -> list[WorkerState] | None:
        """The workers to end so that these costs fit, none where some that are ending will do; None: they don't fit then."""
        released = [
            claim for state in self._workers.values() if _is_ending(state) for claim in _claims(state)
        ]
        victims: list[WorkerState] = []
        if released and self._ledger.would_fit(costs, released):
            return victims
        wanted = summed(*costs).keys()
        for state in self._unused():
            claims = _claims(state)
            if state is kept or wanted.isdisjoint(summed(*(claim.amounts for claim in claims))):
                continue
            victims.append(state)
            released += claims
            if self._ledger.would_fit(costs, released):
                return victims
        return None


def _lacking(state: WorkerState, lane: JobLane) -> list[WarmNeed]:
    return [need for need in lane.warm if need.key not in state.warm]


def _claims(state: WorkerState) -> list[Claim]:
    return [copy.claim for copy in state.warm.values() if copy.claim is not None]


def _used_at(state: WorkerState) -> float:
    return max(copy.used_at for copy in state.warm.values())


def _is_ending(state: WorkerState) -> bool:
    return state.verdict is not None or state.is_retiring


def _due_at(state: WorkerState) -> float | None:
    """The time at which all objects of a worker have been unused for long enough; None while one is used."""
    if _is_ending(state) or (state.held and not state.is_async) or any(map(state.is_using, state.warm)):
        return None
    return max(copy.used_at + copy.need.idle_s for copy in state.warm.values())
