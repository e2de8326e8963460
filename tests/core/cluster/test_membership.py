import itertools

import pytest
from msgspec.structs import replace

from handoff_actors.core.cluster import gone_members, membership
from handoff_actors.core.cluster.comparisons import COMPARE_S
from handoff_actors.core.cluster.following import FOLLOW_S
from handoff_actors.core.cluster.gone_members import (
    HASTENED_GAP_S,
    LISTEN_S,
    MAX_TRY_S,
    RELAPSE_S,
    REMEMBER_LEFT_S,
    TRY_LEFT_FOR_S,
    TRY_LEFT_S,
    TRY_S,
    TRY_UNREACHABLE_S,
)
from handoff_actors.core.cluster.membership import (
    DOUBT_S,
    FULL_REPORT_S,
    GONE_S,
    LEFT,
    REPLACED,
    SEED_RETRY_S,
    SUSPECT_S,
    MembershipMachine,
)
from handoff_actors.core.cluster.membership_events import (
    AdmitNode,
    AdvertReceived,
    FollowMember,
    Introduce,
    MemberChanged,
    MemberDown,
    MemberLeft,
    MembershipEffect,
    MembershipFull,
    MembersReported,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
    NodeIntroduced,
    SetSeeds,
    Source,
    Subscribe,
    UnfollowMember,
    Unsubscribe,
)
from handoff_actors.wire.messages.members import Advert
from tests.core.cluster.adverts import advert

SILENCE = f"nothing was heard of it for {GONE_S:g} s"
SUSPECTED = MemberSuspected("a", is_suspect=True)
CLEARED = MemberSuspected("a", is_suspect=False)
#: The time at which a member last heard of at 0 is gone.
GIVEN_UP_S = GONE_S + DOUBT_S


def machine_with(*adverts: Advert) -> MembershipMachine:
    """A view to which these were reported at 0."""
    machine = MembershipMachine()
    machine.handle(MembersReported(adverts), 0.0)
    return machine


def tries(machine: MembershipMachine, until: float) -> list[tuple[float, str]]:
    """Wake the machine whenever it wants, and list the times and addresses at which it introduces itself."""
    asked: list[tuple[float, str]] = []
    while (now := machine.wake_at) is not None and now <= until:
        asked += [
            (round(now, 2), effect.address) for effect in machine.wake(now) if isinstance(effect, Introduce)
        ]
        machine.check()
    return asked


def without_follows(effects: list[MembershipEffect]) -> list[MembershipEffect]:
    return [effect for effect in effects if not isinstance(effect, FollowMember | UnfollowMember)]


def given_up(machine: MembershipMachine) -> float:
    """Let a member last heard of at 0 be given up, and return the time of that."""
    machine.wake(FOLLOW_S)
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
    assert machine.wake_at == FOLLOW_S


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
    own._own.incarnation = "a1"

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

    assert machine.handle(AdvertReceived(advert("a", seq=seq)), 2.0) == []
    assert machine.alive() == [advert("a", seq=2)]
    assert machine.wake_at == 2.0 + FOLLOW_S


def test_advert_of_another_name_than_before_is_ignored() -> None:
    machine = machine_with(advert("a"))

    assert machine.handle(AdvertReceived(replace(advert("a", seq=2), name="b")), 1.0) == []
    assert machine.alive() == [advert("a")]


def test_member_that_moves_its_bus_is_heard_there() -> None:
    machine = machine_with(advert("a"))

    moved = advert("a", seq=2, bus="elsewhere")

    assert machine.handle(AdvertReceived(moved, "answer"), 1.0) == [
        Subscribe("elsewhere"),
        Unsubscribe("bus-a1"),
        MemberChanged(moved),
    ]
    machine.check()


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


def test_answer_to_a_question_leads_to_no_other() -> None:
    machine = machine_with(advert("a"))
    odd = advert("a", seq=2, view=machine.view() + 1)

    assert machine.handle(AdvertReceived(odd, "answer"), COMPARE_S) == [MemberChanged(odd)]


def test_views_of_two_nodes_and_a_session_are_the_same_in_whatever_order_they_learned() -> None:
    first, second, session = MembershipMachine("a1", "a"), MembershipMachine("b1", "b"), MembershipMachine()

    first.handle(MembersReported([advert("b"), advert("c")]), 0.0)
    second.handle(MembersReported([advert("c"), advert("a")]), 0.0)
    session.handle(MembersReported([advert("c"), advert("b"), advert("a")]), 0.0)

    assert first.view() == second.view() == session.view() != machine_with(advert("a")).view()


def test_members_that_another_node_does_not_know_are_reported_to_it_unless_they_are_suspect() -> None:
    machine = machine_with(advert("a"), advert("b"))
    machine.handle(MembersReported([advert("c")], ["c"]), 0.0)

    assert machine.unknown_to({"a1"}) == [advert("b")]


# --- Silence --------------------------------------------------------------------------------------------------


def test_silent_member_is_followed_suspect_in_doubt_and_then_gone() -> None:
    machine = machine_with(advert("a"))

    followed = machine.wake(FOLLOW_S)
    suspect = machine.wake(SUSPECT_S)
    doubt, in_doubt = machine.wake(GONE_S), machine.alive()
    down = machine.wake(GIVEN_UP_S)

    assert (followed, suspect) == ([FollowMember("a1", "at-a")], [SUSPECTED])
    assert (doubt, in_doubt) == ([], [advert("a")])
    assert down == [UnfollowMember("a1"), MemberDown("a", "a1", SILENCE)]
    assert machine.alive() == []
    machine.check()


def test_stalled_place_drops_and_follows_no_member_whose_adverts_lie_unread() -> None:
    machine = machine_with(advert("a"))

    woken = machine.wake(60.0)
    read = machine.handle(AdvertReceived(advert("a", seq=2)), 60.0 + DOUBT_S / 2)

    assert woken == [SUSPECTED]
    assert read == [CLEARED, MemberChanged(advert("a", seq=2)), Introduce("at-a")]
    assert machine.wake(60.0 + DOUBT_S) == []
    assert machine.wake_at == 60.0 + DOUBT_S / 2 + FOLLOW_S


def test_nothing_happens_before_its_time() -> None:
    machine = machine_with(advert("a"))

    assert machine.wake(FOLLOW_S - 0.1) == []
    assert machine.wake_at == FOLLOW_S


@pytest.mark.parametrize("source", ["bus", "link", "answer", "introduction"])
def test_suspect_is_cleared_by_its_own_word_however_that_comes(source: Source) -> None:
    machine = machine_with(advert("a"))

    silent = without_follows(machine.wake(SUSPECT_S))
    suspects = machine.suspects()
    late = machine.handle(AdvertReceived(advert("a"), source), SUSPECT_S + 1)

    assert (silent, suspects) == ([SUSPECTED], ["a"])
    assert late == [CLEARED]
    assert machine.suspects() == []


def test_newcomer_suspects_the_members_that_others_suspect() -> None:
    machine = MembershipMachine()

    effects = machine.handle(MembersReported([advert("a"), advert("b")], ["a", "b2"]), 0.0)
    machine.handle(MembersReported([advert("b")], ["b"]), 0.1)

    assert SUSPECTED in effects
    assert machine.suspects() == ["a"]


def test_gone_member_is_tried_for_ever_and_ever_more_rarely() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)

    asked = [at for at, _ in tries(machine, now + 86_400)]

    assert [round(at - now, 2) for at in asked[:5]] == [5.0, 15.0, 35.0, 55.0, 75.0]
    assert {round(later - at, 2) for at, later in itertools.pairwise(asked[2:])} == {MAX_TRY_S}


def test_bus_of_a_gone_member_is_listened_to_for_a_while() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)

    before = [effect for effect in machine.wake(now + LISTEN_S - 0.1) if isinstance(effect, Unsubscribe)]
    after = [effect for effect in machine.wake(now + LISTEN_S) if isinstance(effect, Unsubscribe)]

    assert (before, after) == ([], [Unsubscribe("bus-a1")])
    machine.check()


def test_gone_member_is_not_tried_while_a_present_one_has_its_address() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)
    machine.handle(AdvertReceived(replace(advert("b"), address="at-a")), now)

    assert [effect for effect in machine.wake(now + TRY_S) if isinstance(effect, Introduce)] == []


# --- Coming back ----------------------------------------------------------------------------------------------


def test_reports_do_not_bring_back_a_gone_member_but_have_it_tried_at_once() -> None:
    machine = machine_with(advert("a"), advert("b"))
    now = given_up(machine) + TRY_S + 0.1
    machine.wake(now)

    stale = machine.handle(MembersReported([advert("a"), advert("b")]), now + TRY_S)
    fresh = machine.handle(MembersReported([advert("a", seq=9), advert("b", seq=9)]), now + TRY_S)

    assert (stale, fresh, machine.alive()) == ([], [], [])
    assert tries(machine, now + TRY_S + 1.0) == [
        (round(now + TRY_S, 2), "at-a"),
        (round(now + TRY_S + HASTENED_GAP_S, 2), "at-b"),
    ]


def test_gone_member_that_has_just_been_tried_is_not_tried_again_because_of_reports() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine) + TRY_S
    machine.wake(now)

    machine.handle(MembersReported([advert("a", seq=9)]), now + 0.1)

    assert tries(machine, now + 2 * TRY_S - 0.1) == []


def test_adverts_from_before_it_was_gone_do_not_bring_a_member_back() -> None:
    machine = machine_with(advert("a", seq=5))
    now = given_up(machine)

    assert machine.handle(AdvertReceived(advert("a", seq=5)), now) == []
    assert machine.alive() == []


@pytest.mark.parametrize("source", ["bus", "link", "answer", "introduction"])
def test_gone_member_whose_own_word_comes_is_back(source: Source) -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)

    effects = machine.handle(AdvertReceived(advert("a", seq=2), source), now)

    assert effects == [Subscribe("bus-a1"), MemberUp(advert("a", seq=2))]
    assert machine.alive() == [advert("a", seq=2)]
    assert machine.wake_at == now + FOLLOW_S
    machine.check()


def test_gone_member_that_has_raised_its_rank_is_back() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)
    raised = advert("a", seq=2, rank=9)

    assert machine.handle(AdvertReceived(raised), now) == [Subscribe("bus-a1"), MemberUp(raised)]
    machine.check()


def test_member_that_is_back_after_its_bus_was_left_is_listened_to_again() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine) + LISTEN_S
    machine.wake(now)

    effects = machine.handle(AdvertReceived(advert("a", seq=2), "answer"), now)

    assert effects == [Subscribe("bus-a1"), MemberUp(advert("a", seq=2))]
    machine.check()


def test_member_that_moved_while_it_was_gone_is_not_listened_to_where_it_was() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)
    moved = advert("a", seq=2, bus="elsewhere")

    effects = machine.handle(AdvertReceived(moved, "answer"), now)

    assert effects == [Subscribe("elsewhere"), Unsubscribe("bus-a1"), MemberUp(moved)]
    machine.check()


# --- Unreachable services ---------------------------------------------------------------------------------------


def test_unreachable_member_is_gone_at_once_and_back_when_its_service_answers() -> None:
    machine = machine_with(advert("a"))

    down = machine.handle(MemberUnreachable("a", "a1", "refused"), 1.0)
    heard = machine.handle(AdvertReceived(advert("a", seq=2)), 1.5)
    reported = machine.handle(MembersReported([advert("a", seq=3)]), 1.6)
    tried = machine.wake(1.0 + TRY_UNREACHABLE_S)
    answered = machine.handle(AdvertReceived(advert("a", seq=4), "answer"), 2.1)

    assert down == [MemberDown("a", "a1", "refused")]
    assert (heard, reported) == ([], [])
    assert tried == [Introduce("at-a")]
    assert answered == [Subscribe("bus-a1"), MemberUp(advert("a", seq=4))]


def test_member_that_is_unreachable_again_and_again_is_tried_ever_more_rarely() -> None:
    machine = machine_with(advert("a"))
    pauses: list[float] = []
    now = 1.0
    for seq in range(2, 9):
        machine.handle(MemberUnreachable("a", "a1", "refused"), now)
        ((tried_at, _),) = tries(machine, now + MAX_TRY_S)[:1]
        pauses.append(round(tried_at - now, 2))
        now = now + MAX_TRY_S + 0.1
        machine.handle(AdvertReceived(advert("a", seq=seq), "answer"), now)
        now += 0.5

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (TRY_UNREACHABLE_S, MAX_TRY_S)


def test_member_that_was_back_for_long_is_tried_soon_again() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberUnreachable("a", "a1", "refused"), 1.0)
    machine.wake(2.0)
    machine.handle(AdvertReceived(advert("a", seq=2), "answer"), 2.0)

    machine.handle(MemberUnreachable("a", "a1", "refused"), 2.0 + RELAPSE_S)

    assert machine.wake(2.0 + RELAPSE_S + TRY_UNREACHABLE_S) == [Introduce("at-a")]


def test_unknown_and_gone_members_are_not_lost_again() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberUnreachable("a", "a1", "refused"), 1.0)

    assert machine.handle(MemberUnreachable("a", "a1", "refused"), 2.0) == []
    assert machine.handle(MemberUnreachable("b", "b1", "refused"), 2.0) == []


# --- Leaving --------------------------------------------------------------------------------------------------


def test_member_that_leaves_is_gone_at_once_and_never_back() -> None:
    machine = machine_with(advert("a"))

    left = machine.handle(MemberLeft("a", "a1"), 1.0)
    again = machine.handle(MemberLeft("a", "a1"), 1.1)
    reported = machine.handle(MembersReported([advert("a", seq=2)]), 1.2)
    heard = machine.handle(AdvertReceived(advert("a", seq=3)), 1.3)

    assert left == [MemberDown("a", "a1", LEFT, has_left=True), Unsubscribe("bus-a1")]
    assert (again, reported, heard, machine.alive()) == ([], [], [], [])
    machine.check()


def test_those_that_have_left_are_named_for_members_that_have_missed_it() -> None:
    machine = machine_with(advert("a"), advert("b"))
    machine.handle(MemberLeft("b", "b1"), 1.0)

    assert machine.lately_left() == ["b1"]


def test_gone_member_that_leaves_is_tried_no_more() -> None:
    machine = machine_with(advert("a"))
    now = given_up(machine)

    assert machine.handle(MemberLeft("a", "a1"), now) == [Unsubscribe("bus-a1")]
    assert [at for at, _ in tries(machine, now + 3600) if at > now + TRY_LEFT_FOR_S] == []


def test_end_of_a_node_that_was_not_known_yet_is_remembered() -> None:
    machine = MembershipMachine()

    assert machine.handle(MemberLeft("a", "a1"), 1.0) == []
    assert machine.handle(MembersReported([advert("a")]), 2.0) == []
    assert tries(machine, 3600.0) == []


def test_own_node_does_not_leave_because_others_say_so() -> None:
    assert MembershipMachine("a1", "a").handle(MemberLeft("a", "a1"), 1.0) == []


def test_address_of_a_member_that_left_is_tried_for_a_minute_at_short_pauses() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberLeft("a", "a1"), 0.0)

    asked = tries(machine, 3600.0)

    assert [at for at, _ in asked[:4]] == [TRY_LEFT_S, 1.25, 2.38, 4.06]
    assert {address for _, address in asked} == {"at-a"}
    assert 15 <= len(asked) <= 20
    assert TRY_LEFT_FOR_S - 6.0 <= asked[-1][0] <= TRY_LEFT_FOR_S


def test_node_that_left_is_forgotten_in_the_end() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberLeft("a", "a1"), 0.0)

    tries(machine, REMEMBER_LEFT_S)

    assert machine.wake_at is None
    assert machine.handle(MembersReported([advert("a")]), REMEMBER_LEFT_S)[-1] == MemberUp(advert("a"))


def test_next_life_of_a_node_that_left_is_admitted_at_once() -> None:
    machine = machine_with(advert("a"))
    machine.handle(MemberLeft("a", "a1"), 1.0)

    effects = machine.handle(NodeIntroduced(advert("a", "2"), is_joining=True), 1.1)

    assert effects == [Subscribe("bus-a2"), MemberUp(advert("a", "2")), AdmitNode(advert("a", "2"), 0)]


# --- One name, several lives ----------------------------------------------------------------------------------


def test_life_of_greater_rank_takes_the_place_of_the_other() -> None:
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


def test_rank_counts_before_incarnation() -> None:
    machine = machine_with(advert("a", "2", rank=5))

    assert machine.handle(MembersReported([advert("a", "3", rank=4)]), 1.0) == []
    assert machine.handle(MembersReported([advert("a", "1", rank=6)]), 1.0)[-1] == MemberUp(
        advert("a", "1", rank=6)
    )


def test_life_of_lesser_rank_is_ignored_beside_the_other_whoever_reports_it() -> None:
    machine = machine_with(advert("a", "2"))

    assert machine.handle(MembersReported([advert("a", "1")]), 1.0) == []
    assert machine.handle(AdvertReceived(advert("a", "1")), 1.0) == []
    assert machine.alive() == [advert("a", "2")]


def test_life_that_is_gone_is_forgotten_when_one_of_greater_rank_begins() -> None:
    machine = machine_with(advert("a", "1"))
    now = given_up(machine)

    effects = machine.handle(MembersReported([advert("a", "2")]), now)

    assert effects == [Unsubscribe("bus-a1"), Subscribe("bus-a2"), MemberUp(advert("a", "2"))]


def test_lesser_life_is_back_once_the_other_is_gone_and_makes_room_when_that_publishes_again() -> None:
    machine = machine_with(advert("a", "2"))
    now = given_up(machine)

    lesser = machine.handle(MembersReported([advert("a", "1")]), now)
    greater = machine.handle(AdvertReceived(advert("a", "2", seq=2)), now + 1.0)

    assert lesser == [Subscribe("bus-a1"), MemberUp(advert("a", "1"))]
    assert greater == [
        MemberDown("a", "a1", REPLACED),
        Unsubscribe("bus-a1"),
        Subscribe("bus-a2"),
        MemberUp(advert("a", "2", seq=2)),
    ]
    machine.check()


def test_address_that_another_member_uses_now_stays_subscribed_to() -> None:
    machine = machine_with(advert("a", bus="port"), advert("b", bus="port"))

    assert machine.handle(MembersReported([advert("a", "2")]), 1.0) == [
        MemberDown("a", "a1", REPLACED),
        Subscribe("bus-a2"),
        MemberUp(advert("a", "2")),
    ]


def test_session_may_be_called_like_a_node() -> None:
    session = MembershipMachine(None, "a")

    assert session.handle(MembersReported([advert("a")]), 0.0) == [Subscribe("bus-a1"), MemberUp(advert("a"))]
    assert session.view() == machine_with(advert("a")).view()
    session.check()


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

    assert without_follows(machine.wake(SEED_RETRY_S)) == [SUSPECTED]
    assert without_follows(machine.wake(2 * SEED_RETRY_S)) == []
    assert without_follows(machine.wake(3 * SEED_RETRY_S)) == [
        MemberDown("a", "a1", SILENCE),
        Introduce("at-a"),
    ]


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


def test_next_life_of_a_member_takes_its_place_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "MAX_MEMBERS", 3)
    machine = machine_of(3)

    effects = machine.handle(AdvertReceived(advert("m1", life="2")), 1.0)

    assert effects[-1] == MemberUp(advert("m1", life="2"))
    assert [member.incarnation for member in machine.alive()] == ["m01", "m12", "m21"]


def test_of_too_many_gone_members_the_longest_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone_members, "MAX_GONE", 2)
    machine = machine_of(3)
    for when, name in ((1.0, "m1"), (2.0, "m0")):
        machine.handle(MemberUnreachable(name, f"{name}1", "it broke"), when)

    effects = machine.handle(MemberUnreachable("m2", "m21", "it broke"), 3.0)

    assert effects == [MemberDown("m2", "m21", "it broke"), Unsubscribe("bus-m11")]
    assert {address for _, address in tries(machine, 60.0)} == {"at-m0", "at-m2"}
    machine.check()


def test_of_too_many_that_have_left_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone_members, "MAX_GONE", 2)
    machine = machine_of(3)
    for name in ("m1", "m0", "m2"):
        machine.handle(MemberLeft(name, f"{name}1"), 1.0)

    assert {address for _, address in tries(machine, 60.0)} == {"at-m0", "at-m2"}
    machine.check()
