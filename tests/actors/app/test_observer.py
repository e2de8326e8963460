from typing import get_args

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.actors.app.observer import Observer
from handoff_actors.core.run.events import FunctionChange, FunctionObserved
from handoff_actors.core.run.state import RunState
from handoff_actors.graph.plan import Plan


@pytest.mark.parametrize("kind", get_args(FunctionChange))
def test_every_change_of_a_function_is_told_as_the_event_of_its_kind(kind: FunctionChange) -> None:
    plan = Plan.compile(handoff.DAG("dag").add_function(handoff.Function("f", [], int)))
    progress = RunState(plan)
    progress.inline[0] = b"value"
    told: list[events.RunEvent] = []

    Observer(plan, progress, told.append).observed(FunctionObserved(kind, 0, "node", 2, "reason"))

    [event] = told
    assert (event.kind, event.dag_id, event.function_id) == (kind, "dag", "f")
    assert (event.node, event.attempt) == ("node", 2)


def test_a_value_that_was_completed_says_how() -> None:
    plan = Plan.compile(handoff.DAG("dag").add_function(handoff.Function("f", [], int)))
    progress = RunState(plan)
    progress.inline[0] = b"value"
    progress.ran_s[0], progress.worker[0] = 1.5, 77
    told: list[events.RunEvent] = []

    Observer(plan, progress, told.append).observed(FunctionObserved("completed", 0, "node", 1))

    [event] = told
    assert isinstance(event, events.Finished)
    assert (event.ran_s, event.worker, event.nbytes) == (1.5, 77, 5)
