"""Placement on many nodes: the indexes answer as a scan of all nodes would."""

from hypothesis import given, settings, strategies as st

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.scheduling.node_index import NodeIndexes, queue_rank
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import MostSpare, Need
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from tests.core.builders import node_state, node_up

NEED = RequirementClass(0, {"cpu": 1.0}, is_async=False)
COSTS = [{"cpu": 1.0}, {"cpu": 2.5}, {"cpu": 1.0, "memory": 300.0}, {}]


def offer(name: str, cpu: float) -> NodeUp:
    return node_up(name, {"cpu": cpu, "memory": 1000.0})


def node(name: str, load: SessionLoad, cpu: float = 2.0) -> NodeState:
    return node_state(offer(name, cpu), load)


def scanned(nodes: list[NodeState], need: RequirementClass) -> tuple[NodeState | None, NodeState | None]:
    """The roomiest node and the shortest queue, by a scan of all nodes."""
    usable = sorted((node for node in nodes if node.usable), key=lambda node: node.name)
    fitting = [node for node in usable if node.fits(need)]
    queueable = [node for node in usable if node.may_queue(need)]
    roomiest = MostSpare().choose(Need("f", need.cost, 0, {}), fitting)
    return roomiest, min(queueable, key=lambda node: queue_rank(node, need), default=None)


def change(data: st.DataObject, node: NodeState, need: RequirementClass) -> None:
    match data.draw(st.sampled_from(["add", "add", "remove", "others", "declare", "flag", "seconds"])):
        case "add":
            node.add([data.draw(st.integers(1_000, 9_999))], need)
        case "others":
            node.set_others({"cpu": data.draw(st.sampled_from([0.0, 1.0]))})
        case "declare":
            event = offer(node.name, data.draw(st.sampled_from([0.0, 1.0, 3.0])))
            node.load.update(event)
            node.update_offer(event)
        case "flag":
            node.load.is_paused = not node.load.is_paused
        case "seconds":
            need.seconds = data.draw(st.sampled_from([0.0001, 0.002, 1.0]))
        case _ if node.sent:
            node.remove([next(iter(node.sent))])
        case _:
            pass


@settings(deadline=None)
@given(st.data())
def test_node_indexes_answer_as_a_scan_of_all_nodes_would(data: st.DataObject) -> None:
    needs = [RequirementClass(number, cost, is_async=False) for number, cost in enumerate(COSTS)]
    load = SessionLoad(salt=data.draw(st.sampled_from(["", "app"])))
    nodes = {name: node(name, load, cpu) for name, cpu in (("a", 2.0), ("b", 2.0), ("c", 1.0), ("d", 4.0))}
    indexes = NodeIndexes(nodes.values(), load)

    for _ in range(data.draw(st.integers(1, 30))):
        name = data.draw(st.sampled_from(sorted(nodes)))
        if data.draw(st.integers(0, 9)):
            change(data, nodes[name], data.draw(st.sampled_from(needs)))
        else:
            indexes.remove(name)
            load.node_down(name)
            nodes[name] = node(name, load, 3.0)
            indexes.add(nodes[name])
        asked = data.draw(st.sampled_from(needs))
        answers = (indexes.roomiest(asked), indexes.shortest_queue(asked))
        assert answers == scanned(list(nodes.values()), asked)


def test_node_indexes_without_nodes_answer_none() -> None:
    indexes = NodeIndexes([], SessionLoad())

    assert indexes.roomiest(NEED) is None
    assert indexes.shortest_queue(NEED) is None


def test_node_that_can_not_be_used_for_a_while_is_passed_over_until_it_can() -> None:
    load = SessionLoad()
    best, second = node("a", load, 3.0), node("b", load)
    indexes = NodeIndexes([best, second], load)
    # The first look at a node's queue notes what others have there, which counts as a change.
    indexes.shortest_queue(NEED)
    before = indexes.roomiest(NEED), indexes.shortest_queue(NEED)

    best.load.is_paused = True
    at_once = indexes.roomiest(NEED), indexes.shortest_queue(NEED)
    still = indexes.roomiest(NEED), indexes.shortest_queue(NEED)
    best.load.is_paused = False
    after = indexes.roomiest(NEED), indexes.shortest_queue(NEED)

    assert before == after == (best, best)
    assert at_once == still == (second, second)
