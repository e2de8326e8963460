import pytest

from handoff_actors.core.cluster import membership
from handoff_actors.core.cluster.membership import (
    COMPARE_S,
    DOUBT_S,
    FORGET_S,
    FULL_REPORT_S,
    GONE_S,
    SEED_RETRY_S,
    SUSPECT_S,
    AdvertReceived,
    Introduce,
    MemberChanged,
    MemberDown,
    MembershipFull,
    MembershipMachine,
    MembersReported,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
    SetSeeds,
    Subscribe,
    Unsubscribe,
)
from handoff_actors.wire.messages.members import Advert
from tests.core.cluster.adverts import advert

SILENCE = f"nothing was heard of it for {GONE_S:g} s"
SUSPECTED = MemberSuspected("a", is_suspect=True)
CLEARED = MemberSuspected("a", is_suspect=False)
REPLACED = "another node of that name has taken its place"
#: The time at which a member last heard of at 0 is gone.
GIVEN_UP_S = GONE_S + DOUBT_S


def machine_with(*adverts: Advert) -> MembershipMachine:
    """A view to which these were reported at 0."""
    machine = MembershipMachine()
    machine.handle(MembersReported(adverts), 0.0)
    return machine


def given_up(machine: MembershipMachine) -> float:
    """Let a member last heard of at 0 be given up, and return the time of that."""
    machine.wake(GONE_S)
    machine.wake(GIVEN_UP_S)
    return GIVEN_UP_S


# --- Joining --------------------------------------------------------------------------------------------------


def test_reported_member_is_present_and_subscribed_to() -> None:
    machine = MembershipMachine()

    effects = machine.handle(MembersReported([advert("b"), advert("a")]), 0.0)

    assert effects == [
        Subscribe("bus-b1"),
        MemberUp(advert("b")),
        Subscribe("bus-a1"),
        MemberUp(advert("a")),
    ]
    assert machine.alive() == [advert("a"), advert("b")]
    machine.check()


def test_member_that_publishes_before_it_is_reported_is_present() -> None:
    machine = MembershipMachine()

    assert machine.handle(AdvertReceived(advert("a")), 0.0) == [Subscribe("bus-a1"), MemberUp(advert("a"))]


def test_reports_of_a_present_member_change_nothing() -> None:
    machine = machine_with(advert("a"))

    assert machine.handle(MembersReported([advert("a", seq=9)]), 1.0) == []
    assert machine.alive() == [advert("a")]
    assert machine.wake_at == SUSPECT_S


def test_members_are_counted_while_they_are_present() -> None:
    machine = machine_with(advert("a"), advert("b"))
    before = machine.size

    given_up(machine)

    assert (before, machine.size) == (2, 0)


def test_own_node_is_no_member() -> None:
    machine = MembershipMachine("a1", "a")

    assert machine.handle(MembersReported([advert("a")]), 0.0) == []
    assert machine.alive() == []
    machine.check()


def test_check_finds_two_members_of_one_name_and_the_own_node_among_the_members() -> None:
    twins = machine_with(advert("a", "1"))
    twins._members["a0"] = twins._members["a1"]
    own = machine_with(advert("a"))
    own._own = "a1"

    with pytest.raises(AssertionError, match="two members of one name"):
        twins.check()
    with pytest.raises(AssertionError, match="among its own members"):
        own.check()


# --- Adverts --------------------------------------------------------------------------------------------------


def test_newer_advert_replaces_the_older_one() -> None:
    machine = machine_with(advert("a"))

    effects = machine.handle(AdvertReceived(advert("a", seq=2)), 1.0)

    assert effects == [MemberChanged(advert("a", seq=2))]
    assert machine.alive() == [advert("a", seq=2)]


@pytest.mark.parametrize("seq", [1, 2])
def test_advert_that_comes_late_or_twice_proves_life_and_changes_nothing(seq: int) -> None:
    machine = machine_with(advert("a", seq=2))

    assert machine.handle(AdvertReceived(advert("a", seq=seq)), 3.0) == []
    assert machine.alive() == [advert("a", seq=2)]
    assert machine.wake_at == 3.0 + SUSPECT_S


def test_member_with_another_view_is_asked_but_not_at_every_advert() -> None:
    machine = machine_with(advert("a"))
    odd = [advert("a", seq=seq, view=machine.view() + 1) for seq in range(6)]

    at_once = machine.handle(AdvertReceived(odd[2]), COMPARE_S / 2)
    later = machine.handle(AdvertReceived(odd[3]), COMPARE_S)
    soon_after = machine.handle(AdvertReceived(odd[4]), COMPARE_S + 0.1)
    again = machine.handle(AdvertReceived(odd[5]), 2 * COMPARE_S)

    assert at_once == [MemberChanged(odd[2])]
    assert later == [MemberChanged(odd[3]), Introduce("at-a")]
    assert soon_after == [MemberChanged(odd[4])]
    assert again == [MemberChanged(odd[5]), Introduce("at-a")]


def test_member_with_the_same_view_is_not_asked() -> None:
    machine = machine_with(advert("a"))
    same = advert("a", seq=2, view=machine.view())

    assert machine.handle(AdvertReceived(same), COMPARE_S) == [MemberChanged(same)]


def test_views_of_two_nodes_and_a_session_are_the_same_in_whatever_order_they_learned() -> None:
    first, second, session = MembershipMachine("a1", "a"), MembershipMachine("b1", "b"), MembershipMachine()

    first.handle(MembersReported([advert("b"), advert("c")]), 0.0)
    second.handle(MembersReported([advert("c"), advert("a")]), 0.0)
    session.handle(MembersReported([advert("c"), advert("b"), advert("a")]), 0.0)

    assert first.view() == second.view() == session.view() != machine_with(advert("a")).view()


# --- Leaving --------------------------------------------------------------------------------------------------


def test_silent_member_is_in_doubt_and_then_gone_and_then_forgotten() -> None:
    machine = machine_with(advert("a"))

    doubt = machine.wake(GONE_S)
    in_doubt = machine.alive()
    wake_at = machine.wake_at
    down = machine.wake(GIVEN_UP_S)

    assert (doubt, in_doubt, wake_at) == ([SUSPECTED], [advert("a")], GIVEN_UP_S)
    assert down == [MemberDown("a", "a1", SILENCE)]
    assert machine.alive() == []
    assert machine.wake_at == GIVEN_UP_S + FORGET_S
    assert machine.wake(GIVEN_UP_S + FORGET_S) == [Unsubscribe("bus-a1")]
    assert machine.wake_at is None


def test_stalled_place_drops_no_member_whose_adverts_lie_unread() -> None:
    machine = machine_with(advert("a"))

    woken = machine.wake(60.0)
    read = machine.handle(AdvertReceived(advert("a", seq=2)), 60.0 + DOUBT_S / 2)

    assert woken == [SUSPECTED]
    assert read == [CLEARED, MemberChanged(advert("a", seq=2)), Introduce("at-a")]
    assert machine.wake(60.0 + DOUBT_S) == []
    assert machine.wake_at == 60.0 + DOUBT_S / 2 + SUSPECT_S


def test_nothing_happens_before_its_time() -> None:
    machine = machine_with(advert("a"))

    assert machine.wake(SUSPECT_S - 0.1) == []
    assert machine.wake_at == SUSPECT_S


def test_member_that_is_silent_for_a_while_is_suspect_until_it_publishes() -> None:
    machine = machine_with(advert("a"))

    silent = machine.wake(SUSPECT_S)
    suspects, wake_at = machine.suspects(), machine.wake_at
    late = machine.handle(AdvertReceived(advert("a")), SUSPECT_S + 1)

    assert (silent, suspects, wake_at) == ([SUSPECTED], ["a"], GONE_S)
    assert late == [CLEARED]
    assert machine.suspects() == []


def test_newcomer_suspects_the_members_that_others_suspect() -> None:
    machine = MembershipMachine()

    effects = machine.handle(MembersReported([advert("a"), advert("b")], ["a", "b2"]), 0.0)
    machine.handle(MembersReported([advert("b")], ["b"]), 0.1)

    assert SUSPECTED in effects
    assert machine.suspects() == ["a"]
    assert machine.wake_at == SUSPECT_S


def test_unreachable_member_is_gone_at_once_and_stays_subscribed_to() -> None:
    machine = machine_with(advert("a"))

    assert machine.handle(MemberUnreachable("a", "a1", "refused"), 1.0) == [MemberDown("a", "a1", "refused")]
    assert machine.alive() == []
    assert machine.wake_at == 1.0 + FORGET_S


def test_unknown_and_gone_members_are_not_lost_again() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberUnreachable("a", "a1", "refused"), 1.0)

    assert machine.handle(MemberUnreachable("a", "a1", "refused"), 2.0) == []
    assert machine.handle(MemberUnreachable("b", "b1", "refused"), 2.0) == []


# --- Coming back ----------------------------------------------------------------------------------------------


def test_reports_do_not_bring_back_a_member_that_never_published() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)

    assert machine.handle(MembersReported([advert("a", seq=9)]), now) == []
    assert machine.alive() == []


def test_reports_do_not_bring_back_an_unreachable_member() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberUnreachable("a", "a1", "refused"), 1.0)

    assert machine.handle(MembersReported([advert("a", seq=9)]), 2.0) == []


def test_adverts_from_before_it_was_gone_do_not_bring_a_member_back() -> None:
    machine = machine_with(advert("a", seq=5))
    now = given_up(machine)

    assert machine.handle(AdvertReceived(advert("a", seq=5)), now) == []
    assert machine.alive() == []


def test_gone_member_that_publishes_a_new_advert_is_back() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)

    effects = machine.handle(AdvertReceived(advert("a", seq=2)), now)

    assert effects == [Subscribe("bus-a1"), MemberUp(advert("a", seq=2))]
    assert machine.alive() == [advert("a", seq=2)]
    assert machine.wake_at == now + SUSPECT_S


# --- One name, several lives ----------------------------------------------------------------------------------


def test_later_life_takes_the_place_of_the_earlier_one() -> None:
    machine = machine_with(advert("a", "1"))

    effects = machine.handle(MembersReported([advert("a", "2")]), 1.0)

    assert effects == [
        MemberDown("a", "a1", REPLACED),
        Unsubscribe("bus-a1"),
        Subscribe("bus-a2"),
        MemberUp(advert("a", "2")),
    ]
    assert machine.alive() == [advert("a", "2")]
    machine.check()


def test_earlier_life_is_ignored_beside_the_later_one_whoever_reports_it() -> None:
    machine = machine_with(advert("a", "2"))

    assert machine.handle(MembersReported([advert("a", "1")]), 1.0) == []
    assert machine.handle(AdvertReceived(advert("a", "1")), 1.0) == []
    assert machine.alive() == [advert("a", "2")]


def test_life_that_is_gone_is_forgotten_when_a_later_one_begins() -> None:
    machine = machine_with(advert("a", "1"))
    now = given_up(machine)

    effects = machine.handle(MembersReported([advert("a", "2")]), now)

    assert effects == [Unsubscribe("bus-a1"), Subscribe("bus-a2"), MemberUp(advert("a", "2"))]


def test_earlier_life_is_back_once_the_later_one_is_gone_and_makes_room_when_that_publishes_again() -> None:
    machine = machine_with(advert("a", "2"))
    now = given_up(machine)

    earlier = machine.handle(MembersReported([advert("a", "1")]), now)
    later = machine.handle(AdvertReceived(advert("a", "2", seq=2)), now + 1.0)

    assert earlier == [Subscribe("bus-a1"), MemberUp(advert("a", "1"))]
    assert later == [
        MemberDown("a", "a1", REPLACED),
        Unsubscribe("bus-a1"),
        Subscribe("bus-a2"),
        MemberUp(advert("a", "2", seq=2)),
    ]


def test_address_that_another_member_uses_now_stays_subscribed_to() -> None:
    machine = machine_with(advert("a", bus="port"), advert("b", bus="port"))

    assert machine.handle(MembersReported([advert("a", "2")]), 1.0) == [
        MemberDown("a", "a1", REPLACED),
        Subscribe("bus-a2"),
        MemberUp(advert("a", "2")),
    ]


def test_node_learns_of_a_later_one_with_its_name_and_counts_no_more() -> None:
    older, other = MembershipMachine("a1", "a"), machine_with(advert("a", "1"), advert("a", "2"))

    effects = older.handle(MembersReported([advert("a", "2")]), 0.0)

    assert effects == [Subscribe("bus-a2"), MemberUp(advert("a", "2"))]
    assert older.view() == other.view()
    older.check()


def test_node_ignores_an_earlier_one_of_its_own_name() -> None:
    later = MembershipMachine("a2", "a")

    assert later.handle(MembersReported([advert("a", "1")]), 0.0) == []
    assert later.handle(AdvertReceived(advert("a", "1")), 0.0) == []
    assert later.view() == machine_with(advert("a", "2")).view()


def test_session_may_be_called_like_a_node() -> None:
    session = MembershipMachine(None, "a")

    assert session.handle(MembersReported([advert("a")]), 0.0) == [Subscribe("bus-a1"), MemberUp(advert("a"))]
    assert session.view() == machine_with(advert("a")).view()


# --- Seeds ----------------------------------------------------------------------------------------------------


def test_seed_that_is_away_is_tried_again_and_again() -> None:
    machine = MembershipMachine()

    assert machine.handle(SetSeeds(["at-a"]), 0.0) == []
    assert machine.wake_at == SEED_RETRY_S
    assert machine.wake(SEED_RETRY_S) == [Introduce("at-a")]
    assert machine.wake_at == 2 * SEED_RETRY_S


def test_seed_that_is_named_twice_keeps_its_time() -> None:
    machine = MembershipMachine()
    machine.handle(SetSeeds(["at-a"]), 0.0)

    machine.handle(SetSeeds(["at-a", "at-b"]), 2.0)

    assert machine.wake(SEED_RETRY_S) == [Introduce("at-a")]


def test_seed_that_is_a_member_is_left_alone_until_it_is_gone() -> None:
    machine = machine_with(advert("a"))
    machine.handle(SetSeeds(["at-a"]), 0.0)

    assert machine.wake(SEED_RETRY_S) == [SUSPECTED]
    assert machine.wake(2 * SEED_RETRY_S) == []
    assert machine.wake(3 * SEED_RETRY_S) == [MemberDown("a", "a1", SILENCE), Introduce("at-a")]


def test_no_wake_without_members_and_seeds() -> None:
    assert MembershipMachine().wake_at is None


# --- Too many members -------------------------------------------------------------------------------------------


def machine_of(size: int) -> MembershipMachine:
    return machine_with(*(advert(f"m{number}") for number in range(size)))


def test_members_beyond_the_limit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_MEMBERS", 3)
    machine = machine_of(3)

    effects = machine.handle(MembersReported([advert("false1"), advert("false2")]), 1.0)

    # Reported once, and not again for a while.
    assert effects == [MembershipFull("false1")]
    assert machine.handle(AdvertReceived(advert("false3")), 1.0 + FULL_REPORT_S - 0.1) == []
    assert machine.handle(AdvertReceived(advert("false4")), 1.0 + FULL_REPORT_S) == [MembershipFull("false4")]
    assert [member.name for member in machine.alive()] == ["m0", "m1", "m2"]
    machine.check()


def test_gone_members_make_room_the_longest_gone_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_MEMBERS", 3)
    machine = machine_of(3)
    for when, name in ((1.0, "m1"), (2.0, "m0")):
        machine.handle(MemberUnreachable(name, f"{name}1", "it broke"), when)

    effects = machine.handle(AdvertReceived(advert("new")), 3.0)

    assert effects == [Unsubscribe("bus-m11"), Subscribe("bus-new1"), MemberUp(advert("new"))]
    assert machine.handle(AdvertReceived(advert("m1", seq=2)), 4.0)[-1] == MemberUp(advert("m1", seq=2))
    assert machine.handle(AdvertReceived(advert("another")), 5.0) == [MembershipFull("another")]
    machine.check()


def test_next_life_of_a_member_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_MEMBERS", 3)
    machine = machine_of(3)

    effects = machine.handle(AdvertReceived(advert("m1", life="2")), 1.0)

    assert effects[-1] == MemberUp(advert("m1", life="2"))
    assert [member.incarnation for member in machine.alive()] == ["m01", "m12", "m21"]
