"""A user's placement policy sees nodes, and can't change them."""

from collections.abc import Sequence
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.client.policy import UserPolicy
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from tests.core import builders

NEED = handoff.Need("f", {"cpu": 1.0}, 0, {})


OFFERED = {"cpu": 4.0, "gpu": 1.0}


def offer(name: str = "n1", *, cpu: float = 4.0, claimed: float = 0.0, workers: int = 4) -> NodeUp:
    offered = OFFERED | {"cpu": cpu}
    return NodeUp(name, f"tcp://{name}", offered, offered | {"cpu": cpu - claimed}, workers, python="3.12")


def node_state(name: str = "n1", *, claimed: float = 0.0) -> NodeState:
    return builders.node_state(offer(name, claimed=claimed))


def one_core() -> RequirementClass:
    return RequirementClass(0, {"cpu": 1.0}, is_async=False)


class Takes:
    """A policy that notes what it is given, and takes the node at an index."""

    def __init__(self, at: int = 0) -> None:
        self._at = at
        self.seen: list[list[handoff.NodeView]] = []

    def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
        self.seen.append(list(nodes))
        return nodes[self._at]


def view_of(node: NodeState) -> handoff.NodeView:
    policy = Takes()
    UserPolicy(policy).choose(NEED, [node])
    [[view]] = policy.seen
    return view


def test_view_says_how_the_node_stands() -> None:
    node = node_state(claimed=0.5)
    node.add([0], one_core())
    node.add_follower(1, one_core())

    view = view_of(node)

    assert (view.name, view.address, view.python) == ("n1", "tcp://n1", "3.12")
    assert view.capabilities == {"cpu": 4.0, "gpu": 1.0}
    assert view.spare == {"cpu": 2.5, "gpu": 1.0}
    assert (view.workers, view.spare_workers, view.functions) == (4, 3, 2)
    assert repr(view) == "<NodeView 'n1': {'cpu': 2.5, 'gpu': 1.0} spare>"


def test_view_is_always_of_the_present() -> None:
    node = node_state()
    view = view_of(node)

    node.add([0], one_core())
    node.update_offer(offer(cpu=2.0, workers=2))

    assert (view.functions, view.workers, view.capabilities) == (1, 2, {"cpu": 2.0, "gpu": 1.0})


PUBLIC = [name for name in vars(handoff.NodeView) if not name.startswith("_")]


@pytest.mark.parametrize("name", [*PUBLIC, "colour"])
def test_view_cannot_be_assigned_to(name: str) -> None:
    view = view_of(node_state())

    with pytest.raises(AttributeError):
        setattr(view, name, 1)


@pytest.mark.parametrize("name", ["capabilities", "spare"])
def test_resources_of_a_view_are_not_the_schedulers(name: str) -> None:
    node = node_state()
    resources: Any = getattr(view_of(node), name)

    with pytest.raises(TypeError):
        resources["cpu"] = 100.0

    assert node.capabilities["cpu"] == node.spare["cpu"] == 4.0


def test_each_node_has_one_view() -> None:
    nodes = [node_state("n1"), node_state("n2")]
    policy = Takes(1)
    asked = UserPolicy(policy)

    chosen = [asked.choose(NEED, nodes), asked.choose(NEED, nodes[::-1])]

    assert chosen == [nodes[1], nodes[0]]
    first, second = policy.seen
    assert first[0] is second[1]
    assert first[1] is second[0]


def test_node_that_comes_back_has_another_view() -> None:
    policy = Takes()
    asked = UserPolicy(policy)
    earlier, later = node_state(), node_state()

    asked.choose(NEED, [earlier])

    assert asked.choose(NEED, [later]) is later
    [[before], [after]] = policy.seen
    assert before is not after


def test_view_that_was_not_given_is_refused() -> None:
    class Remembers:
        def __init__(self) -> None:
            self._first: handoff.NodeView | None = None

        def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
            self._first = self._first or nodes[0]
            return self._first

    asked = UserPolicy(Remembers())
    asked.choose(NEED, [node_state("n1")])

    with pytest.raises(handoff.HandoffError, match=r"Remembers.*'n1'.*'f'.*given: n2"):
        asked.choose(NEED, [node_state("n2")])


def test_policy_may_choose_none() -> None:
    class Declines:
        def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
            return None

    assert UserPolicy(Declines()).choose(NEED, [node_state()]) is None
