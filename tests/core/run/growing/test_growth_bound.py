"""The bound against growth without end."""

import pytest

from handoff_actors.core.run.growing.growth_bound import GrowthBound


def test_functions_are_counted_altogether_where_all_is_known_from_the_start() -> None:
    bound = GrowthBound(10, is_open=False)

    bound.note(0, [5, 6], 6)
    bound.forget([0, 5, 6])

    assert not bound.is_passed(1, 4)
    assert bound.is_passed(1, 5)


@pytest.mark.parametrize("grower", [0, 5, 7])
def test_functions_of_an_open_run_are_counted_with_the_one_that_has_led_to_them(grower: int) -> None:
    bound = GrowthBound(10, is_open=True)

    bound.note(0, [5, 6], 3)
    bound.note(5, [7], 3)

    assert not bound.is_passed(grower, 4)
    assert bound.is_passed(grower, 5)
    assert not bound.is_passed(1, 10)
    assert bound.is_passed(1, 11)


def test_a_later_function_with_the_same_index_begins_anew() -> None:
    bound = GrowthBound(10, is_open=True)
    bound.note(0, [5], 9)

    bound.forget([0])

    assert not bound.is_passed(0, 10)
    assert bound.is_passed(5, 2)
