"""Functions whose last suitable node leaves: running ones end, the others wait for another node as if there were none."""

from collections.abc import Sequence

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import RunEffect
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import AllocationError, NodeLost
from handoff_actors.graph import Function
from tests.core.builders import (
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

GPU = {"cpu": 2.0, "gpu": 1.0}


def end_of(effects: Sequence[RunEffect]) -> object:
    """The error, or None, with which a run ends that no node has to close."""
    [end] = ends([*effects])
    return end.error


def one_after_the_other(**changes: object) -> RunMachine:
    """`second` takes the result of `first`, which runs on "a"; the node leaves at 1."""
    first, second = Function("first", [], code), Function("second", ["first"], code)
    run = run_of(first, second, allocation_timeout_s=10.0, **changes)
    run.start(0.0, [node_up("a")])
    run.handle(node_up("a", leaving=True), 1.0)
    return run


def test_function_that_runs_on_the_last_node_that_leaves_goes_on_to_its_end() -> None:
    run = started(Function("only", [], code), allocation_timeout_s=10.0)
    run.handle(node_up("a"), 0.0)
    run.handle(node_up("a", leaving=True), 1.0)

    assert run.wake_at is None
    assert run.wake(20.0) == []
    assert end_of(run.handle(completed("a", done(0)), 25.0)) is None


def test_time_for_another_node_begins_when_the_one_that_leaves_runs_nothing_more() -> None:
    run = one_after_the_other()
    assert run.wake(20.0) == []

    run.handle(completed("a", done(0)), 25.0)

    assert run.wake_at == 35.0
    run.wake(35.0)
    error = error_of(run)
    assert isinstance(error, AllocationError)
    assert error.leaving == ["a"]
    assert str(error) == (
        "function 'second' needs a node; node 'a', which could run it, leaves the cluster, and no other that does has "
        "joined within allocation_timeout=10 s. The nodes there are: a leaves, and until then offers {'cpu': 2.0}"
    )


def test_node_that_joins_meanwhile_gets_the_functions_that_wait() -> None:
    run = one_after_the_other()
    run.handle(completed("a", done(0)), 25.0)

    assert assigned(run.handle(node_up("b"), 34.0)) == [("b", [1])]


def test_functions_that_come_back_from_a_node_that_leaves_wait_until_those_that_run_have_ended() -> None:
    run = started(
        *(Function(number, [], code, cost={"cpu": 1.0}) for number in range(3)), allocation_timeout_s=10.0
    )
    run.handle(node_up("a", {"cpu": 1.0}), 0.0)
    run.handle(node_up("a", {"cpu": 1.0}, leaving=True), 1.0)
    run.handle(recalled("a", 1, 2), 1.1)
    assert run.wake(12.0) == []

    run.handle(completed("a", done(0)), 15.0)

    assert run.wake_at == 25.0


def test_loss_of_the_node_that_leaves_starts_the_time_for_another_one() -> None:
    run = one_after_the_other()
    run.wake(20.0)

    run.handle(NodeDown("a", "it has left"), 30.0)

    assert run.wake_at == 40.0


def test_nodes_that_could_not_run_the_function_hold_nothing_up() -> None:
    run = started(
        Function("here", [], code),
        Function("gpu", [], code, cost={"gpu": 1.0}),
        allocation_timeout_s=10.0,
    )
    run.handle(node_up("a"), 0.0)
    run.handle(node_up("g", GPU, leaving=True), 1.0)

    assert run.wake_at == 10.0
    run.wake(10.0)
    error = error_of(run)
    assert isinstance(error, AllocationError)
    assert "node 'g', which offers it, leaves the cluster" in str(error)
    assert "g leaves, and until then offers" in str(error)


def test_several_nodes_that_leave_are_all_named() -> None:
    run = started(Function("only", [], code, cost={"cpu": 1.0}), allocation_timeout_s=10.0)
    run.handle(node_up("a", leaving=True), 0.0)
    run.handle(node_up("b", leaving=True), 0.0)

    error = end_of(run.wake(10.0))

    assert "nodes 'a' and 'b', which offer it, leave the cluster" in str(error)


def test_function_pinned_to_a_node_that_leaves_waits_for_one_of_that_name() -> None:
    run = started(Function("pinned", [], code, node="a"), allocation_timeout_s=10.0)
    run.handle(node_up("a", leaving=True), 0.0)
    run.handle(node_up("b"), 0.0)

    error = end_of(run.wake(10.0))

    assert isinstance(error, NodeLost)
    assert str(error) == (
        "node 'a': function 'pinned' is pinned to it; it leaves, and no other node of that name has joined within "
        "allocation_timeout=10 s"
    )


def test_running_functions_end_where_no_node_can_join() -> None:
    run = one_after_the_other(nodes_may_join=False)
    assert run.wake(20.0) == []

    run.handle(completed("a", done(0)), 25.0)

    assert isinstance(error_of(run), AllocationError)


def test_functions_that_wait_fail_alone_if_the_run_goes_on_after_failures() -> None:
    run = one_after_the_other(on_failure="continue")
    run.handle(completed("a", done(0)), 25.0)

    assert end_of(run.wake(35.0)) is None
    assert list(run.state.failures) == [1]
    assert run.state.inline[0] == b"v"
