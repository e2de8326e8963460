"""Tests of how often a node advertises its state, by the fields that have changed."""

from itertools import count

import pytest

from handoff_actors.core.node.advertiser import (
    ADVERT_GAP_S,
    ADVERT_PERIOD_S,
    LOAD_GAP_S,
    QUICK_ADVERTS,
    QUICK_GAP_S,
    Advertiser,
    Standing,
    least_gap_s,
)
from handoff_actors.core.node.events import Advertise
from handoff_actors.ids import Resources

OFFERED = {"cpu": 2.0}


def advert(queued: int = 0) -> Advertise:
    return Advertise(
        OFFERED,
        {},
        workers=2,
        running=0,
        queued=queued,
        stored=0,
        leaving=False,
        busy=0,
        waiting_claims={},
        most_workers=4,
    )


def advertiser_of_a_node_that_has_spoken(claimed: Resources) -> Advertiser:
    advertiser = Advertiser()
    assert advertiser.speak((claimed, OFFERED, False, 0, False, ""), advert, 0.0) == [advert()]
    return advertiser


@pytest.mark.parametrize(
    "changed",
    [
        ({"cpu": 1.0}, OFFERED, False, 0, False, ""),
        ({"cpu": 0.0}, OFFERED, True, 0, False, ""),
        ({"cpu": 0.0}, OFFERED, False, 1, False, ""),
        ({"cpu": 0.0}, OFFERED, False, 0, True, ""),
        ({"cpu": 0.0}, OFFERED, False, 0, False, "it fails everything"),
    ],
    ids=["claims", "leaving", "idle workers", "waiting functions", "out of use"],
)
def test_facts_that_others_place_by_are_told_after_a_moment(changed: Standing) -> None:
    advertiser = advertiser_of_a_node_that_has_spoken({"cpu": 0.0})

    assert advertiser.speak(changed, advert, 0.001) == []
    assert advertiser.wake_at == QUICK_GAP_S
    assert advertiser.speak(changed, lambda: advert(1), QUICK_GAP_S) == [advert(1)]


def test_a_node_that_changes_all_the_time_speaks_only_so_often() -> None:
    advertiser = advertiser_of_a_node_that_has_spoken({"cpu": 0.0})
    numbers = count()

    spoken = []
    for now in (tick / 1000 for tick in range(1, 1001)):
        changed = {"cpu": now}, OFFERED, False, 0, False, ""
        spoken += [now for _ in advertiser.speak(changed, lambda: advert(next(numbers)), now)]

    assert spoken[:3] == pytest.approx([QUICK_GAP_S, 2 * QUICK_GAP_S, 3 * QUICK_GAP_S], abs=0.002)
    assert len(spoken) <= 1 / ADVERT_GAP_S + QUICK_ADVERTS
    assert spoken[-1] - spoken[-2] == pytest.approx(ADVERT_GAP_S, abs=0.002)


def test_load_can_wait_while_claims_are_what_was_said() -> None:
    claimed = {"cpu": 1.0}
    advertiser = advertiser_of_a_node_that_has_spoken(claimed)
    claimed["cpu"] = 0.0
    advertiser.speak((claimed, OFFERED, False, 0, False, ""), advert, 0.01)
    claimed["cpu"] = 1.0

    assert advertiser.speak((claimed, OFFERED, False, 0, False, ""), advert, ADVERT_GAP_S) == []
    assert advertiser.wake_at == LOAD_GAP_S
    assert advertiser.speak((claimed, OFFERED, False, 0, False, ""), lambda: advert(7), LOAD_GAP_S) == [
        advert(7)
    ]


def test_what_is_as_it_was_is_told_once_a_period() -> None:
    standing = {"cpu": 0.0}, OFFERED, False, 0, False, ""
    advertiser = advertiser_of_a_node_that_has_spoken(standing[0])

    assert advertiser.speak(standing, advert, LOAD_GAP_S) == []
    assert advertiser.wake_at == ADVERT_PERIOD_S
    assert advertiser.speak(standing, advert, ADVERT_PERIOD_S) == [advert()]


def test_the_more_members_hear_it_the_less_often_a_node_speaks() -> None:
    advertiser = advertiser_of_a_node_that_has_spoken({"cpu": 0.0})
    advertiser.count(400)

    assert advertiser.speak(({"cpu": 1.0}, OFFERED, False, 0, False, ""), advert, ADVERT_GAP_S) == []
    assert advertiser.wake_at == 0.4


def test_few_members_hear_a_node_as_soon_as_one_does() -> None:
    advertiser = advertiser_of_a_node_that_has_spoken({"cpu": 0.0})
    advertiser.count(10)

    advertiser.speak(({"cpu": 1.0}, OFFERED, False, 0, False, ""), advert, 0.001)

    assert advertiser.wake_at == QUICK_GAP_S


def test_a_node_is_heard_once_a_period_however_many_members_there_are() -> None:
    assert least_gap_s(10_000) == ADVERT_PERIOD_S
