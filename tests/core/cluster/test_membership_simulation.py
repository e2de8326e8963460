import pytest

from tests.simulation.membership import run_split, run_world

SEEDS = 60
#: Number of test cases that share the seeds.
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_every_view_converges_to_the_present_members_and_no_member_flaps(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        try:
            run_world(seed)
        except AssertionError as error:
            error.add_note(f"tests.simulation.membership.run_world({seed})")
            raise


@pytest.mark.parametrize("seed", range(2))
def test_a_split_of_hours_heals(seed: int) -> None:
    run_split(seed, hours=1)
