"""Lanes whose next job waits for its claim: one that has waited for long goes before others that want the same resources."""

from typing import TYPE_CHECKING

from handoff_actors.core.node.scheduling.fair_queue import JobLane
from handoff_actors.core.node.scheduling.worker_roster import WorkerRoster
from handoff_actors.core.resources import ResourceLedger, summed

if TYPE_CHECKING:
    from handoff_actors.ids import RunId

#: A job that has waited for its claim this long goes before all others that want the same resources.
STARVED_S = 1.0


class BlockedLanes:
    """Every lane whose head has been blocked for lack of room, and some that are blocked no longer."""

    def __init__(self, ledger: ResourceLedger, roster: WorkerRoster) -> None:
        self._ledger = ledger
        self._roster = roster
        self._lanes: dict[JobLane, None] = {}
        #: Open runs that functions have begun. They go before starved lanes, which may wait for just these functions.
        self.nested: set[RunId] = set()

    def add(self, lane: JobLane, now: float) -> None:
        """Note that there is no room for the head of a lane."""
        if lane.blocked_since is None:
            lane.blocked_since = now
            self._lanes[lane] = None

    def most_starved(self, now: float) -> JobLane | None:
        """The lane that has been blocked for longest, if that is too long."""
        if not self._lanes:
            return None
        self._lanes = {lane: None for lane in self._lanes if lane.jobs and lane.blocked_since is not None}
        starved = [
            lane
            for lane in self._lanes
            if now - (lane.blocked_since or now) > STARVED_S and self._comes_free(lane)
        ]
        return min(starved, key=lambda lane: lane.blocked_since or 0.0, default=None)

    def _comes_free(self, lane: JobLane) -> bool:
        """True if what a lane needs fits beside the claims of stages: nobody knows when those end."""
        needed = [lane.needs, *(state.claim.amounts for state in self._roster.stages.values() if state.claim)]
        return self._ledger.could_ever_hold(summed(*needed))

    def may_go_before(self, starved: JobLane | None, lane: JobLane) -> bool:
        """True if a lane claims nothing that the starved one waits for, or belongs to a nested run."""
        return (
            starved is None
            or lane is starved
            or lane.run in self.nested
            or lane.needs.keys().isdisjoint(starved.needs)
        )
