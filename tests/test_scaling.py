"""The scripts behind docs/scaling.md go on working: each on a small scale."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks import scaling_discovery
from benchmarks.scaling import simulated
from benchmarks.scaling_functions import measure
from benchmarks.scaling_world import Costs, Shape

#: The same each time.
FIXED = Costs(run_s=20e-6)


def test_ten_nodes_are_kept_busy_by_functions_of_a_second() -> None:
    row = simulated(Shape(nodes=10, cores=4, functions=40, duration_s=1.0), FIXED)

    assert row["efficiency"] > 0.95


def test_one_app_keeps_fewer_cores_busy_the_shorter_functions_are() -> None:
    shapes = [
        Shape(nodes=10, cores=4, functions=400, duration_s=duration_s) for duration_s in (0.1, 0.01, 0.001)
    ]

    efficiencies = [simulated(shape, FIXED)["efficiency"] for shape in shapes]

    assert efficiencies == sorted(efficiencies, reverse=True)
    assert efficiencies[0] > 0.8


def test_the_same_costs_give_the_same_run() -> None:
    shape = Shape(nodes=10, cores=4, functions=200, duration_s=0.005)

    assert simulated(shape, FIXED) == simulated(shape, FIXED)


def test_adverts_cost_bytes_and_time() -> None:
    row = scaling_discovery.measure(nodes=10, rounds=50)

    assert 100 < row["advert_nbytes"] < 500
    assert row["advert_us"] > 0


@pytest.mark.processes
async def test_pending_functions_take_less_than_a_kilobyte_each() -> None:
    row = await measure(10_000)

    assert 0 < row["pending_nbytes"] < 1000
