"""Members whose bus brings nothing are followed over a link, in the direction in which one can be made."""

from handoff_actors.core.cluster.following import (
    FOLLOW_S,
    LATE_S,
    MAX_RETRY_S,
    REPORT_S,
    RETRY_S,
    UNFOLLOW_S,
)
from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import (
    AdvertReceived,
    BusUnreachable,
    FollowBegun,
    FollowEnded,
    FollowMember,
    MemberChanged,
    MemberDown,
    MembershipEffect,
    MembersReported,
    MemberUp,
    Source,
    Subscribe,
    UnfollowMember,
    UnreachableFor,
    Unsubscribe,
)
from handoff_actors.wire.messages.members import MOST_UNREACHABLE, Advert
from tests.core.cluster.adverts import advert

FOLLOW = FollowMember("a1", "at-a")
UNFOLLOW = UnfollowMember("a1")


class Node:
    """Node b, and what it hears of node a."""

    def __init__(self, own_name: str | None = "b") -> None:
        self.machine = MembershipMachine(None if own_name is None else f"{own_name}1", own_name, 1)
        self._seq = 1
        self.machine.handle(MembersReported([advert("a")]), 0.0)

    def hears(
        self, source: Source, now: float, *, unreachable: tuple[str, ...] = ()
    ) -> list[MembershipEffect]:
        """Let an advert of node a arrive, and return what that leads to, other than that it has changed."""
        effects = self.machine.handle(AdvertReceived(self._advert(unreachable), source), now)
        self.machine.check()
        return [effect for effect in effects if not isinstance(effect, MemberChanged)]

    def hears_for(self, source: Source, since: float, until: float) -> list[MembershipEffect]:
        """Let an advert arrive every second."""
        effects: list[MembershipEffect] = []
        for step in range(round(until - since) + 1):
            effects += [*self.machine.wake(since + step), *self.hears(source, since + step)]
        return effects

    def connects(self, now: float) -> list[MembershipEffect]:
        return self.machine.handle(FollowBegun("a1", self._advert()), now)

    def fails_to_connect(self, now: float) -> None:
        assert self.machine.handle(FollowEnded("a1", "no answer"), now) == []
        self.machine.check()

    def _advert(self, unreachable: tuple[str, ...] = ()) -> Advert:
        self._seq += 1
        said = advert("a", seq=self._seq, view=self.machine.view())
        said.unreachable.extend(unreachable)
        return said


def follows_at(node: Node) -> float | None:
    """The time at which it would follow, if nothing came."""
    return node.machine._following.wake_at


def test_member_whose_bus_brings_nothing_is_followed_and_stays_alive_by_its_link() -> None:
    node = Node()

    followed = node.machine.wake(FOLLOW_S)
    begun = node.connects(2.3)
    heard = node.hears_for("link", 3.0, 60.0)

    assert followed == [FOLLOW]
    assert begun[:-1] == []
    assert [effect for effect in heard if not isinstance(effect, BusUnreachable)] == []
    assert node.machine.suspects() == []


def test_bus_that_is_silent_while_the_link_works_is_reported_once() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)
    node.connects(2.3)

    soon = node.hears_for("link", 3.0, 2.3 + REPORT_S - 0.5)
    later = node.hears_for("link", 6.0, 60.0)

    assert soon == []
    assert [type(effect) for effect in later] == [BusUnreachable]


def test_bus_of_a_member_that_stood_still_for_a_moment_is_not_reported() -> None:
    node = Node()
    node.hears_for("bus", 1.0, 3.0)
    node.machine.wake(3.0 + FOLLOW_S)
    node.connects(9.0)

    assert node.hears("link", 9.1) == []
    assert node.hears("bus", 9.2) == []
    assert node.hears("link", 13.0) == []


def test_member_is_followed_no_more_once_its_bus_brings_adverts_for_a_while() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)
    node.connects(2.3)

    early = node.hears_for("bus", 3.0, 3.0 + UNFOLLOW_S - 1.0)
    late = node.hears_for("bus", 3.0 + UNFOLLOW_S, 30.0)

    assert (early, late) == ([], [UNFOLLOW])
    node.machine.wake(30.0 + FOLLOW_S)


def test_gap_on_the_bus_begins_the_while_anew() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)
    node.connects(2.3)
    node.hears_for("bus", 3.0, 6.0)

    after_a_gap = node.hears_for("bus", 8.5, 8.5 + UNFOLLOW_S - 1.0)

    assert after_a_gap == []
    assert node.hears("bus", 8.5 + UNFOLLOW_S) == [UNFOLLOW]


def test_member_whose_link_breaks_is_followed_again_after_pauses_that_grow() -> None:
    node = Node()
    now, pauses = FOLLOW_S, []
    assert node.machine.wake(now) == [FOLLOW]
    for _ in range(6):
        node.fails_to_connect(now)
        again = follows_at(node)
        assert again is not None
        pauses.append(round(again - now, 2))
        now = again
        node.hears("answer", now)
        assert FOLLOW in node.machine.wake(now)

    assert pauses == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S, MAX_RETRY_S, MAX_RETRY_S]


def test_pauses_are_short_again_after_a_link_that_worked() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)
    node.fails_to_connect(FOLLOW_S)
    node.machine.wake(FOLLOW_S + RETRY_S)
    node.connects(3.3)

    node.fails_to_connect(8.0)

    assert follows_at(node) == 8.0 + RETRY_S
    assert node.machine.unreachable() == []


def test_member_that_can_not_be_followed_is_named_until_its_bus_or_its_service_is_reached() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)
    before = node.machine.unreachable()
    node.fails_to_connect(FOLLOW_S)
    failed = node.machine.unreachable()
    node.hears("link", 3.0)
    heard_over_its_own_link = node.machine.unreachable()
    node.hears("bus", 4.0)

    assert (before, failed, heard_over_its_own_link) == ([], ["a"], ["a"])
    assert node.machine.unreachable() == []


def test_link_that_fails_while_the_bus_works_makes_nobody_unreachable() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)
    node.hears("bus", 2.5)

    node.fails_to_connect(3.0)

    assert node.machine.unreachable() == []


def test_no_link_is_opened_to_a_member_that_is_heard_over_its_own() -> None:
    node = Node()

    assert [type(effect) for effect in node.hears_for("link", 1.0, 30.0)] == [BusUnreachable]


def test_node_follows_a_member_that_can_not_reach_it_and_says_so_once() -> None:
    node = Node()

    asked = node.hears("bus", 1.0, unreachable=("b",))
    node.connects(1.1)
    again = node.hears("bus", 2.0, unreachable=("b",))

    later = [node.hears("bus", float(now), unreachable=("b",)) for now in range(3, 10)]

    assert asked == [FOLLOW]
    assert again == []
    assert [type(effect) for effects in later for effect in effects] == [UnreachableFor]


def test_link_is_kept_as_long_as_the_member_asks_for_it() -> None:
    node = Node()
    node.hears("bus", 1.0, unreachable=("b",))
    node.connects(1.1)

    asked = [node.hears("bus", float(now), unreachable=("b",)) for now in range(2, 20)]
    asked_no_more = node.hears("bus", 20.0)

    assert [type(effect) for effects in asked for effect in effects] == [UnreachableFor]
    assert asked_no_more == [UNFOLLOW]


def test_node_that_is_asked_tries_again_when_its_link_has_broken_but_not_at_once() -> None:
    node = Node()
    node.hears("bus", 1.0, unreachable=("b",))
    node.fails_to_connect(1.5)

    assert node.hears("bus", 1.6, unreachable=("b",)) == []
    assert node.hears("bus", 1.5 + RETRY_S, unreachable=("b",)) == [FOLLOW]


def test_session_is_asked_by_nobody() -> None:
    node = Node(own_name=None)

    assert node.hears("bus", 1.0, unreachable=("b",)) == []


def test_answer_of_another_node_at_the_address_ends_the_link() -> None:
    node = Node()
    node.machine.wake(FOLLOW_S)

    effects = node.machine.handle(FollowBegun("a1", advert("a", "2")), 2.3)

    assert effects == [
        UNFOLLOW,
        MemberDown("a", "a1", "another node of that name has taken its place"),
        Unsubscribe("bus-a1"),
        Subscribe("bus-a2"),
        MemberUp(advert("a", "2")),
    ]
    node.machine.check()


def test_late_news_of_links_that_are_wanted_no_more_are_ignored() -> None:
    node = Node()
    unknown = node.machine.handle(FollowBegun("x1", advert("x")), 1.0)
    unfollowed = node.connects(1.1)
    ended = [node.machine.handle(FollowEnded(which, "it broke"), 1.2) for which in ("a1", "x1")]

    assert unknown == [UnfollowMember("x1")]
    assert [effect for effect in unfollowed if not isinstance(effect, MemberChanged)] == []
    assert ended == [[], []]
    node.machine.check()


def test_place_that_stood_still_reads_what_waits_before_it_follows() -> None:
    node = Node()

    late = node.machine.wake(FOLLOW_S + LATE_S + 0.1)
    in_time = node.machine.wake(FOLLOW_S + 2 * LATE_S + 0.1)

    assert (late, in_time[-1]) == ([], FOLLOW)


def test_only_as_many_are_named_as_fit_an_advert() -> None:
    machine = MembershipMachine("b1", "b", 1)
    names = [f"{number:02d}" for number in range(20)]
    long_names = [f"{number:0100d}" for number in range(20)]
    for some, expected in ((names, MOST_UNREACHABLE), (long_names, 10)):
        members = [advert(name) for name in some]
        machine = MembershipMachine("b1", "b", 1)
        machine.handle(MembersReported(members), 0.0)
        machine.wake(FOLLOW_S)
        for member in members:
            machine.handle(FollowEnded(member.incarnation, "no answer"), FOLLOW_S + 0.1)

        assert machine.unreachable() == some[:expected]
