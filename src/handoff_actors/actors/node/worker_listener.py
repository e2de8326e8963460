"""Tells a node's machine what its workers say. See `WorkerEvents`."""

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from handoff_actors.actors.node.metrics import NodeMetrics
from handoff_actors.actors.node.stage_relay import StageRelay
from handoff_actors.actors.node.store_watch import StoreWatch
from handoff_actors.core.node.events import (
    IdAsked,
    NestedWaitBegan,
    NestedWaitEnded,
    NodeEvent,
    ObjectMade,
    OutputReceived,
    WorkerDone,
    WorkerExited,
    WorkerFailed,
    WorkerRecalled,
    WorkerUnfit,
    WorkerUp,
)
from handoff_actors.ids import Attempt, Index, RunId, WorkerId
from handoff_actors.transport.endpoint import Service
from handoff_actors.wire.messages.jobs import Done, Said, Ticket, Traces
from handoff_actors.wire.messages.runs import FAILURE_KINDS
from handoff_actors.workers.nested_waits import WaitChanged
from handoff_actors.workers.protocol import JobKey

log = logging.getLogger(__name__)


class WorkerListener:
    """Listens to the pool of one node. `feed` takes the events, `kill` ends a worker."""

    def __init__(
        self,
        node: str,
        feed: Callable[[NodeEvent], None],
        kill: Callable[[WorkerId], None],
        was_memory_short: Callable[[int | None], bool],
        services: Sequence[Service],
        store_watch: StoreWatch,
        metrics: NodeMetrics,
        stages: StageRelay,
    ) -> None:
        #: The process ids of workers that are ready and have not ended.
        self.pids: dict[WorkerId, int] = {}
        self._node = node
        self._feed = feed
        self._kill = kill
        self._was_memory_short = was_memory_short
        self._services = services
        self._store_watch = store_watch
        self._metrics = metrics
        self.stage_answered = stages.answered

    def worker_up(self, worker: WorkerId, pid: int) -> None:
        """See WorkerEvents."""
        self.pids[worker] = pid
        self._feed(WorkerUp(worker, pid))

    def worker_done(self, worker: WorkerId, run: RunId, done: Sequence[Done]) -> None:
        """See WorkerEvents."""
        # To wait for the end of the tick would cost a tenth of what a function costs that others wait for.
        for service in self._services:
            service.hold()
        try:
            self._feed(WorkerDone(worker, run, done))
        finally:
            for service in self._services:
                service.flush()

    def worker_failed(
        self,
        worker: WorkerId,
        run: RunId,
        index: Index,
        attempt: Attempt,
        kind: str,
        error: bytes,
        reason: str,
        ran_s: float,
        traces: Traces,
    ) -> None:
        """See WorkerEvents."""
        known = FAILURE_KINDS.get(kind)
        if known is None:
            # The app could not even decode it. What the worker holds is accounted for by its end.
            log.error("worker failed a function in an unknown way", extra={"node": self._node, "kind": kind})
            self._kill(worker)
            return
        if known not in {"exception", "timeout"}:
            # The machine is to know first if that is why.
            self._store_watch.look()
        self._feed(WorkerFailed(worker, run, index, attempt, known, error, reason, ran_s, traces))

    def worker_recalled(self, worker: WorkerId, jobs: Sequence[tuple[RunId, Index, Attempt]]) -> None:
        """See WorkerEvents."""
        tickets = [(run, Ticket(index, attempt)) for run, index, attempt in jobs]
        self._feed(WorkerRecalled(worker, tickets))

    def worker_unfit(self, worker: WorkerId, run: RunId, index: Index, attempt: Attempt, reason: str) -> None:
        """See WorkerEvents."""
        self._feed(WorkerUnfit(worker, run, index, attempt, reason))

    def wait_changed(self, change: WaitChanged) -> None:
        """See WorkerEvents."""
        event = NestedWaitBegan if change.has_begun else NestedWaitEnded
        self._feed(event(*change.key, change.may_hold_up_loop))

    def object_made(self, worker: WorkerId, key: bytes, nbytes: int) -> None:
        """See WorkerEvents."""
        self._feed(ObjectMade(worker, key, nbytes))

    def output_received(self, run: RunId, said: Sequence[Said]) -> None:
        """See WorkerEvents."""
        self._feed(OutputReceived(run, said))

    def id_asked(self, key: JobKey) -> None:
        """See WorkerEvents."""
        self._feed(IdAsked(*key))

    def worker_exited(
        self, worker: WorkerId, signal: int | None, exit_code: int | None, traces: Traces
    ) -> None:
        """See WorkerEvents."""
        self._metrics.exited(worker)
        self._store_watch.store.expect_leftovers()
        self.pids.pop(worker, None)
        traces = replace(traces, memory_was_short=self._was_memory_short(signal))
        self._feed(WorkerExited(worker, signal, exit_code, traces))
