"""The times by which jobs on workers must have ended: their time limits, and the time that cancelled ones may take to clean up."""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

from handoff_actors.core.node.scheduling.worker_state import HeldJob, WorkerState
from handoff_actors.ids import Attempt, Index, RunId, WorkerId

#: Deadlines of jobs that have ended may be among so many.
DEADLINES_KEPT = 1024


class JobDeadlines:
    """The deadlines of jobs that these workers hold, and some of jobs that have ended."""

    def __init__(self, workers: Mapping[WorkerId, WorkerState]) -> None:
        self._workers = workers
        #: A heap of (when, worker, run, index, attempt).
        self._heap: list[tuple[float, WorkerId, RunId, Index, Attempt]] = []
        #: The number of them at which those of jobs that have ended are dropped.
        self._most = DEADLINES_KEPT

    def add(self, at: float, state: WorkerState, held: HeldJob) -> None:
        """Add a deadline of a job on a worker. A job may have several."""
        if len(self._heap) >= self._most:
            self._drop_ended()
        heappush(self._heap, (at, state.worker, held.lane.run, held.job.index, held.job.attempt))

    def passed(self, now: float) -> Iterator[tuple[WorkerState, HeldJob]]:
        """Remove the deadlines that have passed. Yields the jobs among theirs that have not ended, with their workers."""
        while self._heap and self._heap[0][0] <= now:
            _, worker, run, index, attempt = heappop(self._heap)
            state = self._workers.get(worker)
            held = state.held.get((run, index)) if state else None
            if state is not None and held is not None and held.job.attempt == attempt:
                yield state, held

    @property
    def next_at(self) -> float | None:
        """The time of the next deadline."""
        return self._heap[0][0] if self._heap else None

    def _drop_ended(self) -> None:
        """Drop the deadlines of jobs that have ended: many short ones may have long limits."""
        held = {
            (state.worker, *key, one.job.attempt)
            for state in self._workers.values()
            for key, one in state.held.items()
        }
        self._heap = [entry for entry in self._heap if entry[1:] in held]
        heapify(self._heap)
        self._most = max(DEADLINES_KEPT, 2 * len(self._heap))
