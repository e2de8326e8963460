from msgspec.structs import replace

from handoff_actors.core.cluster.links import (
    BEAT_S,
    CONNECT_S,
    LEFT_S,
    RECONNECT_S,
    CloseLink,
    LinkLost,
    LinksMachine,
    LinkWelcomed,
    NodeAdded,
    NodeChanged,
    NodeEndAnnounced,
    NodeRemoved,
    NodeSuspected,
    OpenLink,
    RenewLeases,
    ReportMember,
    ReportUnreachable,
)
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.wire.messages.members import Advert
from tests.core.cluster.adverts import advert

A = advert("a")


def up(said: Advert = A, *, is_suspect: bool = False) -> NodeUp:
    return NodeUp(
        said.name,
        said.address,
        said.capabilities,
        said.spare,
        said.workers,
        said.leaving,
        is_suspect,
        said.python,
    )


def machine_with_a() -> LinksMachine:
    """Links to one node, whose link, number 1, has been up since 0."""
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)
    machine.handle(LinkWelcomed(1, A), 0.0)
    machine.check()
    return machine


def test_a_node_that_is_added_is_connected_to_and_used_once_it_answers() -> None:
    machine = LinksMachine()

    assert machine.handle(NodeAdded(A, "at-a"), 0.0) == [OpenLink(1, "a", "at-a", CONNECT_S)]
    assert (machine.ups(), machine.adverts(), machine.is_connecting, machine.is_settled) == (
        [],
        [],
        True,
        False,
    )
    assert machine.handle(LinkWelcomed(1, A), 0.1) == [up()]
    assert (machine.ups(), machine.adverts(), machine.is_connecting, machine.is_settled) == (
        [up()],
        [A],
        False,
        True,
    )


def test_without_nodes_no_link_is_connecting() -> None:
    machine = LinksMachine()

    assert (machine.is_connecting, machine.is_settled, machine.wake_at) == (False, True, None)
    assert (machine.link_to("a"), machine.advert_of("a")) == (None, None)


def test_links_settle_without_suspect_nodes() -> None:
    machine = machine_with_a()
    machine.handle(NodeAdded(advert("b"), "at-b"), 0.0)
    settled = [machine.is_settled]

    for is_suspect in (True, False):
        machine.handle(NodeSuspected("b", is_suspect), 0.1)
        settled.append(machine.is_settled)

    assert settled == [False, True, False]


def test_the_advert_in_a_welcome_counts_where_it_is_newer() -> None:
    newer = replace(A, seq=7, workers=3)
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)

    assert machine.handle(LinkWelcomed(1, newer), 0.0) == [up(newer)]
    assert machine.advert_of("a") == newer
    assert machine.handle(LinkWelcomed(1, A), 0.0) == [up(newer)]


def test_another_life_that_answers_is_reported_and_not_used() -> None:
    other = replace(A, incarnation="a2")
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)

    assert machine.handle(LinkWelcomed(1, other), 0.0) == [ReportMember(other)]
    assert machine.ups() == []


def test_a_broken_link_is_made_again_within_a_shorter_time() -> None:
    machine = machine_with_a()

    effects = machine.handle(LinkLost(1, "broke"), 1.0)

    assert effects == [CloseLink(1), NodeDown("a", "broke"), OpenLink(2, "a", "at-a", RECONNECT_S)]
    # Runs that have yet to hear of it still speak to the node of before.
    assert machine.link_to("a") is None
    assert machine.handle(LinkWelcomed(2, A), 1.1) == [up()]
    assert machine.link_to("a") == 2


def test_a_link_that_was_never_welcomed_is_reported_and_given_up() -> None:
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)

    assert machine.handle(LinkLost(1, "refused"), 5.0) == [
        CloseLink(1),
        ReportUnreachable("a", A.incarnation, "refused"),
    ]
    assert machine.link_to("a") is None
    assert not machine.is_connecting


def test_events_of_a_replaced_link_are_ignored() -> None:
    machine = machine_with_a()
    machine.handle(LinkLost(1, "broke"), 1.0)

    assert machine.handle(LinkWelcomed(1, A), 1.0) == []
    assert machine.handle(LinkLost(1, "broke"), 1.0) == []
    machine.check()


def test_another_node_of_the_same_name_takes_its_place() -> None:
    machine = machine_with_a()
    other = replace(A, incarnation="a2")

    effects = machine.handle(NodeAdded(other, "elsewhere"), 1.0)

    assert effects == [
        CloseLink(1),
        NodeDown("a", "another node has its name now"),
        OpenLink(2, "a", "elsewhere", CONNECT_S),
    ]


def test_a_life_that_is_known_already_is_not_connected_to_anew() -> None:
    machine = machine_with_a()
    newer = replace(A, seq=9, running=1)

    assert machine.handle(NodeAdded(A, "at-a"), 1.0) == []
    assert machine.handle(NodeAdded(newer, "at-a"), 1.0) == [up(newer)]


def test_only_newer_adverts_of_the_same_life_count() -> None:
    machine = machine_with_a()
    newer = replace(A, seq=9, running=1)

    assert machine.handle(NodeChanged(newer), 1.0) == [up(newer)]
    assert machine.handle(NodeChanged(newer), 1.0) == []
    assert machine.handle(NodeChanged(replace(newer, incarnation="a2", seq=99)), 1.0) == []
    assert machine.handle(NodeChanged(advert("stranger")), 1.0) == []


def test_a_change_of_a_node_that_is_not_up_is_kept_for_later() -> None:
    newer = replace(A, seq=9, running=1)
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)

    assert machine.handle(NodeChanged(newer), 0.0) == []
    assert machine.handle(NodeSuspected("a", is_suspect=True), 0.0) == []
    assert machine.handle(LinkWelcomed(1, A), 0.1) == [up(newer, is_suspect=True)]


def test_suspicion_and_its_end_reach_the_runs() -> None:
    machine = machine_with_a()

    assert machine.handle(NodeSuspected("a", is_suspect=True), 1.0) == [up(is_suspect=True)]
    assert machine.handle(NodeSuspected("a", is_suspect=False), 2.0) == [up()]
    assert machine.handle(NodeSuspected("stranger", is_suspect=True), 2.0) == []


def test_the_link_to_a_removed_node_is_closed() -> None:
    machine = machine_with_a()

    assert machine.handle(NodeRemoved("a", "left"), 1.0) == [CloseLink(1), NodeDown("a", "left")]
    assert machine.handle(NodeRemoved("a", "left"), 1.0) == []


def test_the_link_to_a_node_that_has_left_is_read_to_its_end() -> None:
    machine = machine_with_a()

    left = machine.handle(NodeEndAnnounced("a", "it has left"), 1.0)
    usable = machine.link_to("a")
    ended = machine.handle(LinkLost(1, "closed"), 1.1)

    assert (left, usable) == ([], 1)
    assert ended == [CloseLink(1), NodeDown("a", "it has left")]
    machine.check()


def test_the_link_to_a_node_that_has_left_is_closed_if_it_does_not_end() -> None:
    machine = machine_with_a()
    machine.handle(NodeEndAnnounced("a", "it has left"), 1.0)
    assert machine.wake(BEAT_S) == [RenewLeases((1,))]

    assert machine.wake_at == 1.0 + LEFT_S
    assert machine.wake(1.0 + LEFT_S) == [CloseLink(1), NodeDown("a", "it has left")]
    assert machine.wake_at is None
    machine.check()


def test_a_node_that_leaves_before_it_is_up_is_given_up_at_once() -> None:
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)

    assert machine.handle(NodeEndAnnounced("a", "it has left"), 1.0) == [CloseLink(1)]
    assert machine.handle(NodeEndAnnounced("b", "it has left"), 1.0) == []


def test_the_next_life_of_a_node_that_has_left_takes_its_place_at_once() -> None:
    machine = machine_with_a()
    machine.handle(NodeEndAnnounced("a", "it has left"), 1.0)

    effects = machine.handle(NodeAdded(advert("a", "2"), "at-a"), 1.1)

    assert effects[-1] == OpenLink(2, "a", "at-a", CONNECT_S)
    assert machine.wake_at == BEAT_S
    machine.check()


def test_runs_are_not_told_of_the_end_of_a_node_that_was_never_up() -> None:
    machine = LinksMachine()
    machine.handle(NodeAdded(A, "at-a"), 0.0)

    assert machine.handle(NodeRemoved("a", "left"), 1.0) == [CloseLink(1)]


def test_leases_are_renewed_while_there_are_links() -> None:
    machine = machine_with_a()
    assert machine.wake_at == BEAT_S
    assert machine.wake(BEAT_S - 0.1) == []

    machine.handle(NodeAdded(advert("b"), "at-b"), 1.0)

    assert machine.wake(BEAT_S) == [RenewLeases((1, 2))]
    assert machine.wake_at == 2 * BEAT_S
    machine.handle(NodeRemoved("a", "left"), BEAT_S)
    machine.handle(NodeRemoved("b", "left"), BEAT_S)
    assert machine.wake_at is None
    assert machine.wake(9.0) == []


def test_nodes_are_listed_by_name() -> None:
    machine = machine_with_a()
    b, c = advert("b"), advert("c")
    for number, said in ((2, c), (3, b)):
        machine.handle(NodeAdded(said, "somewhere"), 0.0)
        machine.handle(LinkWelcomed(number, said), 0.0)

    assert machine.adverts() == [A, b, c]
    assert [node.name for node in machine.ups()] == ["a", "b", "c"]


def test_nodes_without_workers_are_told_what_waits() -> None:
    machine = machine_with_a()
    machine.handle(NodeAdded(replace(advert("starter"), workers=0), "at-starter"), 1.0)

    assert machine.wake(BEAT_S) == [RenewLeases((1, 2), (2,))]


def test_runs_hear_what_a_node_can_start() -> None:
    machine = machine_with_a()

    changed = replace(A, seq=2, can_start={"cpu": 4.0}, can_start_for_s=3600.0)
    (heard,) = machine.handle(NodeChanged(changed), 1.0)

    assert isinstance(heard, NodeUp)
    assert (heard.can_start, heard.can_start_for_s) == ({"cpu": 4.0}, 3600.0)


def test_the_end_of_a_node_counts_from_when_its_advert_comes_and_does_not_tremble() -> None:
    links = LinksMachine()
    links.handle(NodeAdded(replace(advert("a"), ends_in_s=60.0), "address of a"), 100.0)
    [up] = links.handle(LinkWelcomed(1, replace(advert("a"), seq=2, ends_in_s=59.0)), 101.3)

    assert isinstance(up, NodeUp)
    assert up.ends_at == 160.0

    [up] = links.handle(NodeChanged(replace(advert("a"), seq=3, ends_in_s=500.0)), 110.0)
    assert isinstance(up, NodeUp)
    assert up.ends_at == 610.0

    [up] = links.handle(NodeChanged(replace(advert("a"), seq=4)), 111.0)
    assert isinstance(up, NodeUp)
    assert up.ends_at is None
