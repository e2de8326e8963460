"""Features that must work between machines, on three hosts with addresses of their own."""

import json
import os
import subprocess
from contextlib import ExitStack
from unittest.mock import ANY

import pytest

from tests.daemons import HANDOFF, Daemon, Daemons
from tests.hosts.name_server import names_on, silent_name_server
from tests.hosts.network import KEY, Host

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

SIXTY = """
import asyncio, collections, json, sys, time
import handoff_actors as handoff

def work():
    time.sleep(0.05)

async def main(seed):
    dag = handoff.new()
    for number in range(60):
        dag.add_function(handoff.Function(number, [], work, cost={"cpu": 1}))
    async with handoff.Session(seeds=[seed]) as session:
        run = await session.execute_distributed(dag)
        print(json.dumps(collections.Counter(run.allocations.values())))

asyncio.run(main(sys.argv[1]))
"""

STORED = """
import asyncio, json, sys
import handoff_actors as handoff

SIZE = 10_000_000

def make():
    return bytes(SIZE)

def measure(value):
    return len(value)

async def main(seed):
    dag = handoff.new()
    dag.add_function(handoff.Function("made", [], make, node="h1"))
    dag.add_function(handoff.Function("here", ["made"], measure, node="h1"))
    dag.add_function(handoff.Function("there", ["made"], measure, node="h2"))
    dag.add_function(handoff.Function("also there", ["made"], measure, node="h2"))
    async with handoff.Session(seeds=[seed]) as session:
        run = await session.execute_distributed(dag)
        before = session.received_bytes()
        value = await run.fetch("made")
        after = session.received_bytes()
        print(json.dumps({
            "results": [run.results["here"], run.results["there"], run.results["also there"]],
            "moved": {name: run.report[name].moved_nbytes for name in ("here", "there")},
            "into the app": before,
            "fetched": len(value),
            "by fetching": after - before,
        }))

asyncio.run(main(sys.argv[1]))
"""

PLACED = """
import asyncio, json, socket, sys
import handoff_actors as handoff

def where():
    return "made"

def tell(value, source, target):
    return [value, source, target]

def give(value, source, target):
    return [value, source, target]

def same(*values):
    return values[0] if values else None

async def main(seed):
    dag = handoff.new()
    dag.add_function(handoff.Function("a", [], where, node="h1"))
    hooked = handoff.Argument("a", serialize=tell, deserialize=give)
    dag.add_function(handoff.Function("b", [hooked], same, node="h3"))
    dag.add_function(handoff.Function("c", ["b"], same, node=handoff.collocated("b")))
    dag.add_function(handoff.Function("d", [], same, cost={"cpu": 1}, node=handoff.collocated("e")))
    dag.add_function(handoff.Function("e", [], same, cost={"cpu": 1}))
    async with handoff.Session(seeds=[seed]) as session:
        run = await session.execute_distributed(dag)
        print(json.dumps({"b": run.results["b"], "nodes": {name: run.allocations[name] for name in "abcde"}}))

asyncio.run(main(sys.argv[1]))
"""


def test_any_member_shows_all_three_hosts(cluster: list[Daemon], app: Host) -> None:
    for asked in cluster:
        command = [*app.prefix, *HANDOFF, "nodes", "--join", asked.address, "--json"]
        shown = json.loads(
            subprocess.run(command, check=True, env=os.environ | KEY, capture_output=True, text=True).stdout
        )

        assert sorted(node["name"] for node in shown) == ["h1", "h2", "h3"]
        assert {node["address"] for node in shown} == {node.address for node in cluster}


def test_functions_spread_over_all_hosts_in_proportion(cluster: list[Daemon], app: Host) -> None:
    counts = app.run_script(SIXTY, cluster[1].address)

    assert sum(counts.values()) == 60
    assert counts.keys() == {"h1", "h2", "h3"}
    assert max(counts.values()) - min(counts.values()) <= 8, counts


def test_a_host_that_joins_is_used(
    hosts: list[Host], cluster: list[Daemon], daemons: Daemons, app: Host
) -> None:
    options = ("--name", "h4", "--cpu", "2", "--listen", f"tcp://{app.address}:7070")
    daemons.start(*options, "--join", cluster[2].address, prefix=hosts[-1].prefix, variables=KEY)

    counts = app.run_script(SIXTY, cluster[0].address)

    assert counts.keys() == {"h1", "h2", "h3", "h4"}


def test_stored_values_move_between_hosts_and_not_through_the_app(cluster: list[Daemon], app: Host) -> None:
    answer = app.run_script(STORED, cluster[0].address)

    assert answer["results"] == [10_000_000] * 3
    assert answer["moved"]["here"] == 0
    assert answer["moved"]["there"] >= 10_000_000
    assert answer["into the app"] < 100_000
    assert answer["fetched"] == 10_000_000
    assert answer["by fetching"] >= 10_000_000


def test_placement_and_hooks_know_the_hosts(cluster: list[Daemon], app: Host) -> None:
    answer = app.run_script(PLACED, cluster[0].address)

    assert answer["b"] == [["made", "h1", "h3"], "h1", "h3"]
    assert answer["nodes"]["a"] == "h1"
    assert answer["nodes"]["b"] == answer["nodes"]["c"] == "h3"
    assert answer["nodes"]["d"] == answer["nodes"]["e"]


def test_killing_a_host_does_not_hurt_the_run(cluster: list[Daemon], app: Host) -> None:
    command = [*app.prefix, "python", "-u", "-c", SIXTY, cluster[1].address]
    command[len(app.prefix)] = HANDOFF[0]
    running = subprocess.Popen(command, env=os.environ | KEY, stdout=subprocess.PIPE, text=True)
    waiting = subprocess.run(
        [*app.prefix, HANDOFF[0], "-c", WAIT_UNTIL_BUSY, cluster[0].address],
        env=os.environ | KEY,
        check=True,
        timeout=30,
    )

    cluster[2].kill()

    out, _ = running.communicate(timeout=40)
    assert waiting.returncode == 0
    assert sum(json.loads(out).values()) == 60


WAIT_UNTIL_BUSY = """
import asyncio, sys
import handoff_actors as handoff

async def main(seed):
    async with handoff.Session(seeds=[seed]) as session:
        while await session.resources_available("h3", {"cpu": 2}):
            await asyncio.sleep(0.01)

asyncio.run(main(sys.argv[1]))
"""


def test_a_newcomer_whose_name_can_not_be_resolved_parts_no_others(
    hosts: list[Host], daemons: Daemons
) -> None:
    def start(number: int, *options: str) -> Daemon:
        host = hosts[number - 1]
        listen = ("--name", f"h{number}", "--cpu", "1", "--listen", f"tcp://{host.address}:7070")
        return daemons.start(*listen, *options, prefix=host.prefix, variables=KEY)

    with ExitStack() as closing:
        for host in hosts[:2]:
            closing.enter_context(silent_name_server(host))
        closing.enter_context(names_on(hosts[2], {"h3.example": hosts[2].address}))
        first = start(1)
        second = start(2, "--join", first.address)

        start(3, "--join", first.address, "--advertise", "h3.example")

        assert hosts[3].run_script(SIXTY, first.address) == {"h1": ANY, "h2": ANY}
        for node in (first, second):
            node.wait_for_log("member='h3' is_suspect=True")
        assert all("member='h1' is_suspect" not in node.log() for node in (first, second))
        assert all("member='h2' is_suspect" not in node.log() for node in (first, second))
