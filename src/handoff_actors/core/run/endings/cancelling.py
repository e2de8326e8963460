"""Cancels single functions of a run, and with each what depends on it.

A function that waits ends at once. One that is with a node ends when the node has answered, whatever the answer is; what
depends on it ends at once.
"""

from collections.abc import Iterable

from handoff_actors.core.run.endings.failures import Failures
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.facts.phases import RESTING, SENT
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import CancelJobs


def cancel_functions(
    run: RunId, indices: Iterable[Index], state: RunState, recovery: Recovery, failures: Failures, now: float
) -> list[SendToNode]:
    """Cancel functions that have yet to end; return what their nodes must be told."""
    tickets: dict[str, list[Ticket]] = {}
    for index in indices:
        phase = state.phase[index]
        if not state.is_unfinished(index) or index in state.cancelled:
            continue
        if phase == SENT:
            state.cancelled.add(index)
            tickets.setdefault(state.node[index] or "", []).append(Ticket(index, state.attempt[index]))
            continue
        if phase == RESTING:
            failures.rests_no_more(index)
        recovery.cancel(index, now)
    return [SendToNode(name, CancelJobs(run, jobs)) for name, jobs in tickets.items()]
