"""Nodes that end by themselves."""

import pytest

from handoff_actors.core.node.events import Leave, LeaveCompleted, LeaveDue, MessageFromPeer, PeerConnected
from handoff_actors.core.node.lifetime import FOREVER, Lifetime, NodeEnd
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import PeerId, RunId
from handoff_actors.wire.messages.runs import Assign, Close

PEER, RUN = PeerId(b"peer"), RunId(1)


def node_with(lifetime: Lifetime) -> NodeMachine:
    node = NodeMachine({"cpu": 1}, 1, 1, lease_s=1000.0, lifetime=lifetime)
    node.start(100.0)
    node.handle(PeerConnected(PEER), 100.0)
    return node


def due(effects: list[object]) -> list[LeaveDue]:
    return [effect for effect in effects if isinstance(effect, LeaveDue)]


def test_a_node_that_has_served_no_run_for_so_long_is_to_leave_once() -> None:
    node = node_with(Lifetime(idle_s=60.0))

    assert due([*node.wake(159.9)]) == []
    assert due([*node.wake(160.0)]) == [LeaveDue("it has served no run for 60 s")]
    assert due([*node.wake(300.0)]) == []


def test_a_node_is_not_idle_while_a_run_is_open_even_if_nothing_runs() -> None:
    node = node_with(Lifetime(idle_s=60.0))
    node.handle(MessageFromPeer(PEER, Assign(RUN, [], [])), 130.0)

    assert due([*node.wake(1000.0)]) == []

    node.handle(MessageFromPeer(PEER, Close(RUN)), 1000.0)

    assert due([*node.wake(1059.0)]) == []
    assert len(due([*node.wake(1060.0)])) == 1


def test_a_node_leaves_when_its_lifetime_is_over_whatever_it_does() -> None:
    node = node_with(Lifetime(idle_s=1e6, drains_after_s=50.0))
    node.handle(MessageFromPeer(PEER, Assign(RUN, [], [])), 130.0)

    assert node.advertisement().ends_at == 150.0
    assert due([*node.wake(149.0)]) == []
    assert due([*node.wake(150.0)]) == [LeaveDue("its lifetime is over")]


def test_a_node_that_leaves_already_is_not_told_to() -> None:
    node = node_with(Lifetime(idle_s=60.0, drains_after_s=70.0))

    node.handle(Leave(), 110.0)
    effects = node.wake(500.0)

    assert due([*effects]) == []
    assert LeaveCompleted() not in effects


@pytest.mark.parametrize(
    ("lifetime_s", "drain_s", "drains_after_s"),
    [(3600.0, 30.0, 3570.0), (40.0, 30.0, 20.0), (None, 30.0, None)],
)
def test_a_node_drains_early_enough_and_works_for_half_of_its_life_at_least(
    lifetime_s: float | None, drain_s: float, drains_after_s: float | None
) -> None:
    assert Lifetime.of(None, lifetime_s, drain_s) == Lifetime(None, drains_after_s)


def test_a_node_without_limits_never_wakes_for_them() -> None:
    end = NodeEnd(FOREVER)
    end.start(0.0)

    assert end.reason(1e9, runs=0) == ""
    assert (end.wake_at, end.ends_at) == (None, None)


def test_a_node_wakes_at_the_earlier_of_its_two_ends() -> None:
    end = NodeEnd(Lifetime(idle_s=10.0, drains_after_s=20.0))
    end.start(0.0)

    assert end.wake_at == 20.0
    assert end.reason(1.0, runs=0) == ""
    assert end.wake_at == 11.0
    assert end.reason(11.0, runs=0) == "it has served no run for 10 s"
    assert end.wake_at is None
