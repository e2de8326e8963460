"""The list of runs that a node serves, for monitors such as `handoff top`."""

from collections import Counter

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.members import MOST_RUNNING, RunningFunction, Runs, ServedRun


def overview(clients: Clients, scheduler: WorkerScheduler, inputs: Inputs) -> Runs:
    """List every run, in the order in which they came."""
    running, held, waiting = Counter[RunId](), Counter[RunId](), Counter[RunId]()
    reporting: dict[RunId, list[RunningFunction]] = {}
    for state in scheduler.roster.workers.values():
        for position, ((run, _), job) in enumerate(state.held.items()):
            held[run] += 1
            waiting[run] += job.nested_runs > 0
            # A sync worker runs the first of what it holds.
            running[run] += state.is_async or position == 0
            if job.progress is not None:
                label = "" if job.identity is None else job.identity.label
                function = RunningFunction(label, job.progress.done, job.progress.total)
                reporting.setdefault(run, []).append(function)
    return Runs(
        [
            ServedRun(
                run,
                clients.owner(run),
                running[run],
                held[run] - running[run] + scheduler.queue.waiting(run) + len(inputs.waiting(run)),
                inputs.stored(run),
                run in clients.closing,
                state.dag_name,
                state.progress,
                reporting.get(run, [])[:MOST_RUNNING],
                waiting[run],
            )
            for run, state in clients.all_runs()
        ]
    )
