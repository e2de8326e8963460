import pytest

from tests.simulation.membership import run_world

SEEDS = 200
#: So many test functions share them.
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_every_view_comes_to_show_just_who_is_there_and_nobody_flaps(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        try:
            run_world(seed)
        except AssertionError as error:
            error.add_note(f"tests.simulation.membership.run_world({seed})")
            raise
