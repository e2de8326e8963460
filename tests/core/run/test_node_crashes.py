"""A run does not walk through a cluster and end node after node by what the nodes make of it."""

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.retries import MAX_NODE_CRASHES
from handoff_actors.core.run.events import MessageFromNode, RunEffect
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import NodeLost
from handoff_actors.graph import Function
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.runs import Crashed
from tests.core.builders import RUN, assigned, code, ends, node_up, run_of

NEIGHBOUR = RunId(8)
REASON = "KeyError: 5"


def run_on(nodes: int) -> RunMachine:
    run = run_of(*(Function(f"f{number}", [], code) for number in range(2 * nodes)))
    run.start(0.0, [node_up(f"n{number}") for number in range(nodes)])
    return run


def crash(run: RunMachine, name: str, now: float, concerned: RunId | None = RUN) -> list[RunEffect]:
    said = run.handle(MessageFromNode(name, Crashed(concerned, REASON)), now)
    return said + run.handle(NodeDown(name, "the connection was closed"), now + 0.01)


def test_functions_of_a_node_that_crashed_go_to_another() -> None:
    run = run_on(2)
    lost = sorted(run.scheduler.nodes["n0"].sent)

    effects = crash(run, "n0", 1.0)

    assert ends(effects) == []
    assert {node.name for node in run.scheduler.nodes.values()} == {"n1"}
    assert [(name, sorted(indices)) for name, indices in assigned(effects)] == [("n1", lost)]
    run.check()


def test_run_that_has_made_too_many_nodes_crash_is_given_up() -> None:
    run = run_on(MAX_NODE_CRASHES + 2)

    for number in range(MAX_NODE_CRASHES - 1):
        crash(run, f"n{number}", 1.0 + number)
    assert not run.is_over
    name = f"n{MAX_NODE_CRASHES - 1}"
    crash(run, name, 9.0)
    for left in list(run.scheduler.nodes):
        effects = run.handle(NodeDown(left, "gone"), 10.0)

    (end,) = ends(effects)
    assert isinstance(end.error, NodeLost)
    assert end.error.node == name
    assert f"the last of {MAX_NODE_CRASHES} nodes that ended because of a bug of their own" in str(end.error)
    assert REASON in str(end.error)


def test_crashes_that_are_another_runs_are_lost_nodes_and_no_more() -> None:
    run = run_on(MAX_NODE_CRASHES + 2)

    for number in range(MAX_NODE_CRASHES + 1):
        crash(run, f"n{number}", 1.0 + number, NEIGHBOUR)

    assert not run.is_over
    run.check()


def test_crash_of_unknown_cause_counts_where_the_run_had_functions() -> None:
    idle, busy = run_of(Function("x", [], code, node="n9")), run_on(MAX_NODE_CRASHES + 2)
    idle.start(0.0, [node_up("n9"), *(node_up(f"n{number}") for number in range(MAX_NODE_CRASHES))])

    for number in range(MAX_NODE_CRASHES):
        for run in (idle, busy):
            crash(run, f"n{number}", 1.0 + number, None)

    assert run_is_failing(busy)
    assert not run_is_failing(idle)


def run_is_failing(run: RunMachine) -> bool:
    """True if the run ends with an error once all its nodes are gone."""
    effects = [effect for name in list(run.scheduler.nodes) for effect in run.handle(NodeDown(name, ""), 9.0)]
    return bool(ends(effects))


def test_last_words_count_once_and_no_work_follows_them() -> None:
    run = run_of(*(Function(f"f{number}", [], code) for number in range(9)))
    run.start(0.0, [node_up("n0", workers=1)])

    effects = [run.handle(MessageFromNode("n0", Crashed(RUN, REASON)), 1.0 + number) for number in range(9)]
    later = run.handle(node_up("n0", workers=1, spare={"cpu": 1.0}), 11.0)

    assert effects == [[]] * 9
    assert later == []
    assert not run.is_over
