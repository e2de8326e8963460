"""The state of a node as it is to be published."""

from handoff_actors.core.node.circuit_breaker import CircuitBreaker
from handoff_actors.core.node.events import Advertise
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.node_drain import NodeDrain
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler


def advertisement(
    scheduler: WorkerScheduler, inputs: Inputs, drain: NodeDrain, circuit_breaker: CircuitBreaker
) -> Advertise:
    """Give the state of a node now."""
    running, queued = scheduler.load()
    waiting_for_input = inputs.waiting_jobs()
    return Advertise(
        dict(scheduler.ledger.totals),
        scheduler.warm.spare(),
        scheduler.roster.usual,
        running,
        queued + waiting_for_input,
        inputs.nbytes,
        drain.has_begun,
        scheduler.busy() + waiting_for_input,
        scheduler.queue.claims(),
        scheduler.roster.most,
        circuit_breaker.reason,
        drain.ends_at,
        scheduler.warm.copies() if scheduler.warm else [],
    )
