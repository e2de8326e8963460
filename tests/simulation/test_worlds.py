from pathlib import Path

import pytest

from simulation.worlds import run_world

SEEDS = 2000
#: So many test functions share them.
PARTS = 16
ONCE_FAILED = [int(line) for line in (Path(__file__).parent / "seeds.txt").read_text().split()]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_run_ends_well_or_for_a_reason_and_nothing_is_left_of_it(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        try:
            run_world(seed)
        except AssertionError as error:
            error.add_note(f"python -m simulation.replay {seed}")
            raise


@pytest.mark.parametrize("seed", ONCE_FAILED)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    run_world(seed)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_same_seed_gives_the_same_trace(seed: int) -> None:
    first: list[str] = []
    second: list[str] = []

    run_world(seed, first)
    run_world(seed, second)

    assert first
    assert first == second
