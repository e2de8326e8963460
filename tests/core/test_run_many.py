"""A run on more nodes than are looked at one by one."""

from core.builders import RUN, assigned, code, completed, done, node_up, run_of
from handoff_actors.core.dispatcher import FEW_NODES
from handoff_actors.core.rebalance import LOOK_S
from handoff_actors.core.run_events import NodeDown, NodeUp, Tell
from handoff_actors.graph import Function
from handoff_actors.wire.messages import Recall, Ticket

MANY = FEW_NODES + 2
NAMES = [f"n{number:02d}" for number in range(MANY)]


def nodes(cpu: float = 1.0, **others: float) -> list[NodeUp]:
    return [node_up(name, {"cpu": others.get(name, cpu)}) for name in NAMES]


def functions(count: int) -> list[Function]:
    return [Function(f"f{number}", [], code, cost={"cpu": 1}) for number in range(count)]


def test_functions_go_to_the_roomiest_of_many_nodes() -> None:
    run = run_of(*functions(1))

    effects = run.start(0.0, nodes(n07=4.0))

    assert assigned(effects) == [("n07", [0])]
    run.check()


def test_each_of_many_nodes_gets_one_before_any_gets_one_to_queue() -> None:
    run = run_of(*functions(MANY + 1))

    effects = run.start(0.0, nodes())

    assert assigned(effects) == [
        ("n00", [0, MANY]),
        *((name, [index]) for index, name in enumerate(NAMES) if index),
    ]
    run.check()


def test_function_goes_to_the_holder_of_its_input_among_many_nodes() -> None:
    run = run_of(
        Function("x", [], code, cost={"cpu": 1}),
        Function("y", ["x"], code, cost={"cpu": 1}),
    )
    run.start(0.0, nodes(2.0, n03=3.0))

    effects = run.handle(completed("n03", done(0, value=50_000_000)), 1.0)

    assert assigned(effects) == [("n03", [1])]


def test_node_that_is_gone_is_not_chosen_among_many_nodes() -> None:
    run = run_of(*functions(1))
    run.start(0.0, nodes(n03=3.0))

    effects = run.handle(NodeDown("n03", "gone"), 1.0)

    assert assigned(effects) == [("n00", [0])]


def test_work_is_called_back_on_many_nodes_now_and_then() -> None:
    run = run_of(*functions(MANY + 1))
    run.start(0.0, nodes())
    soon = LOOK_S * MANY / 2

    at_once = run.handle(completed("n01", done(1)), soon)
    later = run.handle(completed("n02", done(2)), 1.0)

    assert at_once == []
    assert later == [Tell("n00", Recall(RUN, [Ticket(MANY, 1)]))]
