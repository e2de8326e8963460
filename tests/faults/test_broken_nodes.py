"""Nodes that fail whatever they are given, as their disk is full, or their mount is missing."""

import pytest

import handoff_actors as handoff
from tests.docs.quotes import check_quoted
from tests.faults import functions
from tests.faults.conftest import OpenSession, StartNode
from tests.faults.observing import until

pytestmark = pytest.mark.processes


async def test_node_that_fails_everything_is_out_of_use_until_it_does_something_well(
    start_node: StartNode, open_session: OpenSession
) -> None:
    well = start_node("well", "--cpu", "1")
    broken = start_node("broken", "--cpu", "1", "--join", well.address)
    failing, working, mending = handoff.DAG(), handoff.DAG(), handoff.DAG()
    for number in range(6):
        failing.add_function(
            handoff.Function(number, [], functions.read, extra_args=["/no/such/disk"], node="broken")
        )
        working.add_function(handoff.Function(number, [], functions.hold, extra_args=[0.01], cost={"cpu": 1}))
    mending.add_function(handoff.Function("well", [], functions.make, node="broken"))
    async with open_session(well) as session:

        def reason() -> str:
            [advert] = [each for each in session._hub._connections.adverts() if each.name == "broken"]
            return advert.out_of_use

        await until(session, lambda: len(session._hub._connections.ups()) == 2)

        await session.execute_distributed(failing, on_failure="continue", max_retries=0)
        await until(session, lambda: "/no/such/disk" in reason())
        run = await session.execute_distributed(working)
        await session.execute_distributed(mending)

        assert set(run.allocations.values()) == {"well"}
        await until(session, lambda: reason() == "")

    check_quoted("troubleshooting.md", "ERROR out of use", broken.log())
