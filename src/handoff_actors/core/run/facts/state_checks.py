"""The invariants of the state of a run."""

from handoff_actors.core.run.facts.phases import DONE, FAILED, FREE, READY, WAITING
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.graph.plan import Plan
from handoff_actors.skip import ENCODED_SKIP


def check_state(state: RunState, plan: Plan) -> None:
    """Assert that the facts agree with one another."""
    assert state.remaining == sum(phase < DONE for phase in state.phase)
    failed = [index for index, phase in enumerate(state.phase) if phase == FAILED]
    assert failed == sorted([*state.failures, *state.failed_behind])
    assert state.added == sum(phase != FREE for phase in state.phase) + sum(state.forgotten.values())
    for index, phase in enumerate(state.phase):
        missing = sum(state.awaits(index, producer) for producer in plan.producers[index])
        if phase in {WAITING, READY}:
            assert state.missing[index] == missing, (
                f"{index} lacks {missing} inputs, not {state.missing[index]}"
            )
            assert (phase == READY) == (missing == 0), f"{index} lacks {missing} inputs in phase {phase}"
            assert state.failure_before(index) is None, f"{index} waits for one that has failed"
        assert (index in state.skipped) == (state.inline.get(index) == ENCODED_SKIP)
        assert (index in state.inline or index in state.stored) == (phase == DONE), (
            f"{index}: value and phase differ"
        )
