"""What a node says of the runs that it serves, to those who only look."""

from collections import Counter

from handoff_actors.core.node.clients import Tenants
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.worker_scheduler import Crew
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.members import Runs, ServedRun


def overview(tenants: Tenants, crew: Crew, inputs: Inputs) -> Runs:
    """Every run that is here, in the order in which they came."""
    running, given = Counter[RunId](), Counter[RunId]()
    for slot in crew.staff.slots.values():
        for position, (run, _) in enumerate(slot.given):
            given[run] += 1
            # A sync worker runs the first of what it holds.
            running[run] += slot.is_async or position == 0
    return Runs(
        [
            ServedRun(
                run,
                tenants.owner(run),
                running[run],
                given[run] - running[run] + crew.queue.waiting(run) + len(inputs.waiting(run)),
                inputs.stored(run),
                closing,
            )
            for run, closing in tenants.all_runs()
        ]
    )
