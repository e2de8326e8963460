import pytest

from tests.simulation.bursts import run_burst


@pytest.mark.parametrize("start", range(0, 60, 6))
def test_no_node_waits_while_another_idles_for_longer_than_adverts_take(start: int) -> None:
    for seed in range(start, start + 6):
        run_burst(seed)
