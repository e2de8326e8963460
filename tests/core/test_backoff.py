"""Pauses grow from the first to the longest, with jitter that is the same each time."""

import pytest

from handoff_actors.core.backoff import NO_BACKOFF, pause_s


@pytest.mark.parametrize(("failures", "most"), [(1, 1.0), (2, 3.0), (3, 5.0), (5_000, 5.0)])
def test_pause_is_between_half_and_all_of_what_grows_up_to_the_longest(failures: int, most: float) -> None:
    pauses = [pause_s((1.0, 3.0, 5.0), failures, number) for number in range(50)]

    assert all(most / 2 <= pause <= most for pause in pauses)
    assert len(set(pauses)) > 40
    assert pauses == [pause_s((1.0, 3.0, 5.0), failures, number) for number in range(50)]


def test_there_is_no_pause_by_default() -> None:
    assert pause_s(NO_BACKOFF, 3, 7) == 0.0
