import pytest

from tests.daemons import Daemons
from tests.faults.churn import Churn

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

LASTS_S = 30.0


async def test_runs_are_right_or_end_with_a_clear_error_while_nodes_come_and_go(daemons: Daemons) -> None:
    churn = Churn(daemons, seed=1)

    await churn.go_on_for(LASTS_S)

    tally = churn.tally
    assert tally.complaints == []
    assert tally.runs["wrong"] == 0
    assert tally.runs["right"] > 10 * (tally.runs.total() - tally.runs["right"])
    assert min(tally.changes[kind] for kind in ("join", "drain", "kill")) > 0
