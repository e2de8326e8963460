"""A function that has failed on a node is tried on another one, if there is one that can take it soon."""

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.facts.phases import READY
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.avoidance import NOWHERE, PATIENCE_S, Avoidance
from handoff_actors.core.run.scheduling.placement import POLICIES, FirstAvailable
from handoff_actors.graph import Function
from handoff_actors.ids import Index
from tests.core.builders import assigned, code, completed, done, failed, node_up, run_of, started

CPU = {"cpu": 1.0}


def one_cpu(name: str) -> NodeUp:
    return node_up(name, CPU, workers=1)


def run_on(*names: str, functions: int = 1, **changes: object) -> RunMachine:
    """A run on nodes of one core each. Its policy is not one of the user's own, which would choose all by itself."""
    options = {"policy": POLICIES["most_spare"]} | changes
    run = run_of(*(Function(number, [], code, cost=CPU) for number in range(functions)), **options)
    run.start(0.0, [one_cpu(name) for name in names])
    return run


def sent(run: RunMachine, name: str) -> list[int]:
    return list(run.scheduler.nodes[name].sent)


def first_node(run: RunMachine) -> str:
    node = run.state.node[0]
    assert node is not None
    return node


def test_function_goes_to_each_node_once_before_it_goes_to_one_again() -> None:
    run, tried = run_on("a", "b", "c", max_retries=5), []
    for attempt in range(1, 7):
        tried.append(first_node(run))
        run.handle(failed(tried[-1], 0, attempt=attempt), float(attempt))

    assert set(tried[:3]) == {"a", "b", "c"}
    assert len(tried) == 6


def test_same_holds_for_every_policy() -> None:
    for policy in POLICIES.values():
        run = run_on("a", "b", policy=policy)
        first = first_node(run)

        run.handle(failed(first, 0), 1.0)

        assert first_node(run) != first


def test_same_holds_for_deaths_of_workers() -> None:
    run = run_on("a", "b")
    first = first_node(run)

    run.handle(failed(first, 0, "worker"), 1.0)

    assert first_node(run) != first


def test_function_is_tried_again_where_it_failed_if_there_is_no_other_node() -> None:
    run = run_on("a")

    assert assigned(run.handle(failed("a", 0), 1.0)) == [("a", [0])]


def test_function_waits_in_the_queue_of_another_node_and_is_not_recalled_from_there() -> None:
    run = run_on("a", "b", functions=2)
    first, other = first_node(run), run.state.node[1]
    assert {first, other} == {"a", "b"}

    run.handle(failed(first, 0), 1.0)

    assert first_node(run) == other
    assert assigned(run.wake(1.0 + PATIENCE_S)) == []


def full_beside_a() -> RunMachine:
    """Function 0 has failed on "a" at 1. On "b" one function runs and one waits, which is as many as it is sent."""
    run = run_on("a", functions=12)
    run.handle(one_cpu("b"), 0.5)
    run.handle(failed("a", 0), 1.0)
    return run


def test_function_waits_for_room_on_another_node_while_others_go_to_the_one_where_it_failed() -> None:
    run = full_beside_a()
    waiting, on_a, on_b = run.state.phase[0], sent(run, "a"), sent(run, "b")

    effects = run.handle(completed("b", done(on_b[0])), 2.0)

    assert (waiting, len(on_a), len(on_b)) == (READY, 2, 2)
    assert assigned(effects) == [("b", [0])]


def test_function_that_has_waited_long_enough_goes_where_it_failed() -> None:
    run = full_beside_a()
    assert run.wake_at == 1.0 + PATIENCE_S
    run.wake(1.0 + PATIENCE_S)
    assert run.wake_at is None

    effects = run.handle(completed("a", done(sent(run, "a")[0])), 7.0)

    assert assigned(effects) == [("a", [0])]


def test_users_own_policy_chooses_all_by_itself() -> None:
    run = run_on("a", "b", policy=FirstAvailable())

    assert assigned(run.handle(failed("a", 0), 1.0)) == [("a", [0])]


def test_function_that_has_succeeded_may_be_made_again_anywhere() -> None:
    avoidance = Avoidance()
    avoidance.failed(Index(0), "a")
    avoidance.remove([Index(0)])

    assert avoidance.failed_on(Index(0)) == NOWHERE


def test_many_nodes_are_searched_for_one_where_it_has_not_failed() -> None:
    run = run_on(*(f"n{number}" for number in range(20)))
    first = first_node(run)

    run.handle(failed(first, 0), 1.0)

    assert first_node(run) != first


def test_lost_input_is_no_reason_to_avoid_a_node() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code))
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=100_000)), 0.2)
    run.handle(node_up("b"), 0.3)

    assert assigned(run.handle(failed("a", 1, "input"), 0.4)) == [("a", [1])]
