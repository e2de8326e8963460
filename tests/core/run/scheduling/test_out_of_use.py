"""A node that is out of use gets nothing while another one could do it, and all that no other could."""

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.graph import Function
from tests.core.builders import assigned, code, completed, done, node_up, run_of, started
from tests.core.run.endings.test_drain import LARGE, copies

BROKEN = "it fails everything"
CPU = {"cpu": 1.0}


def functions(count: int) -> list[Function]:
    return [Function(number, [], code, cost=CPU) for number in range(count)]


def names(run: RunMachine, *nodes: object) -> set[str]:
    return {name for name, _ in assigned(run.start(0.0, nodes))}  # type: ignore[arg-type]


def test_functions_wait_for_another_node_rather_than_go_to_one_that_is_out_of_use() -> None:
    run = run_of(*functions(20))

    assert names(run, node_up("a", out_of_use=BROKEN), node_up("b")) == {"b"}
    assert {name for name, _ in assigned(run.handle(completed("b", done(0)), 1.0))} == {"b"}


def test_node_is_used_again_once_it_says_so() -> None:
    run = run_of(*functions(20))
    names(run, node_up("a", out_of_use=BROKEN), node_up("b"))

    assert {name for name, _ in assigned(run.handle(node_up("a"), 1.0))} == {"a"}


def test_all_nodes_are_used_if_all_are_out_of_use() -> None:
    run = run_of(*functions(20))

    assert names(run, node_up("a", out_of_use=BROKEN), node_up("b", out_of_use=BROKEN)) == {"a", "b"}


def test_node_that_is_out_of_use_gets_what_no_other_one_could_ever_do() -> None:
    run = run_of(*functions(2), Function("gpu", [], code, cost={"gpu": 1.0}))

    assert names(run, node_up("a", {"cpu": 2.0, "gpu": 1.0}, out_of_use=BROKEN), node_up("b")) == {"a", "b"}


def test_node_that_is_out_of_use_gets_all_when_the_others_are_gone() -> None:
    run = run_of(*functions(3))
    names(run, node_up("a", out_of_use=BROKEN), node_up("b"))

    assert {name for name, _ in assigned(run.handle(NodeDown("b", "gone"), 1.0))} == {"a"}


def test_pinned_functions_go_to_a_node_that_is_out_of_use() -> None:
    run = run_of(Function("pinned", [], code, node="a"))

    assert names(run, node_up("a", out_of_use=BROKEN), node_up("b")) == {"a"}


def test_every_policy_keeps_away_from_it() -> None:
    for policy in POLICIES.values():
        run = run_of(*functions(20), policy=policy)

        assert names(run, node_up("a", out_of_use=BROKEN), node_up("b")) == {"b"}


def test_one_of_many_nodes_that_is_out_of_use_gets_nothing() -> None:
    run = run_of(*functions(200))
    others = [node_up(f"n{number}") for number in range(20)]

    assert names(run, node_up("a", out_of_use=BROKEN), *others) == {node.name for node in others}


def test_input_on_a_node_that_is_out_of_use_draws_no_function_there() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("a", out_of_use=BROKEN), 0.2)
    run.handle(node_up("b"), 0.2)

    assert assigned(run.handle(completed("a", done(0, value=LARGE)), 0.3)) == [("b", [1])]


def test_explanation_says_that_a_node_is_out_of_use() -> None:
    run = run_of(*functions(20))
    names(run, node_up("a", out_of_use=BROKEN), node_up("b"))

    waiting = [entry for entry in run.view.explain() if entry.state == "ready"]

    assert {entry.nodes["a"] for entry in waiting} == {f"is out of use: {BROKEN}"}


def test_values_of_a_node_that_leaves_go_to_one_that_is_in_use() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code, node="c"))
    run.handle(node_up("z"), 0.1)
    run.handle(completed("z", done(0, value=LARGE)), 0.2)
    run.handle(node_up("a", out_of_use=BROKEN), 0.3)
    run.handle(node_up("b"), 0.3)

    assert copies(run.handle(node_up("z", leaving=True), 0.4)) == [("b", [0])]
