from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.retries import MAX_LOSSES
from handoff_actors.core.run.events import ResultFetchFailed, SendToNode
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import POLICIES, Need
from handoff_actors.errors import (
    AllocationError,
    NodeLost,
)
from handoff_actors.graph import Function
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Recall
from tests.core.builders import (
    RUN,
    assigned,
    code,
    completed,
    done,
    ends,
    error_of,
    node_up,
    recalled,
    run_of,
    started,
)

# --- Nodes that go ----------------------------------------------------------------------------------------------


def test_functions_of_a_lost_node_go_to_another_and_so_do_lost_values_that_are_needed() -> None:
    run = started(
        Function("x", [], code),
        Function("y", ["x"], code),
        Function("z", ["y", "x"], code),
        max_concurrency=1,
    )
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100)), 0.2)
    run.handle(completed("a", done(1, value=100)), 0.3)

    nowhere = run.handle(NodeDown("a", "gone"), 0.4)
    anew = run.handle(node_up("b"), 0.5)

    assert assigned(nowhere) == []
    assert assigned(anew) == [("b", [0])]
    run.check()


def test_functions_that_were_ready_before_their_input_was_lost_wait_for_it_again() -> None:
    takers = [Function(f"y{number}", ["x"], code) for number in range(40)]
    run = started(Function("x", [], code), *takers, policy=POLICIES["most_spare"])
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100, ran_s=1.0)), 0.2)
    run.handle(NodeDown("a", "gone"), 0.3)

    anew = run.handle(node_up("b"), 0.4)

    assert assigned(anew) == [("b", [0])]
    run.check()


def test_values_that_nobody_needs_any_more_are_not_made_again() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code), Function("z", ["y"], code))
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100)), 0.2)
    run.handle(completed("a", done(1)), 0.3)
    run.handle(NodeDown("a", "gone"), 0.4)

    assert assigned(run.handle(node_up("b"), 0.5)) == [("b", [2])]
    assert run.handle(NodeDown("nobody", "gone"), 0.6) == []


def test_function_gives_up_after_too_many_lost_nodes() -> None:
    run = started(Function("x", [], code))

    for number in range(MAX_LOSSES):
        run.handle(node_up(), number)
        effects = run.handle(NodeDown("a", "gone"), number)

    (end,) = ends(effects)
    assert isinstance(end.error, NodeLost)


def test_pinned_function_waits_for_its_node_to_come_back_and_not_for_ever() -> None:
    run = started(Function("x", [], code, node="a"), allocation_timeout_s=3.0)
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("b"), 0.1)
    run.handle(NodeDown("a", "gone"), 1.0)

    back = run.handle(node_up("a"), 2.0)
    run.handle(NodeDown("a", "gone"), 3.0)
    (end,) = ends(run.wake(6.0))

    assert assigned(back) == [("a", [0])]
    assert isinstance(end.error, NodeLost)


def test_node_that_nothing_needs_any_more_may_stay_away() -> None:
    run = started(
        Function("x", [], code, node="a"), Function("y", ["x"], code, node="b"), allocation_timeout_s=3.0
    )
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("b"), 0.1)
    run.handle(NodeDown("b", "gone"), 0.15)
    run.handle(node_up("b"), 0.16)
    run.handle(completed("a", done(0)), 0.2)

    run.handle(NodeDown("a", "gone"), 0.3)

    assert run.wake_at is None
    assert not ends(run.wake(9.0))


def test_need_that_ends_while_its_node_is_away_fails_nothing() -> None:
    run = run_of(
        Function("x", [], code, node="a"), Function("y", [], code, node="b"), allocation_timeout_s=3.0
    )
    run.start(0.0, [node_up("a"), node_up("b")])
    run.handle(node_up("a", leaving=True), 0.2)
    run.handle(completed("a", done(0)), 0.3)

    assert not ends(run.wake(3.2))
    assert run.wake_at is None


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Function("x", [], code, cost={"gpu": 1}), "which no node offers, "),
        (
            Function("x", [], code, cost={"cpus": 1, "oddity": 1}),
            "which no node offers (did you mean cpu for cpus?)",
        ),
        (Function("x", [], code, node="nowhere"), "no member of that name has joined"),
        (Function("x", [], code, node="a", cost={"cpu": 9}), "which offers less"),
    ],
)
def test_what_no_node_could_ever_run_ends_the_run_after_the_time_allowed(
    function: Function, reason: str
) -> None:
    run = started(function, allocation_timeout_s=3.0)
    run.handle(node_up("a"), 0.1)

    too_early = run.wake(2.9)
    (end,) = ends(run.wake(3.0))

    assert too_early == []
    assert isinstance(end.error, AllocationError)
    assert reason in end.error.reason


def test_lost_way_home_is_tried_from_another_making_but_not_for_ever() -> None:
    run = started(Function("x", [], code), wanted=[0])
    run.handle(node_up(), 0.1)

    for attempt in range(1, MAX_LOSSES + 1):
        run.handle(completed("a", done(0, attempt=attempt, value=100)), 0.2)
        again = run.handle(ResultFetchFailed(0, "gone"), 0.3)
        stale = run.handle(ResultFetchFailed(0, "gone"), 0.3)

    assert assigned(again) == []
    assert stale == []
    assert isinstance(error_of(run), NodeLost)


def test_value_that_is_made_again_is_still_on_its_way_home() -> None:
    run = started(Function("x", [], code), wanted=[0])
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100)), 0.2)
    run.handle(NodeDown("a", "gone"), 0.3)

    assert run.handle(ResultFetchFailed(0, "gone"), 0.4) == []
    assert assigned(run.handle(node_up("b"), 0.5)) == [("b", [0])]


def test_suspect_node_gets_nothing_new_until_it_is_heard_of_again() -> None:
    run = started(Function("x", [], code))
    suspect = replace(node_up("a"), suspect=True)

    held_back = run.handle(suspect, 0.1)
    why_not = run.view.explain()[0].nodes["a"]
    sent = run.handle(node_up("a"), 0.2)

    assert held_back == []
    assert "not been heard of" in why_not
    assert assigned(sent) == [("a", [0])]


# --- Giving back ------------------------------------------------------------------------------------------------


def test_node_that_gives_back_unasked_gets_nothing_until_it_says_how_it_stands() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    paused = run.handle(recalled("a", 0), 0.2)
    why_not = run.view.explain()[0].nodes["a"]
    resumed = run.handle(node_up(), 0.3)

    assert paused == []
    assert "given back work" in why_not
    assert assigned(resumed) == [("a", [0])]


def test_what_waits_on_one_node_is_called_back_for_another_that_has_nothing() -> None:
    run = started(*(Function(number, [], code) for number in range(4)))
    run.handle(node_up("a", workers=2), 0.1)

    asked = run.handle(node_up("b", workers=2), 0.2)
    moved = run.handle(recalled("a", 3, attempt=1), 0.3)

    assert asked == [SendToNode("a", Recall(RUN, [Ticket(3, 1)], room=2))]
    assert assigned(moved) == [("b", [3])]


def test_node_with_nothing_to_give_back_is_not_asked_again_at_once() -> None:
    run = started(*(Function(number, [], code) for number in range(4)))
    run.handle(node_up("a", workers=2), 0.1)
    run.handle(node_up("b", workers=2), 0.2)

    at_once = run.handle(recalled("a"), 0.3)
    later = run.handle(node_up("b", workers=2), 0.5)

    assert at_once == []
    assert later == [SendToNode("a", Recall(RUN, [Ticket(3, 1)], room=2))]


def test_answer_to_a_recall_that_nobody_remembers_changes_nothing() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    assert run.handle(recalled("a"), 0.2) == []
    assert run.scheduler.nodes["a"].usable


def test_what_is_over_in_no_time_is_not_called_back() -> None:
    run = started(*(Function(number, [], code) for number in range(600)))
    run.handle(node_up("a", workers=1), 0.1)
    run.handle(completed("a", done(0, ran_s=0.000001)), 0.2)
    sent = len(run.scheduler.nodes["a"].sent)
    run.handle(completed("a", *(done(index, ran_s=0.000001) for index in range(1, sent))), 0.2)

    effects = run.handle(node_up("b", workers=600), 0.2)

    assert not any(
        isinstance(effect, SendToNode) and isinstance(effect.message, Recall) for effect in effects
    )


def test_function_whose_input_was_lost_while_it_was_ready_waits_for_it_again() -> None:
    run = started(
        Function("x", [], code),
        Function("y", ["x"], code),
        Function("v", [], code, priority=1),
        Function("w", [], code, priority=1),
        max_retries=0,
    )
    run.handle(node_up("a", workers=1), 0.1)
    run.handle(completed("a", done(2)), 0.2)
    run.handle(completed("a", done(0, value=100)), 0.3)
    run.handle(NodeDown("a", "gone"), 0.4)

    anew = run.handle(node_up("b", workers=4), 0.5)

    assert assigned(anew) == [("b", [3, 0])]
    run.check()


class Declines:
    """A policy of the user's that likes no node."""

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:
        return None


def test_function_that_the_policy_has_a_node_for_nowhere_is_explained() -> None:
    run = run_of(Function("x", [], code), policy=Declines())

    effects = run.start(0.0, [node_up("a")])

    assert effects == []
    why_not = run.view.explain()[0].nodes["a"]
    assert "the policy has chosen none" in why_not
