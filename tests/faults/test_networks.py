"""Networks that are cut, in one direction or both, for a moment or for long, and networks that are bad all the time."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.daemons import HANDOFF, Daemon, Daemons, environment
from tests.faults.functions import LARGE
from tests.hosts.hub import Conditions, Hub
from tests.hosts.network import Host, HostNetwork

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

#: Without a key, so that a link stands after as few words as it can where each of them takes long; where a word may be lost three
#: times, one try to join is not enough.
VARIABLES = {
    "PYTHONPATH": os.pathsep.join(sys.path),
    "HANDOFF_INSECURE": "1",
    "HANDOFF_JOIN_WAIT": "30",
}
#: One that stays well, and one for each way to be cut off.
NODES = 5
#: Less than makes a member suspect plus what TCP takes to come back, and more than makes it count as gone.
A_MOMENT_S = 4.0
LONG_S = 14.0


#: Half a second for a question and its answer.
BAD = Conditions(delay_s=0.2, jitter_s=0.02, loss=0.05, overtaking=0.1)
FEW = 2


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    if os.geteuid() != 0 or shutil.which("tc") is None:
        pytest.skip("network namespaces need root and iproute2")
    with ExitStack() as stack:
        yield stack


def start_nodes(hosts: Sequence[Host], daemons: Daemons) -> list[Daemon]:
    """A node n1, n2, ... on each host."""
    started: list[Daemon] = []
    for number, host in enumerate(hosts, start=1):
        join = ("--join", started[0].address) if started else ()
        options = (
            "--name",
            f"n{number}",
            "--cpu",
            "1",
            "--listen",
            f"tcp://{host.address}:7070",
        )
        started.append(daemons.start(*options, *join, prefix=host.prefix, variables=VARIABLES))
    return started


def start_app(host: Host, seed: str, nodes: int, seconds: float, stack: ExitStack) -> "subprocess.Popen[str]":
    """An app that has sent out all its functions."""
    command = [*host.prefix, HANDOFF[0], "-m", "tests.faults.distant_app", seed, str(nodes), str(seconds)]
    process = subprocess.Popen(command, env=environment(**VARIABLES), stdout=subprocess.PIPE, text=True)
    stack.enter_context(process)
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "sent\n"
    return process


def later(seconds: float, actions: Sequence[Callable[[], None]], stack: ExitStack) -> None:
    timers = [threading.Timer(seconds, action) for action in actions]
    for timer in timers:
        timer.start()
        stack.callback(timer.cancel)


def test_cuts_of_any_kind_and_length_cost_a_run_nothing_but_time(daemons: Daemons, stack: ExitStack) -> None:
    hosts = stack.enter_context(HostNetwork(NODES + 1, net="10.78.0")).hosts
    stack.callback(daemons.close)
    nodes = start_nodes(hosts[:-1], daemons)
    app = start_app(hosts[-1], nodes[0].address, NODES, 6.0, stack)
    _, one_way, both_ways, one_way_long, both_ways_long, _ = hosts
    for host in (one_way, one_way_long):
        host.lose_what_leaves()
    for host in (both_ways, both_ways_long):
        host.unplug()
    later(A_MOMENT_S, [one_way.stop_losing, both_ways.plug_in], stack)
    later(LONG_S, [one_way_long.stop_losing, both_ways_long.plug_in], stack)

    out, _ = app.communicate(timeout=80)
    answer = json.loads(out)

    assert answer["length"] == NODES * LARGE
    assert answer["complaints"] == []
    assert answer["lost"] == ["n4", "n5"]
    assert answer["kinds"]["completed"] == NODES + 1, "a result was taken twice"
    for node in nodes:
        node.wait_until(lambda node=node: not node.stored())  # type: ignore[misc]


def test_slow_lossy_network_that_reorders_loses_no_node(daemons: Daemons, stack: ExitStack) -> None:
    hosts = stack.enter_context(Hub(FEW + 1, BAD)).hosts
    stack.callback(daemons.close)
    nodes = start_nodes(hosts[:-1], daemons)

    app = start_app(hosts[-1], nodes[1].address, FEW, 2.0, stack)
    out, _ = app.communicate(timeout=100)
    answer = json.loads(out)

    assert answer["length"] == FEW * LARGE
    assert answer["complaints"] == []
    assert set(answer["kinds"]) <= {"assigned", "completed", "recalled"}
    assert not any("member down" in node.log() for node in nodes)
