"""How many workers a node has: the usual number, more while claims leave room unused, new ones for those that died.

There are as many sync workers as whole cores; where claims of fractions, or of other things than cores, would leave
room that nobody uses, more are started, and end again once they have been idle for a while.
"""

from handoff_actors.core.node.events import KillWorker, SpawnWorker
from handoff_actors.core.node.worker_state import Slot
from handoff_actors.ids import Resources, RunId, WorkerId

#: Workers beyond the usual number end after so long without work.
IDLE_S = 5.0
#: Waits between attempts to start a worker where they end before they are up.
FIRST_RESPAWN_S = 0.1
LAST_RESPAWN_S = 5.0


class Staff:
    """Every worker of a node, and which of them are free."""

    def __init__(self, usual: int, most: int) -> None:
        self.slots: dict[WorkerId, Slot] = {}
        self.usual = usual
        #: Sync workers that are there or on their way, and stay.
        self.strength = 0
        self._most = most
        #: Free sync workers and since when. The last one in is the first one out, since its caches are warm.
        self.idle: dict[WorkerId, float] = {}
        self._next_worker = 1
        self._failed_starts = 0
        self._respawn_at: float | None = None

    @property
    def starting(self) -> int:
        """Sync workers that are on their way."""
        return sum(slot.pid is None and not slot.is_async for slot in self.slots.values())

    @property
    def wake_at(self) -> float | None:
        """When somebody has been idle for too long, or may be started again."""
        times = [] if self._respawn_at is None else [self._respawn_at]
        if self.idle and self.strength > self.usual:
            times.append(min(self.idle.values()) + IDLE_S)
        return min(times, default=None)

    def hire(self, *, is_async: bool) -> SpawnWorker:
        """Have one more."""
        worker = WorkerId(self._next_worker)
        self._next_worker += 1
        self.slots[worker] = Slot(worker, is_async)
        self.strength += not is_async
        return SpawnWorker(worker, is_async)

    def hire_for(self, wanted: int) -> list[SpawnWorker]:
        """Have enough that `wanted` more jobs could start, as far as that is allowed."""
        if self._respawn_at is not None:
            return []
        count = min(self._most - self.strength, wanted - self.starting)
        return [self.hire(is_async=False) for _ in range(count)]

    def keep_strength(self, now: float) -> list[SpawnWorker]:
        """Replace those that are gone, unless this is the pause after starts that failed."""
        if self._respawn_at is not None and now >= self._respawn_at:
            self._respawn_at = None
        if self.strength >= self.usual or self._respawn_at is not None:
            return []
        return [self.hire(is_async=False) for _ in range(self.usual - self.strength)]

    def came_up(self, worker: WorkerId, pid: int, now: float) -> None:
        """One that was asked for is there."""
        slot = self.slots[worker]
        slot.pid, slot.heard_at = pid, now
        self._failed_starts = 0
        self.set_free(slot, now)

    def set_free(self, slot: Slot, now: float) -> None:
        """It has nothing to do."""
        if not slot.is_async and slot.verdict is None:
            self.idle[slot.worker] = now

    def left(self, worker: WorkerId, now: float) -> Slot:
        """One has ended."""
        slot = self.slots.pop(worker)
        self.strength -= not slot.is_async and slot.verdict is None
        self.idle.pop(worker, None)
        if slot.pid is None:
            self._failed_starts += 1
            self._respawn_at = now + min(LAST_RESPAWN_S, FIRST_RESPAWN_S * 2 ** (self._failed_starts - 1))
        return slot

    def dismiss(self, slot: Slot, verdict: str) -> KillWorker:
        """End one, whatever it does."""
        self.strength -= not slot.is_async and slot.verdict is None
        slot.verdict = verdict
        self.idle.pop(slot.worker, None)
        return KillWorker(slot.worker)

    def dismiss_idle(self, now: float) -> list[KillWorker]:
        """End those beyond the usual number that nobody has needed for a while."""
        long_idle = [self.slots[worker] for worker, since in self.idle.items() if now >= since + IDLE_S]
        surplus = max(0, self.strength - self.usual)
        return [self.dismiss(slot, "idle") for slot in long_idle[:surplus]]

    def pick_idle(self, devices: tuple[int, ...] | None) -> Slot | None:
        """A free sync worker that may use `devices`: bound to just these, or to none yet.

        The first one that was started: where few are needed it is always the same, with its imports and its heap.
        """
        for worker in sorted(self.idle):
            bound = self.slots[worker].devices
            if devices is None or bound is None or bound == devices:
                return self.slots[worker]
        return None

    def async_slot(self) -> Slot | None:
        """The async worker, if there is one that stays."""
        return next((slot for slot in self.slots.values() if slot.is_async and slot.verdict is None), None)

    @property
    def may_hire(self) -> bool:
        """Whether starting workers has not just failed."""
        return self._respawn_at is None

    def claimed_by_others(self, run: RunId) -> Resources:
        """What the claims of all runs but one come to."""
        others: Resources = {}
        for slot in self.slots.values():
            claims = [slot.claim] if slot.claim and slot.lane and slot.lane.run != run else []
            claims += [given.claim for key, given in slot.given.items() if given.claim and key[0] != run]
            for claim in claims:
                for resource, amount in claim.amounts.items():
                    others[resource] = others.get(resource, 0.0) + amount
        return others

    def has(self, run: RunId) -> bool:
        """Whether some worker holds anything of a run."""
        return any(key[0] == run for slot in self.slots.values() for key in slot.given)
