import pytest
from core.builders import (
    RUN,
    assigned,
    async_code,
    code,
    completed,
    done,
    failed,
    hook,
    node_up,
    program_of,
    recalled,
    run_of,
)

from handoff_actors.core.budgets import MOST_LOSSES, MOST_WORKER_DEATHS
from handoff_actors.core.explain import explain
from handoff_actors.core.run import RunMachine
from handoff_actors.core.run_events import (
    BringHome,
    BroughtHome,
    Cancel,
    Finished,
    Forgotten,
    Heard,
    LetGo,
    NodeDown,
    NotBroughtHome,
    Observed,
    RunEffect,
    Tell,
)
from handoff_actors.errors import (
    AllocationError,
    FunctionFailed,
    NodeLost,
    RunTimeout,
    SerializationError,
    WorkerDied,
)
from handoff_actors.graph import Argument, Constant, Function, collocated
from handoff_actors.wire.messages import Close, Closed, Recall, Text, Ticket

CLOSED = Closed(RUN)


def started(*functions: Function, **changes: object) -> RunMachine:
    """A run that has started before it knew any node."""
    run = run_of(*functions, **changes)
    run.start(0.0)
    return run


def ends(effects: list[RunEffect]) -> list[Finished]:
    return [effect for effect in effects if isinstance(effect, Finished)]


def error_of(run: RunMachine, name: str = "a") -> object:
    """The error of a run that has gone wrong and now hears that its only node has closed it."""
    (end,) = ends(run.handle(Heard(name, CLOSED), 99.0))
    return end.error


# --- The good way -----------------------------------------------------------------------------------------------


def test_empty_run_is_over_at_once() -> None:
    assert run_of().start(0.0) == [Finished(None), Forgotten()]


def test_functions_go_out_when_their_inputs_are_done_and_the_run_ends_with_the_last() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code))

    first = run.handle(node_up(), 0.1)
    second = run.handle(completed("a", done(0)), 0.2)
    last = run.handle(completed("a", done(1)), 0.3)

    assert assigned(first) == [("a", [0])]
    assert assigned(second) == [("a", [1])]
    assert last == [Tell("a", Close(RUN)), Finished(None)]
    assert run.is_over
    assert run.handle(Heard("a", CLOSED), 0.4) == [Forgotten()]


def test_nodes_that_are_known_at_the_start_share_the_work_from_the_start() -> None:
    run = run_of(Function("x", [], code), Function("y", [], code))

    effects = run.start(0.0, [node_up("a", workers=1), node_up("b", workers=1)])

    assert sorted(assigned(effects)) == [("a", [0]), ("b", [1])]


def test_most_urgent_functions_go_first() -> None:
    run = started(
        Function("low", [], code, priority=-1),
        Function("sink", [], code),
        Function("long way", [], code),
        Function("end", ["long way"], code),
        Function("high", [], code, priority=1),
        max_concurrency=4,
    )

    assert assigned(run.handle(node_up(workers=4), 0.1)) == [("a", [4, 2, 1, 0])]


def test_no_more_functions_are_in_flight_than_the_run_allows() -> None:
    run = started(*(Function(number, [], code) for number in range(3)), max_concurrency=1)

    assert assigned(run.handle(node_up(), 0.1)) == [("a", [0])]
    assert assigned(run.handle(completed("a", done(0)), 0.2)) == [("a", [1])]


def test_stale_completion_changes_nothing() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    assert run.handle(completed("a", done(0, attempt=2)), 0.2) == []
    assert run.handle(completed("b", done(0)), 0.2) == []
    assert run.handle(failed("a", 0, attempt=2), 0.2) == []
    assert run.handle(recalled("a", 0, attempt=2), 0.2) == []


def test_wanted_value_is_brought_home_before_the_run_ends() -> None:
    run = started(Function("x", [], code), wanted=[0])
    run.handle(node_up(), 0.1)

    brought = run.handle(completed("a", done(0, value=100)), 0.2)
    ended = run.handle(BroughtHome(0), 0.3)
    let_go = run.handle(LetGo(), 0.4)

    assert brought == [BringHome(0, 100, ("a",))]
    assert ended == [Finished(None)]
    assert let_go == [Tell("a", Close(RUN))]


def test_constants_travel_with_the_job() -> None:
    run = started(Function("x", [Constant("c")], code, extra_args=(1,)))

    (tell,) = run.handle(node_up(), 0.1)

    assert isinstance(tell, Tell)
    (sent,) = tell.message.jobs  # type: ignore[union-attr]
    assert (sent.args, sent.constants) == ([b"'c'"], b"((1,), {})")


def test_watchers_are_told_what_happens() -> None:
    run = started(Function("x", [], code), observe=True)

    seen = [
        *run.handle(node_up(), 0.1),
        *run.handle(failed("a", 0), 0.2),
        *run.handle(completed("a", done(0, attempt=2)), 0.3),
    ]

    assert [(effect.kind, effect.attempt) for effect in seen if isinstance(effect, Observed)] == [
        ("assigned", 1),
        ("failed", 1),
        ("retried", 1),
        ("assigned", 2),
        ("completed", 2),
    ]


# --- Failure ----------------------------------------------------------------------------------------------------


def test_exceptions_cost_retries_and_one_too_many_ends_the_run() -> None:
    run = started(Function("x", [], code), max_retries=1)
    run.handle(node_up(), 0.1)

    again = run.handle(failed("a", 0), 0.2)
    closing = run.handle(failed("a", 0, attempt=2), 0.3)
    (end,) = ends(run.handle(Heard("a", CLOSED), 0.4))

    assert assigned(again) == [("a", [0])]
    assert closing == [Tell("a", Close(RUN))]
    assert isinstance(end.error, FunctionFailed)
    assert (end.error.function_id, end.error.node, end.error.attempts) == ("x", "a", 2)
    assert end.cause == b"error"


def test_failed_attempt_that_is_reported_again_after_the_end_changes_nothing() -> None:
    run = started(Function("x", [], code), max_retries=0)
    run.handle(node_up(), 0.1)
    run.handle(failed("a", 0), 0.2)

    assert run.handle(failed("a", 0), 0.3) == []


def test_function_rests_between_tries() -> None:
    run = started(Function("x", [], code, retry_backoff=(1, 2, 5)))
    run.handle(node_up(), 0.0)

    assert run.handle(failed("a", 0), 1.0) == []
    assert run.wake_at is not None
    assert 1.5 <= run.wake_at <= 2.0
    assert assigned(run.wake(run.wake_at)) == [("a", [0])]


def test_killer_of_workers_is_found_out() -> None:
    run = started(Function("x", [], code), max_retries=0)
    run.handle(node_up(), 0.1)

    for attempt in range(1, MOST_WORKER_DEATHS + 1):
        run.handle(failed("a", 0, "worker", attempt=attempt), 0.2)

    assert isinstance(error_of(run), WorkerDied)


def test_what_cannot_be_pickled_is_not_tried_again() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    run.handle(failed("a", 0, "serialization"), 0.2)

    assert isinstance(error_of(run), SerializationError)


def test_constant_that_cannot_be_had_is_asked_for_again_but_not_for_ever() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    for attempt in range(1, MOST_LOSSES + 1):
        run.handle(failed("a", 0, "input", attempt=attempt, lost=9 if attempt % 2 else None), 0.2)

    assert isinstance(error_of(run), NodeLost)


def test_run_that_takes_too_long_ends_in_time() -> None:
    run = started(Function("x", [], code), timeout_s=5.0)
    run.handle(node_up(), 0.1)

    assert run.wake_at == 5.0
    assert run.wake(5.0) == [Tell("a", Close(RUN))]
    assert run.wake_at is None
    assert isinstance(error_of(run), RunTimeout)


def test_cancelled_run_is_over_once_all_nodes_have_closed_it() -> None:
    run = run_of(Function("x", [], code), Function("y", [], code))
    run.start(0.0, [node_up("a", workers=1), node_up("b", workers=1)])

    closing = run.handle(Cancel(), 0.2)
    first = run.handle(Heard("a", CLOSED), 0.3)
    last = run.handle(NodeDown("b", "gone"), 0.4)

    assert closing == [Tell("a", Close(RUN)), Tell("b", Close(RUN))]
    assert first == []
    assert last == [Finished(None, cancelled=True), Forgotten()]


# --- Nodes that go ----------------------------------------------------------------------------------------------


def test_functions_of_a_lost_node_go_to_another_and_so_do_lost_values_that_are_needed() -> None:
    run = started(
        Function("x", [], code), Function("y", ["x"], code), Function("z", ["y", "x"], code), max_concurrency=1
    )
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100)), 0.2)
    run.handle(completed("a", done(1, value=100)), 0.3)

    nowhere = run.handle(NodeDown("a", "gone"), 0.4)
    anew = run.handle(node_up("b"), 0.5)

    assert assigned(nowhere) == []
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

    for number in range(MOST_LOSSES):
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
    run = started(Function("x", [], code, node="a"), Function("y", [], code), allocation_timeout_s=3.0)
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("a", leaving=True), 0.2)
    run.handle(completed("a", done(0)), 0.3)
    run.handle(node_up("b"), 0.4)

    assert not ends(run.wake(3.2))
    assert run.wake_at is None


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Function("x", [], code, cost={"gpu": 1}), "which no node offers"),
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

    for attempt in range(1, MOST_LOSSES + 1):
        run.handle(completed("a", done(0, attempt=attempt, value=100)), 0.2)
        again = run.handle(NotBroughtHome(0, "gone"), 0.3)
        stale = run.handle(NotBroughtHome(0, "gone"), 0.3)

    assert assigned(again) == []
    assert stale == []
    assert isinstance(error_of(run), NodeLost)


def test_value_that_is_made_again_is_still_on_its_way_home() -> None:
    run = started(Function("x", [], code), wanted=[0])
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100)), 0.2)
    run.handle(NodeDown("a", "gone"), 0.3)

    assert run.handle(NotBroughtHome(0, "gone"), 0.4) == []
    assert assigned(run.handle(node_up("b"), 0.5)) == [("b", [0])]


# --- Giving back ------------------------------------------------------------------------------------------------


def test_node_that_gives_back_unasked_gets_nothing_until_it_says_how_it_stands() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    paused = run.handle(recalled("a", 0), 0.2)
    resumed = run.handle(node_up(), 0.3)

    assert paused == []
    assert assigned(resumed) == [("a", [0])]


def test_what_waits_on_one_node_is_called_back_for_another_that_has_nothing() -> None:
    run = started(*(Function(number, [], code) for number in range(4)))
    run.handle(node_up("a", workers=2), 0.1)

    asked = run.handle(node_up("b", workers=2), 0.2)
    moved = run.handle(recalled("a", 3, attempt=1), 0.3)

    assert asked == [Tell("a", Recall(RUN, [Ticket(3, 1)]))]
    assert assigned(moved) == [("b", [3])]


def test_node_with_nothing_to_give_back_is_not_asked_again_at_once() -> None:
    run = started(*(Function(number, [], code) for number in range(4)))
    run.handle(node_up("a", workers=2), 0.1)
    run.handle(node_up("b", workers=2), 0.2)

    at_once = run.handle(recalled("a"), 0.3)
    later = run.handle(node_up("b", workers=2), 0.5)

    assert at_once == []
    assert later == [Tell("a", Recall(RUN, [Ticket(3, 1)]))]


# --- Places -----------------------------------------------------------------------------------------------------


def test_group_goes_where_all_of_it_fits_at_once() -> None:
    run = run_of(
        Function("x", [], code, cost={"cpu": 2}),
        Function("y", [], code, cost={"cpu": 2}, node=collocated("x")),
    )

    effects = run.start(0.0, [node_up("a", {"cpu": 3}), node_up("b", {"cpu": 4})])

    assert assigned(effects) == [("b", [0, 1])]


def test_group_that_no_node_holds_at_once_runs_one_after_the_other_where_each_fits() -> None:
    run = run_of(
        Function("x", [], code, cost={"cpu": 2}),
        Function("y", ["x"], code, cost={"gpu": 1}, node=collocated("x")),
        Function("z", [], code, cost={"cpu": 2}, node=collocated("x")),
    )
    large, right = node_up("a", {"cpu": 3}), node_up("b", {"cpu": 2, "gpu": 1})

    effects = run.start(0.0, [large, right])

    assert {name for name, _ in assigned(effects)} == {"b"}


def test_group_that_no_node_could_ever_run_is_reported() -> None:
    run = run_of(
        Function("x", [], code, cost={"cpu": 2}),
        Function("y", [], code, cost={"gpu": 1}, node=collocated("x")),
        allocation_timeout_s=3.0,
    )
    run.start(0.0, [node_up("a", {"cpu": 2}), node_up("b", {"gpu": 1})])

    (end,) = ends(run.wake(3.0))

    assert isinstance(end.error, AllocationError)


def test_group_moves_when_its_node_leaves() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code, node=collocated("x")))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("b"), 0.2)
    run.handle(node_up("a", leaving=True), 0.3)

    assert assigned(run.handle(completed("a", done(0)), 0.4)) == [("b", [1])]


def hooked() -> RunMachine:
    """x on a, its hook (index 2) there too, and y, which takes it, pinned nowhere."""
    run = run_of(
        Function("x", [], code, node="a"),
        Function("y", [Argument("x", serialize=hook)], code, cost={"gpu": 1}),
    )
    run.start(0.0, [node_up("a"), node_up("b", {"gpu": 1})])
    return run


def test_hook_works_on_its_producers_node_for_the_node_of_its_consumer() -> None:
    run = hooked()

    (tell,) = run.handle(completed("a", done(0)), 0.1)
    on_b = run.handle(completed("a", done(2)), 0.2)

    assert isinstance(tell, Tell)
    assert tell.name == "a"
    (sent,) = tell.message.jobs  # type: ignore[union-attr]
    assert sent.args == [b"v", Text("a"), Text("b")]
    assert assigned(on_b) == [("b", [1])]


def test_hook_that_works_for_a_node_that_is_lost_works_again_for_another() -> None:
    run = hooked()
    run.handle(completed("a", done(0)), 0.1)
    run.handle(NodeDown("b", "gone"), 0.15)
    run.handle(node_up("c", {"gpu": 1}), 0.16)

    again = run.handle(completed("a", done(2)), 0.2)
    on_c = run.handle(completed("a", done(2, attempt=2)), 0.3)

    assert assigned(again) == [("a", [2])]
    assert assigned(on_c) == [("c", [1])]


def test_hook_that_has_worked_for_a_node_that_is_lost_works_again_for_another() -> None:
    run = hooked()
    run.handle(completed("a", done(0)), 0.1)
    run.handle(completed("a", done(2)), 0.2)

    run.handle(NodeDown("b", "gone"), 0.3)
    again = run.handle(node_up("c", {"gpu": 1}), 0.4)

    assert assigned(again) == [("a", [2])]
    run.check()


def test_hook_whose_consumer_has_no_node_keeps_nothing_else_waiting() -> None:
    run = run_of(
        Function("x", [], code),
        Function("y", [Argument("x", serialize=hook)], code, cost={"gpu": 1}),
        Function("w", ["x"], code),
    )
    run.start(0.0, [node_up("a")])

    assert assigned(run.handle(completed("a", done(0)), 0.1)) == [("a", [2])]


# --- Explaining -------------------------------------------------------------------------------------------------


def test_every_unfinished_function_is_explained() -> None:
    program = program_of(
        Function("sent", [], async_code),
        Function("waits", ["sent"], code),
        Function("pinned", [], code, node="nowhere"),
        Function("too much", [], code, cost={"gpu": 1}),
    )
    run = run_of(
        Function("sent", [], async_code),
        Function("waits", ["sent"], code),
        Function("pinned", [], code, node="nowhere"),
        Function("too much", [], code, cost={"gpu": 1}),
    )
    run.start(0.0, [node_up("a"), node_up("b", leaving=True)])

    found = {entry.function_id: entry for entry in explain(program.plan, run.progress, run.dispatcher)}

    assert {name: entry.state for name, entry in found.items()} == {
        "sent": "sent",
        "waits": "waiting",
        "pinned": "ready",
        "too much": "ready",
    }
    assert found["waits"].waits_for == ("sent",)
    assert found["pinned"].nodes["nowhere"] == "is not there"
    assert "less than" in found["too much"].nodes["a"]
    assert "leaves" in found["too much"].nodes["b"]
