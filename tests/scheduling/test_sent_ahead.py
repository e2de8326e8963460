"""Work that is sent ahead of time, under simulated time: enough for the way, and none behind what takes long."""

import pytest

from benchmarks.ideal_queue import ends_of
from benchmarks.long_behind_long import simulated as long_behind_long
from benchmarks.sent_ahead import LOADS, NODES, simulated

SEEDS = range(10)


@pytest.mark.parametrize("latency_s", [0.0003, 0.001, 0.003])
def test_long_functions_after_short_ones_of_the_same_code_do_not_wait_for_one_another(
    latency_s: float,
) -> None:
    assert max(long_behind_long(seed, latency_s) for seed in SEEDS) <= 1.2


def test_nodes_that_are_far_away_are_kept_busy_with_short_functions() -> None:
    durations_s = LOADS["short"]()

    busy = sum(durations_s) / (simulated("short", 0.01) * NODES)

    assert busy >= 0.8


@pytest.mark.parametrize(("latency_s", "most"), [(0.0, 1.01), (0.01, 1.3)])
def test_work_sent_ahead_does_not_wait_where_one_function_in_twenty_takes_long(
    latency_s: float, most: float
) -> None:
    best_s = max(ends_of([(0.0, duration_s) for duration_s in LOADS["bimodal"]()], NODES))

    assert simulated("bimodal", latency_s) <= most * best_s
