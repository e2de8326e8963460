from itertools import accumulate

import pytest

from handoff_actors.moving_average import UNKNOWN, peak_smoothed, smoothed


def test_the_first_number_is_the_average() -> None:
    assert smoothed(None, 7.0, 0.3) == 7.0
    assert smoothed(0.0, 7.0, 0.5) == 3.5


def test_the_average_follows_by_its_weight_in_both_directions() -> None:
    assert smoothed(1.0, 2.0, 0.25) == 1.25
    assert smoothed(1.0, 0.0, 0.25) == 0.75


@pytest.mark.parametrize(("weight", "average"), [(0.0, 1.0), (1.0, 5.0)])
def test_weight_goes_from_nothing_to_the_latest_alone(weight: float, average: float) -> None:
    assert smoothed(1.0, 5.0, weight) == average


def test_the_first_number_is_the_peak_average() -> None:
    assert peak_smoothed(UNKNOWN, 7.0, 0.3) == 7.0
    assert peak_smoothed(UNKNOWN, UNKNOWN, 0.3) == UNKNOWN


def test_the_peak_average_rises_at_once_and_falls_slowly() -> None:
    averages = accumulate(
        [4.0, 8.0, 0.0, 0.0, 3.0], lambda average, latest: peak_smoothed(average, latest, 0.5)
    )

    assert list(averages) == [4.0, 8.0, 4.0, 2.0, 3.0]
