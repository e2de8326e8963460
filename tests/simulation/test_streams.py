from pathlib import Path

import pytest

from tests.simulation.streams import CHAINS_FROM, StreamWorld

SEEDS = 400
CHAINS = 160
#: Test functions that share them.
PARTS = 8
ONCE_FAILED = [int(line) for line in (Path(__file__).parent / "stream_seeds.txt").read_text().split()]


@pytest.mark.parametrize("part", range(PARTS))
def test_each_item_comes_out_once_and_in_order_and_nothing_is_left_of_it(part: int) -> None:
    for seed in [*range(part, SEEDS, PARTS), *range(CHAINS_FROM + part, CHAINS_FROM + CHAINS, PARTS)]:
        run(seed)


@pytest.mark.parametrize("seed", ONCE_FAILED)
def test_a_world_that_failed_once_does_not_fail_again(seed: int) -> None:
    run(seed)


def run(seed: int) -> None:
    try:
        StreamWorld(seed).run()
    except AssertionError as error:
        error.add_note(f"StreamWorld({seed}).run(), see tests/simulation/streams.py")
        raise
