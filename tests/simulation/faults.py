"""Faults that may happen in a world."""

from collections.abc import Callable, Sequence
from functools import partial

from handoff_actors.ids import Resources
from tests.simulation.cluster import Cluster
from tests.simulation.network import Path

CAPABILITIES: Sequence[Resources] = (
    {"cpu": 1},
    {"cpu": 2, "memory": 1000},
    {"cpu": 4, "memory": 2000, "license": 1},
    {"cpu": 2, "gpu": 2},
    {"cpu": 1, "memory": 1500, "gpu": 1},
    {"cpu": 3, "license": 2, "memory": 700, "gpu": 3},
)
#: Seconds for which a path is shut, or a node is silent.
SHUT_S = (0.3, 2.0, 5.0, 14.0, 14.0)
MUTE_S = (4.0, 8.0, 14.0, 14.0)
SLOW_S = (0.5, 2.0, 5.0)
SLOWNESS = (2.0, 5.0, 20.0)


def _crash_a_worker(cluster: Cluster, name: str) -> None:
    node = cluster.nodes.get(name)
    if node is not None and node.is_alive:
        node.crash_a_worker()


def _crash_a_node(cluster: Cluster, name: str) -> None:
    node = cluster.nodes.get(name)
    if node is not None and node.is_alive:
        node.crash()
        if cluster.random.random() < 0.7:
            again = partial(cluster.start_node, name, node.machine.capabilities)
            cluster.timeline.after(cluster.random.random(), again)


def meet_a_bug(cluster: Cluster, name: str) -> None:
    """Let a node's machine raise over the next event that comes to it."""
    node = cluster.nodes.get(name)
    if node is not None and node.is_alive:
        node.meet_a_bug()
        cluster.timeline.after(1.0, partial(cluster.start_again, name))


def _cut_a_link(cluster: Cluster, name: str) -> None:
    link = cluster.random.choice(cluster.apps).links.get(name)
    if link is not None:
        link.cut(notify_node=cluster.random.random() < 0.5)


def _start_a_node(cluster: Cluster, name: str) -> None:
    cluster.start_node(f"late {name} {cluster.timeline.now}", cluster.random.choice(CAPABILITIES))


def _let_a_node_leave(cluster: Cluster, name: str) -> None:
    node = cluster.nodes.get(name)
    if node is None or not node.is_alive:
        return
    node.leave()
    if cluster.random.random() < 0.6:
        for delay_s in (0.03, 0.1, 0.3):
            cluster.timeline.after(delay_s, partial(_disturb_copying, cluster))


def _let_a_holder_leave(cluster: Cluster, name: str, tries: int = 20) -> None:
    """Let a node leave that has values, as soon as there is one."""
    holders = [holder for holder, node in cluster.nodes.items() if node.is_alive and node.holds_values]
    if holders:
        _let_a_node_leave(cluster, cluster.random.choice(holders))
    elif tries:
        cluster.timeline.after(0.1, partial(_let_a_holder_leave, cluster, name, tries - 1))


def _disturb_copying(cluster: Cluster) -> None:
    """Let something go wrong where a value is on its way off a node that leaves."""
    for node in cluster.nodes.values():
        link = next((link for peer, _, _ in node.copying if (link := node.links.get(peer)) is not None), None)
        if not node.is_alive or link is None or cluster.random.random() < 0.5:
            continue
        match cluster.random.randrange(4):
            case 0:
                _shut(cluster, link.path)
            case 1:
                link.cut(notify_node=cluster.random.random() < 0.5)
            case 2:
                _slow_a_node_down(cluster, node.name)
            case _:
                node.leave()


def _redeclare_a_node(cluster: Cluster, name: str) -> None:
    node = cluster.nodes.get(name)
    if node is not None:
        node.redeclare(cluster.random.choice(CAPABILITIES))


def _end_an_app(cluster: Cluster, name: str) -> None:
    cluster.random.choice(cluster.apps).die(politely=cluster.random.random() < 0.3)


def _cancel_a_run(cluster: Cluster, name: str) -> None:
    cluster.random.choice(cluster.apps).cancel()


def _shut_one_way(cluster: Cluster, name: str) -> None:
    app = cluster.random.choice(cluster.apps)
    link = app.links.get(name)
    if link is not None:
        _shut(cluster, link.path)


def _shut(cluster: Cluster, path: Path) -> None:
    if not path.is_clear:
        return
    gate = cluster.random.choice((path.to_node, path.to_app))
    shut_s = cluster.random.choice(SHUT_S)
    gate.is_shut = True
    cluster.disturb("shut one way", shut_s)
    cluster.timeline.after(shut_s, gate.open)


def _mute_a_node(cluster: Cluster, name: str) -> None:
    node = cluster.nodes.get(name)
    if node is None or not node.is_alive or node.is_mute:
        return
    mute_s = cluster.random.choice(MUTE_S)
    node.is_mute = True
    cluster.disturb("mute", mute_s)
    cluster.timeline.after(mute_s, node.speak_again)


def _slow_a_node_down(cluster: Cluster, name: str) -> None:
    node = cluster.nodes.get(name)
    if node is None or not node.is_alive or node.slowness > 1:
        return
    slow_s = cluster.random.choice(SLOW_S)
    node.slow_down(cluster.random.choice(SLOWNESS), slow_s)
    cluster.disturb("slow", slow_s)


FAULTS: Sequence[Callable[[Cluster, str], None]] = (
    _crash_a_worker,
    _crash_a_worker,
    _crash_a_node,
    _crash_a_node,
    _cut_a_link,
    _cut_a_link,
    _start_a_node,
    _let_a_node_leave,
    _let_a_holder_leave,
    _let_a_holder_leave,
    _let_a_holder_leave,
    _let_a_holder_leave,
    _redeclare_a_node,
    _redeclare_a_node,
    _end_an_app,
    _cancel_a_run,
    _shut_one_way,
    _shut_one_way,
    _shut_one_way,
    _shut_one_way,
    _shut_one_way,
    _mute_a_node,
    _mute_a_node,
    _mute_a_node,
    _mute_a_node,
    _slow_a_node_down,
    _slow_a_node_down,
    _slow_a_node_down,
)
