"""The changes on the normal path of functions, each for many at a time: they are ready, they are sent, they are done.

Every function goes through these three, so each does what `RunState.change` does without a call for each function.
"""

from collections.abc import Sequence

from handoff_actors.core.run.facts.phases import (
    ON_COMPLETED,
    ON_DISPATCHED,
    ON_INPUTS_DONE,
    SENT,
    WAITING,
    PhaseEvent,
)
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.skip import ENCODED_SKIP
from handoff_actors.wire.messages.jobs import Done


def set_ready(state: RunState, indices: Sequence[Index], now: float) -> None:
    """Note that all inputs of the functions can be had."""
    phase, ready_at = state.phase, state.ready_at
    for index in indices:
        try:
            phase[index] = ON_INPUTS_DONE[phase[index]]
        except ValueError:
            raise state.illegal(index, PhaseEvent.INPUTS_DONE) from None
        ready_at[index] = now


def set_sent(state: RunState, indices: Sequence[Index], node: str, now: float) -> None:
    """Note that the functions leave for a node, each in a new attempt."""
    phase, nodes, attempt = state.phase, state.node, state.attempt
    sent_at, ready_at = state.sent_at, state.ready_at
    for index in indices:
        try:
            phase[index] = ON_DISPATCHED[phase[index]]
        except ValueError:
            raise state.illegal(index, PhaseEvent.DISPATCHED) from None
        nodes[index] = node
        sent_at[index] = now
        if not ready_at[index]:
            # A member of a fused group may be known to be done before its inputs are.
            ready_at[index] = now
        attempt[index] += 1


def set_done(state: RunState, plan: Plan, entries: Sequence[Done], node: str, now: float) -> list[Index]:
    """Note that the functions have values, inline or stored on the node.

    Returns those that wait for nothing more by that.
    """
    phase, inline, worker = state.phase, state.inline, state.worker
    finished_at, ran_s, dependents_of = state.finished_at, state.ran_s, plan.dependents
    ready: list[Index] = []
    for done in entries:
        index, value = done.index, done.value
        try:
            phase[index] = ON_COMPLETED[phase[index]]
        except ValueError:
            raise state.illegal(index, PhaseEvent.COMPLETED) from None
        finished_at[index], ran_s[index], worker[index] = now, done.ran_s, done.worker
        if done.additions is not None or isinstance(value, int):
            state.set_stored(index, done, node)
        else:
            inline[index] = value
            if value == ENCODED_SKIP:
                state.skipped.add(index)
        if dependents_of[index]:
            ready += _fire(state, plan, index, now)
    state.remaining -= len(entries)
    if state.changed is not None:
        state.changed += [done.index for done in entries]
    return ready


def _fire(state: RunState, plan: Plan, index: Index, now: float) -> list[Index]:
    """Have the dependents of a function miss one input less. Returns those that miss none."""
    ready: list[Index] = []
    for dependent in plan.dependents[index]:
        missing = state.missing[dependent] = state.missing[dependent] - 1
        if missing == 0:
            phase = state.phase[dependent]
            if phase == WAITING:
                ready.append(dependent)
            elif phase == SENT:
                # The function has been sent already, as a member of the same fused group.
                state.ready_at[dependent] = now
    return ready
