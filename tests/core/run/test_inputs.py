import pytest

from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.graph import Function
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.runs import Recall
from tests.core.builders import RUN, assigned, code, completed, done, node_up, run_of

SMALL, LARGE = 10**6, 2 * 10**8
CORE = {"cpu": 1.0}


def function(name: str, *args: str, node: str | None = None) -> Function:
    return Function(name, [*args], code, cost=CORE, node=node)


def begun(*functions: Function, policy: str = "most_spare", nodes: str = "ab") -> RunMachine:
    """A run that has nodes of one core each."""
    run = run_of(*functions, policy=POLICIES[policy])
    run.start(0.0, [node_up(name, CORE, workers=1) for name in nodes])
    return run


@pytest.mark.parametrize(("nbytes", "place"), [(SMALL, "b"), (LARGE, "a")])
def test_function_waits_beside_a_large_input_and_has_a_small_one_moved(nbytes: int, place: str) -> None:
    run = begun(function("make"), function("hold", node="a"), function("use", "make"))

    effects = run.handle(completed("a", done(0, value=nbytes)), 0.5)

    assert assigned(effects) == [(place, [2])]


@pytest.mark.parametrize(
    ("nbytes", "policy", "asked"),
    [
        (SMALL, "most_spare", [SendToNode("a", Recall(RUN, [Ticket(3, 1)], room=1))]),
        (LARGE, "most_spare", []),
        (LARGE, "first_available", [SendToNode("a", Recall(RUN, [Ticket(3, 1)], room=1))]),
    ],
)
def test_function_that_waits_for_its_turn_beside_a_large_input_is_not_called_back(
    nbytes: int, policy: str, asked: list[SendToNode]
) -> None:
    run = begun(
        function("make"), function("busy"), function("hold", node="a"), function("use", "make"), policy=policy
    )
    sent = run.handle(completed("a", done(0, value=nbytes)), 0.5)

    effects = run.handle(completed("b", done(1)), 0.6)

    assert assigned(sent) == [("a", [3])]
    assert effects == asked


def test_function_waits_for_room_where_no_node_may_be_sent_more() -> None:
    functions = [
        function("make"),
        *(function(f"{node} {number}", node=node) for node in "ab" for number in (1, 2)),
    ]
    run = begun(*functions, function("use", "make"))

    effects = run.handle(completed("a", done(0, value=LARGE)), 0.5)

    assert assigned(effects) == [("a", [2])]


@pytest.mark.parametrize(("nbytes", "place"), [(SMALL, "b"), (LARGE, "a")])
def test_waiting_beside_an_input_is_weighed_on_many_nodes_too(nbytes: int, place: str) -> None:
    run = begun(function("make"), function("hold", node="a"), function("use", "make"), nodes="abcdefghij")

    sent = run.handle(completed("a", done(0, value=nbytes)), 0.5)
    later = run.handle(node_up("c", CORE, workers=1), 1.0)

    assert assigned(sent) == [(place, [2])]
    assert later == []


def test_function_that_waits_beside_its_input_is_kept_where_no_other_node_has_room() -> None:
    names = "abcdefghij"
    run = begun(
        function("make"),
        *(function(f"busy {name}", node=name) for name in names),
        function("use", "make"),
        nodes=names,
    )
    run.handle(completed("a", done(0, value=LARGE)), 0.5)
    nodes = run.scheduler.nodes

    assert not run.scheduler.should_stay(11, nodes["b"])
    assert run.scheduler.should_stay(11, nodes["a"])


@pytest.mark.parametrize("nodes", ["ab", "abcdefghij"])
@pytest.mark.parametrize(("nbytes", "place"), [(SMALL, "a"), (LARGE, "b")])
def test_function_that_has_to_wait_anyway_does_so_beside_a_large_input(
    nbytes: int, place: str, nodes: str
) -> None:
    # The node that has the input runs one function, and another waits there; none waits on the other node.
    run = begun(
        function("make", node="b"),
        *(function(f"busy {name}", node=name) for name in nodes),
        function("more", node="b"),
        function("use", "make"),
        nodes=nodes,
    )

    effects = run.handle(completed("b", done(0, value=nbytes, ran_s=0.001)), 0.5)

    sent = {index: name for name, indices in assigned(effects) for index in indices}
    assert sent == {len(nodes) + 1: "b", len(nodes) + 2: place}
