from typing import get_args

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.actors.app.observer import Observer
from handoff_actors.core.run.events import FunctionChange, FunctionObserved
from tests.core.builders import run_of


@pytest.mark.parametrize("kind", get_args(FunctionChange))
def test_every_change_of_a_function_is_told_as_the_event_of_its_kind(kind: FunctionChange) -> None:
    run = run_of(handoff.Function("f", [], int))
    run.state.inline[0] = b"value"
    told: list[events.RunEvent] = []

    Observer(run.view, told.append).observed(FunctionObserved(kind, 0, "node", 2, "reason"))

    [event] = told
    assert (event.kind, event.dag_id, event.function_id) == (kind, run.view.plan.dag_id, "f")
    assert (event.node, event.attempt) == ("node", 2)


def test_a_value_that_was_completed_says_how() -> None:
    run = run_of(handoff.Function("f", [], int))
    run.state.inline[0] = b"value"
    run.state.ran_s[0], run.state.worker[0] = 1.5, 77
    told: list[events.RunEvent] = []

    Observer(run.view, told.append).observed(FunctionObserved("completed", 0, "node", 1))

    [event] = told
    assert isinstance(event, events.Finished)
    assert (event.ran_s, event.worker, event.nbytes) == (1.5, 77, 5)
