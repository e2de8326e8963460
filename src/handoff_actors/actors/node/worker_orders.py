"""Tells workers what their node's machine wants, beside their jobs."""

from typing import assert_never

from handoff_actors.core.node.events import CancelCoroutine, RecallWorker, TellId
from handoff_actors.core.node.stage_events import PassRows
from handoff_actors.workers.pool.pool import WorkerPool


def tell_worker(pool: WorkerPool, order: RecallWorker | CancelCoroutine | PassRows | TellId) -> None:
    """Have a pool tell one of its workers."""
    match order:
        case RecallWorker(worker):
            pool.recall(worker)
        case CancelCoroutine(worker, run, index, attempt):
            pool.cancel(worker, run, index, attempt)
        case PassRows(worker, run, index, attempt, content):
            pool.pass_rows(worker, (run, index, attempt), content)
        case TellId(run, index, attempt, function_id):
            pool.tell_id((run, index, attempt), function_id)
        case _:
            assert_never(order)
