import pytest

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import (
    AllocationError,
)
from handoff_actors.graph import Argument, Function, collocated
from handoff_actors.wire.messages.jobs import Ref, Text
from handoff_actors.wire.messages.runs import Assign, Close
from tests.core.builders import (
    RUN,
    assigned,
    code,
    completed,
    done,
    ends,
    hook,
    job_in,
    node_up,
    recalled,
    run_of,
    started,
)


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


@pytest.mark.parametrize(
    ("given", "shown"), [(1, "1 s"), (3.0, "3 s"), (0.5, "0.5 s"), (0.1234567, "0.1234567 s")]
)
@pytest.mark.parametrize(
    ("nodes_may_join", "waited"),
    [
        (True, "joined within allocation_timeout={}."),
        (False, "none can, as this session has no cluster, so allocation_timeout={} was not waited for."),
    ],
)
@pytest.mark.parametrize("node", [None, "elsewhere"])
def test_error_shows_the_time_allowed_as_it_was_given(
    given: float, shown: str, waited: str, node: str | None, *, nodes_may_join: bool
) -> None:
    run = run_of(
        Function("x", [], code, cost={"gpu": 1}, node=node),
        allocation_timeout_s=given,
        nodes_may_join=nodes_may_join,
    )

    at_once = ends(run.start(0.0, [node_up("a")]))
    later = ends(run.wake(given))

    # Where no node can join, the run waits for none.
    assert (len(at_once), len(later)) == ((0, 1) if nodes_may_join else (1, 0))
    (end,) = [*at_once, *later]
    assert waited.format(shown) in str(end.error)


def test_group_moves_when_its_node_leaves() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code, node=collocated("x")))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("b"), 0.2)
    run.handle(node_up("a", leaving=True), 0.3)

    assert assigned(run.handle(completed("a", done(0)), 0.4)) == [("b", [1])]


def hooked() -> RunMachine:
    """A run of x, pinned to a, its hook (index 2), which runs there, too, and y, which takes it and is not pinned."""
    run = run_of(
        Function("x", [], code, node="a"),
        Function("y", [Argument("x", serialize=hook)], code, cost={"gpu": 1}),
    )
    run.start(0.0, [node_up("a"), node_up("b", {"gpu": 1})])
    return run


def test_hook_works_on_its_producers_node_for_the_node_of_its_consumer() -> None:
    run = hooked()

    (effect,) = run.handle(completed("a", done(0)), 0.1)
    on_b = run.handle(completed("a", done(2)), 0.2)

    assert assigned([effect]) == [("a", [2])]
    assert job_in(effect).args == [b"v", Text("a"), Text("b")]
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


def test_hook_works_again_when_the_node_that_has_been_chosen_leaves_and_gives_back_the_consumer() -> None:
    run = hooked()
    run.handle(completed("a", done(0)), 0.1)
    run.handle(completed("a", done(2)), 0.2)
    run.handle(node_up("b", {"gpu": 1}, leaving=True), 0.3)
    run.handle(node_up("c", {"gpu": 1}), 0.4)

    again = run.handle(recalled("b", 1), 0.5)

    assert assigned(again) == [("a", [2])]
    run.check()


def test_stored_value_of_a_hook_for_a_node_that_is_lost_is_not_used() -> None:
    run = hooked()
    run.handle(completed("a", done(0)), 0.1)
    run.handle(completed("a", done(2, value=100)), 0.2)

    run.handle(NodeDown("b", "gone"), 0.3)

    assert assigned(run.handle(node_up("c", {"gpu": 1}), 0.4)) == [("a", [2])]
    run.check()


def test_value_of_a_hook_is_asked_for_as_its_last_attempt_made_it() -> None:
    run = hooked()
    run.handle(completed("a", done(0)), 0.1)
    run.handle(completed("a", done(2, value=100)), 0.2)
    run.handle(NodeDown("b", "gone"), 0.3)
    run.handle(node_up("c", {"gpu": 1}), 0.4)

    (effect,) = run.handle(completed("a", done(2, attempt=2, value=100)), 0.5)

    assert job_in(effect).args == [Ref(2, 100, ["address of a"], 2)]


def test_value_of_a_hook_stays_with_a_leaving_node_until_its_consumer_is_done() -> None:
    run = hooked()
    run.handle(completed("a", done(0)), 0.1)
    run.handle(completed("a", done(2, value=100)), 0.2)
    run.handle(node_up("c"), 0.3)

    leaving = run.handle(node_up("a", leaving=True), 0.4)
    ended = run.handle(completed("b", done(1)), 0.5)

    assert leaving == []
    assert SendToNode("a", Close(RUN)) in ended


def test_hook_whose_consumer_has_no_node_keeps_nothing_else_waiting() -> None:
    run = run_of(
        Function("x", [], code),
        Function("y", [Argument("x", serialize=hook)], code, cost={"gpu": 1}),
        Function("w", ["x"], code),
    )
    run.start(0.0, [node_up("a")])

    assert assigned(run.handle(completed("a", done(0)), 0.1)) == [("a", [2])]


def test_hooks_of_a_group_work_for_one_node() -> None:
    run = run_of(
        Function("x", [], code, node="a"),
        Function("y", [Argument("x", serialize=hook)], code, cost={"gpu": 1}),
        Function("z", [Argument("x", serialize=hook)], code, cost={"gpu": 1}, node=collocated("y")),
    )
    run.start(0.0, [node_up("a"), node_up("b", {"gpu": 2}), node_up("c", {"gpu": 2})])

    effects = run.handle(completed("a", done(0)), 0.1)

    sent = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    jobs = [job for message in sent if isinstance(message, Assign) for job in message.jobs]
    assert [job.args[2] for job in jobs] == [Text("b"), Text("b")]
