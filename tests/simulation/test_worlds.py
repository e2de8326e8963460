from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.simulation.network import Clock, Timeline
from tests.simulation.worlds import run_world

SEEDS = 1000
#: Of the first worlds, a quarter of which are free of faults.
COUNTED = 200
HAPPENS_IN = {
    "found results": 20,
    "shut one way": 60,
    "the app gave up a link": 12,
    "the node gave up a link": 12,
    "late at the node": 6,
    "mute": 50,
    "suspected": 30,
    "cleared": 10,
    "slow": 40,
    "left": 60,
    "ended by itself": 16,
    "copied": 30,
    "copied late": 5,
    "never copied": 4,
    "ran in a fused group": 20,
    "separated": 8,
    "of another Python": 20,
    "another life answered": 3,
    "a bug": 40,
    "large arguments": 8,
    "relayed": 20,
    "not even relayed": 5,
    "objects found": 25,
    "objects given up": 30,
}
#: Test functions that share them.
PARTS = 16
ONCE_FAILED = [int(line) for line in (Path(__file__).parent / "seeds.txt").read_text().split()]


def checked_world(seed: int) -> Counter[str]:
    try:
        return run_world(seed)
    except AssertionError as error:
        error.add_note(f"python -m tests.simulation.replay {seed}")
        raise


@pytest.mark.parametrize("part", range(PARTS))
def test_every_run_ends_well_or_for_a_reason_and_nothing_is_left_of_it(part: int) -> None:
    for seed in range(COUNTED + part, SEEDS, PARTS):
        checked_world(seed)


@pytest.mark.parametrize("seed", ONCE_FAILED)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    run_world(seed)


@pytest.mark.parametrize("seed", range(8))
def test_same_seed_gives_the_same_trace(seed: int) -> None:
    first: list[str] = []
    second: list[str] = []

    run_world(seed, first)
    run_world(seed, second)

    assert first
    assert first == second


def test_what_can_go_wrong_does_go_wrong_in_many_worlds() -> None:
    worlds: Counter[str] = Counter()

    for seed in range(COUNTED):
        worlds.update(fault for fault, times in checked_world(seed).items() if times)

    assert {fault for fault, least in HAPPENS_IN.items() if worlds[fault] < least} == set()


def test_clocks_drift_apart_and_ring_no_earlier_than_they_show() -> None:
    timeline, random = Timeline(), Random(1)
    clocks = [Clock(timeline, random) for _ in range(50)]
    starts = [clock.now for clock in clocks]
    rings_at = [clock.when(clock.now + 100.0) for clock in clocks]

    timeline.now += 100.0

    passed = [clock.now - start for clock, start in zip(clocks, starts, strict=True)]
    assert min(passed) < 99.0
    assert max(passed) > 101.0
    for clock, start, ring in zip(clocks, starts, rings_at, strict=True):
        timeline.now = ring
        assert 0.0 <= clock.now - (start + 100.0) < 1e-6
