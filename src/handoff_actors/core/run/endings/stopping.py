"""A failure that ends a run has functions run first that do so in any case: clean-up, notification.

Everything else is cancelled. These functions are sent as their inputs end, and with the last of them the run ends with the error
of the failure.
"""

from handoff_actors.core.run.endings.cancelling import cancel_functions
from handoff_actors.core.run.endings.failures import Failures
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.run_if import run_if_of
from handoff_actors.ids import Index, RunId


def runs_anyway(plan: Plan, state: RunState, index: Index) -> bool:
    """Tell whether a function runs in any case, or was added by one that does."""
    return run_if_of(plan, index) != "success" or index in state.added_anyway


def stop_others(
    run: RunId, plan: Plan, state: RunState, recovery: Recovery, failures: Failures, now: float
) -> list[SendToNode]:
    """Cancel all but the functions that run in any case, as a failure has just ended the run; return what nodes must be told."""
    failures.must_stop_others = False
    others = [index for index in state.unfinished() if not runs_anyway(plan, state, index)]
    return cancel_functions(run, others, state, recovery, failures, now)
