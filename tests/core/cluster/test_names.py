"""Two nodes that want one name: which of them has it, and what becomes of the other."""

from msgspec.structs import replace

from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import (
    AdmitNode,
    AdvertReceived,
    MemberChanged,
    MemberDown,
    MemberLeft,
    MembersReported,
    MemberUnreachable,
    MemberUp,
    NameLost,
    NodeIntroduced,
    Outranked,
    ProbeEnded,
    ProbeNode,
    RaiseRank,
    RefuseNode,
    Subscribe,
    Unsubscribe,
)
from handoff_actors.core.cluster.names import MAX_RIVALS
from tests.core.cluster.adverts import advert

#: Node a in an earlier and in a later life, whose ranks are 1 and 2.
EARLIER, LATER = advert("a", "1"), advert("a", "2")
#: The later life where the clock was set back.
SET_BACK = advert("a", "2", rank=0)
TAKEN = "another node takes its name, and it does not answer"


def place_of(name: str = "n") -> MembershipMachine:
    """The place of a node called so, of rank 1."""
    return MembershipMachine(f"{name}1", name, 1)


def place_with_a() -> MembershipMachine:
    machine = place_of()
    machine.handle(MembersReported([EARLIER]), 0.0)
    return machine


# --- A node that starts -----------------------------------------------------------------------------------------


def test_newcomer_of_a_free_name_is_admitted() -> None:
    assert place_of().handle(NodeIntroduced(LATER, is_joining=True), 1.0) == [
        Subscribe("bus-a2"),
        MemberUp(LATER),
        AdmitNode(LATER, 0),
    ]


def test_newcomer_is_refused_if_the_holder_of_its_name_answers() -> None:
    machine = place_with_a()

    asked = machine.handle(NodeIntroduced(LATER, is_joining=True), 1.0)
    answered = machine.handle(ProbeEnded("a1", replace(EARLIER, seq=2)), 1.1)

    assert asked == [ProbeNode("a1", "at-a")]
    assert answered == [MemberChanged(replace(EARLIER, seq=2)), RefuseNode(LATER, replace(EARLIER, seq=2))]
    assert [member.incarnation for member in machine.alive()] == ["a1"]


def test_newcomer_takes_the_name_of_a_holder_that_does_not_answer() -> None:
    machine = place_with_a()
    machine.handle(NodeIntroduced(LATER, is_joining=True), 1.0)

    assert machine.handle(ProbeEnded("a1", None), 3.0) == [
        MemberDown("a", "a1", TAKEN),
        Unsubscribe("bus-a1"),
        Subscribe("bus-a2"),
        MemberUp(LATER),
        AdmitNode(LATER, 0),
    ]
    machine.check()


def test_newcomer_that_answers_at_the_address_of_the_holder_has_replaced_it() -> None:
    machine = place_with_a()
    machine.handle(NodeIntroduced(LATER, is_joining=True), 1.0)

    assert machine.handle(ProbeEnded("a1", LATER), 1.1)[-2:] == [MemberUp(LATER), AdmitNode(LATER, 0)]
    assert machine.alive() == [LATER]


def test_newcomer_whose_clock_was_set_back_is_told_the_rank_to_exceed() -> None:
    machine = place_with_a()
    machine.handle(NodeIntroduced(SET_BACK, is_joining=True), 1.0)

    effects = machine.handle(ProbeEnded("a1", None), 3.0)

    assert effects[-2:] == [MemberUp(LATER), AdmitNode(LATER, 1)]
    assert machine.alive() == [LATER]


def test_earlier_lives_that_are_gone_or_have_left_outrank_a_newcomer_whose_clock_was_set_back() -> None:
    gone, left = place_with_a(), place_with_a()
    gone.handle(MemberUnreachable("a", "a1", "refused"), 1.0)
    left.handle(MemberLeft("a", "a1"), 1.0)

    for machine in (gone, left):
        assert machine.handle(NodeIntroduced(SET_BACK, is_joining=True), 2.0)[-1] == AdmitNode(LATER, 1)


def test_two_newcomers_of_one_name_are_not_both_admitted() -> None:
    machine = place_with_a()
    other = advert("a", "3")
    first = machine.handle(NodeIntroduced(LATER, is_joining=True), 1.0)
    second = machine.handle(NodeIntroduced(other, is_joining=True), 1.1)

    decided = machine.handle(ProbeEnded("a1", None), 3.0)
    answered = machine.handle(ProbeEnded("a2", replace(LATER, seq=2)), 3.1)

    assert (first, second) == ([ProbeNode("a1", "at-a")], [])
    assert decided[-2:] == [AdmitNode(LATER, 0), ProbeNode("a2", "at-a")]
    assert answered[-1] == RefuseNode(other, replace(LATER, seq=2))


def test_newcomer_is_admitted_if_the_holder_has_left_while_it_was_probed() -> None:
    machine = place_with_a()
    machine.handle(NodeIntroduced(LATER, is_joining=True), 1.0)
    machine.handle(MemberLeft("a", "a1"), 1.1)

    assert machine.handle(ProbeEnded("a1", replace(EARLIER, seq=2)), 1.2)[-1] == AdmitNode(LATER, 0)
    assert machine.alive() == [LATER]


def test_newcomer_of_the_name_of_the_node_that_it_asks_is_refused_at_once() -> None:
    assert place_of("a").handle(NodeIntroduced(LATER, is_joining=True), 1.0) == [RefuseNode(LATER, None)]


def test_node_that_finds_itself_is_welcomed_and_no_member() -> None:
    machine = place_of("a")

    assert machine.handle(NodeIntroduced(EARLIER, is_joining=True), 1.0) == [AdmitNode(EARLIER, 0)]
    assert machine.alive() == []


def test_member_that_introduces_itself_again_is_welcomed() -> None:
    machine = place_with_a()

    assert machine.handle(NodeIntroduced(replace(EARLIER, seq=2), is_joining=False), 1.0) == [
        MemberChanged(replace(EARLIER, seq=2)),
        AdmitNode(replace(EARLIER, seq=2), 0),
    ]


# --- Nodes that hear of others of their name --------------------------------------------------------------------


def test_node_ends_at_the_word_of_another_of_its_name_with_a_greater_rank() -> None:
    assert place_of("a").handle(AdvertReceived(LATER), 1.0) == [NameLost(LATER)]


def test_node_that_meets_another_of_its_name_after_a_split_lets_the_rank_decide() -> None:
    earlier, later = place_of("a"), MembershipMachine("a2", "a", 2)

    assert earlier.handle(NodeIntroduced(LATER, is_joining=False), 1.0) == [
        NameLost(LATER),
        AdmitNode(LATER, 0),
    ]
    # The other learns from the welcome who has the name.
    assert later.handle(NodeIntroduced(EARLIER, is_joining=False), 1.0) == [AdmitNode(EARLIER, 0)]


def test_node_ignores_others_of_its_name_with_a_lesser_rank() -> None:
    later = MembershipMachine("a2", "a", 2)

    assert later.handle(MembersReported([EARLIER]), 0.0) == []
    assert later.handle(AdvertReceived(EARLIER), 0.0) == []
    later.check()


def test_reported_rival_is_probed_once_and_ends_the_node_if_it_lives() -> None:
    machine = place_of("a")

    reported = machine.handle(MembersReported([LATER]), 1.0)
    again = machine.handle(MembersReported([LATER]), 1.1)
    answered = machine.handle(ProbeEnded("a2", replace(LATER, seq=2)), 1.2)

    assert (reported, again) == ([ProbeNode("a2", "at-a")], [])
    assert answered == [NameLost(replace(LATER, seq=2))]


def test_rival_that_is_dead_is_outranked() -> None:
    machine = place_of("a")
    machine.handle(MembersReported([LATER]), 1.0)

    assert machine.handle(ProbeEnded("a2", None), 3.0) == [RaiseRank(3)]
    assert machine.handle(MembersReported([LATER]), 3.1) == []


def test_rival_whose_rank_grows_lives_though_it_does_not_answer() -> None:
    machine = place_of("a")
    machine.handle(MembersReported([LATER]), 1.0)
    machine.handle(ProbeEnded("a2", None), 3.0)
    outbidding = advert("a", "2", rank=4)

    assert machine.handle(MembersReported([outbidding]), 5.0) == [NameLost(outbidding)]


def test_own_answer_at_the_address_of_a_rival_shows_that_the_rival_is_dead() -> None:
    machine = place_of("a")
    machine.handle(MembersReported([LATER]), 1.0)

    assert machine.handle(ProbeEnded("a2", EARLIER), 1.1) == [RaiseRank(3)]


def test_only_so_many_rivals_are_probed_and_remembered() -> None:
    machine = place_of("a")
    rivals = [advert("a", str(life)) for life in range(2, 4 + 2 * MAX_RIVALS)]

    probes = machine.handle(MembersReported(rivals), 1.0)
    for rival in rivals[:MAX_RIVALS]:
        machine.handle(ProbeEnded(rival.incarnation, None), 3.0)
    more = machine.handle(MembersReported(rivals), 4.0)
    machine.handle(ProbeEnded(rivals[MAX_RIVALS].incarnation, None), 5.0)

    assert len(probes) == len(more) == MAX_RIVALS
    assert machine.handle(ProbeEnded("unknown", None), 6.0) == []


def test_node_that_is_told_of_a_greater_rank_exceeds_it() -> None:
    machine = place_of("a")

    assert machine.handle(Outranked(5), 1.0) == [RaiseRank(6)]
    assert machine.handle(Outranked(5), 1.0) == []
    assert machine.handle(MembersReported([LATER]), 1.0) == []


def test_session_has_no_name_to_lose() -> None:
    session = MembershipMachine(None, "a")

    assert session.handle(AdvertReceived(LATER), 1.0)[-1] == MemberUp(LATER)
