"""Hosts that can't reach one another, while the app reaches them all."""

import pytest

from tests.daemons import Daemon
from tests.hosts.network import Host, Parting

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

CROSSING = """
import asyncio, json, sys, time
import handoff_actors as handoff

SIZE = 30_000_000

def make():
    return bytes(SIZE)

def measure(*values):
    return sum(map(len, values))

async def main(seeds):
    dag = handoff.new()
    dag.add_function(handoff.Function("made", [], make, node="h1"))
    for name in ("there", "also there"):
        dag.add_function(handoff.Function(name, ["made"], measure, node="h2"))
    dag.add_function(handoff.Function("third", ["made"], measure, node="h3"))
    dag.add_function(handoff.Function("back", ["made", "there"], measure_both, node="h1"))
    seen, took = [], []
    async with handoff.Session(seeds=seeds) as session:
        for _ in range(2):
            began = time.monotonic()
            run = await session.execute_distributed(dag, on_event=seen.append)
            took.append(time.monotonic() - began)
    told = [event for event in seen if isinstance(event, handoff.events.ValueRelayed)]
    print(json.dumps({
        "results": [run.results[name] for name in ("there", "also there", "third", "back")],
        "relayed": [[event.function_id, event.holder, event.node] for event in told],
        "lost": [event.reason for event in seen if isinstance(event, handoff.events.Lost)],
        "took": took,
        "report": str(run.report),
    }))

def measure_both(value, number):
    return len(value) + number

asyncio.run(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", ["silent", "refused"])
def test_values_between_hosts_that_are_parted_go_through_the_app(
    hosts: list[Host], cluster: list[Daemon], app: Host, how: Parting
) -> None:
    hosts[0].part(hosts[1], how)
    hosts[1].part(hosts[0], how)

    answer = app.run_script(CROSSING, *(node.address for node in cluster))

    assert answer["results"] == [30_000_000, 30_000_000, 30_000_000, 60_000_000]
    assert answer["relayed"] == [["made", "h1", "h2"]] * 2
    assert answer["lost"] == []
    # The node waits for a connection once.
    assert answer["took"][0] < 10.0
    assert answer["took"][1] < 5.0
    assert "the app relayed 30.0 MB from node 'h1' to node 'h2'" in answer["report"]
