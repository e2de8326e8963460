from collections.abc import Callable

import pytest

from handoff_actors.core.run.facts.normal_path import set_done, set_ready, set_sent
from handoff_actors.core.run.facts.phases import (
    DONE,
    FAILED,
    FREE,
    PHASE_NAMES,
    READY,
    RESTING,
    SENT,
    TRANSITIONS,
    WAITING,
    PhaseEvent,
)
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.core.run.facts.state import Failure, RunState
from handoff_actors.errors import HandoffError
from handoff_actors.graph import Function
from tests.core.builders import code, done, program_of

PLAN = program_of(Function("x", [], code)).plan

#: The events that take a function into each phase.
WAYS: dict[int, tuple[PhaseEvent, ...]] = {
    WAITING: (),
    READY: (PhaseEvent.INPUTS_DONE,),
    SENT: (PhaseEvent.INPUTS_DONE, PhaseEvent.DISPATCHED),
    RESTING: (PhaseEvent.INPUTS_DONE, PhaseEvent.DISPATCHED, PhaseEvent.RETURNED),
    DONE: (PhaseEvent.INPUTS_DONE, PhaseEvent.DISPATCHED, PhaseEvent.COMPLETED),
    FAILED: (PhaseEvent.GIVEN_UP,),
    FREE: (PhaseEvent.GIVEN_UP, PhaseEvent.FORGOTTEN),
}
#: Setters that say more than that a phase has changed, by the event that each stands for.
SETTERS: dict[PhaseEvent, Callable[[RunState], object]] = {
    PhaseEvent.INPUTS_DONE: lambda state: set_ready(state, [0], 1.0),
    PhaseEvent.DISPATCHED: lambda state: set_sent(state, [0], "a", 1.0),
    PhaseEvent.COMPLETED: lambda state: set_done(state, PLAN, [done(0)], "a", 1.0),
    PhaseEvent.REUSED: lambda state: state.set_reused(0, ReusedResult("a", b"v"), 1.0),
    PhaseEvent.VALUE_LOST: lambda state: state.undo(0),
    PhaseEvent.GIVEN_UP: lambda state: state.set_failed(0, Failure(HandoffError("why")), 1.0),
}


def state_in(phase: int) -> RunState:
    state = RunState(PLAN)
    for event in WAYS[phase]:
        state.change(0, event)
    return state


@pytest.mark.parametrize("event", PhaseEvent)
@pytest.mark.parametrize("phase", range(len(PHASE_NAMES)), ids=PHASE_NAMES)
def test_phase_changes_as_the_table_says_or_not_at_all(phase: int, event: PhaseEvent) -> None:
    state = state_in(phase)

    if event in TRANSITIONS[phase]:
        state.change(0, event)

        assert state.phase[0] == TRANSITIONS[phase][event]
    else:
        with pytest.raises(
            AssertionError, match=f"function 'x' is {PHASE_NAMES[phase]}, where {event.name} "
        ):
            state.change(0, event)

        assert state.phase[0] == phase


@pytest.mark.parametrize("event", SETTERS)
@pytest.mark.parametrize("phase", range(len(PHASE_NAMES)), ids=PHASE_NAMES)
def test_setters_change_a_phase_as_the_table_says(phase: int, event: PhaseEvent) -> None:
    state = state_in(phase)

    if event in TRANSITIONS[phase]:
        SETTERS[event](state)

        assert state.phase[0] == TRANSITIONS[phase][event]
    else:
        with pytest.raises(AssertionError, match=f"where {event.name} "):
            SETTERS[event](state)


def test_every_phase_can_be_reached_and_left() -> None:
    reached = {phase for events in TRANSITIONS.values() for phase in events.values()}

    assert reached == set(range(len(PHASE_NAMES))) == set(TRANSITIONS)
    assert all(TRANSITIONS.values())
    assert {event for events in TRANSITIONS.values() for event in events} == set(PhaseEvent)
