import itertools

import pytest

from handoff_actors.core.cluster import comparisons
from handoff_actors.core.cluster.comparisons import COMPARE_S, MAX_COMPARE_S, Comparisons

OWN, OTHER, THIRD = 1, 2, 3


def asked_at(paced: Comparisons, view: int, until: float, own: int = OWN) -> list[float]:
    """The times at which a member that says its view every second is asked."""
    return [now for now in map(float, range(int(until))) if paced.is_due(own, view, now)]


def test_difference_that_stays_is_asked_about_ever_more_rarely() -> None:
    times = asked_at(Comparisons(), OTHER, 120.0)

    assert times[:5] == [0.0, 2.0, 6.0, 14.0, 30.0]
    assert {later - time for time, later in itertools.pairwise(times[4:])} == {MAX_COMPARE_S}


def test_new_difference_is_asked_about_soon() -> None:
    paced = Comparisons()
    asked_at(paced, OTHER, 100.0)

    assert paced.is_due(OWN, THIRD, 100.0)
    assert paced.is_due(THIRD, OTHER, 100.0 + COMPARE_S)


def test_same_view_is_no_reason_to_ask() -> None:
    assert not Comparisons().is_due(OWN, OWN, 1.0)


def test_nothing_is_asked_for_a_moment_after_a_change() -> None:
    paced = Comparisons()
    paced.postpone(1.0)

    assert not paced.is_due(OWN, OTHER, COMPARE_S)
    assert paced.is_due(OWN, OTHER, 1.0 + COMPARE_S)


def test_only_so_many_views_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "MAX_VIEWS", 3)
    paced = Comparisons()
    for number in range(10):
        assert paced.is_due(OWN, OTHER + number, COMPARE_S * number)

    assert len(paced._differences) <= 3
