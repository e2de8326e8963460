import pytest

from tests.simulation.nested_worlds import World

#: Far beyond the time that any of these worlds takes.
NEVER = 1e6


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_nested_runs_end_with_an_error_exactly_where_they_would_wait_for_ever(first: int) -> None:
    for seed in range(first, first + 20):
        patient, impatient = World(seed, NEVER), World(seed, 2.0)

        patient.play()
        impatient.play()

        assert impatient.is_over, f"world {seed} hangs"
        assert bool(impatient.deadlocks) == (not patient.is_over), f"world {seed}"


def test_both_kinds_of_worlds_are_among_them() -> None:
    ended = []
    for seed in range(40):
        world = World(seed, NEVER)
        world.play()
        ended.append(world.is_over)

    assert 5 < sum(ended) < 35
