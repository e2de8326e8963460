"""The metrics of a node, scraped as Prometheus does."""

import asyncio
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import handoff_actors as handoff
from tests.daemons import HANDOFF, Daemon, Daemons, environment
from tests.integrations.telemetry.functions import die_once, fail

pytestmark = pytest.mark.processes

GAUGES = {
    "handoff_capability",
    "handoff_spare",
    "handoff_functions_running",
    "handoff_functions_queued",
    "handoff_workers",
    "handoff_stored_bytes",
    "handoff_leaving",
    "handoff_runs",
    "handoff_members",
    "handoff_suspects",
    "handoff_open_descriptors",
    "handoff_descriptor_limit",
}
COUNTERS = {
    "handoff_functions_done",
    "handoff_functions_failed",
    "handoff_worker_deaths",
    "handoff_fetched_bytes",
    "handoff_spilled_bytes",
    "handoff_log_lines_dropped",
    "handoff_refusals",
}


@pytest.fixture
def node(daemons: Daemons) -> Daemon:
    return daemons.start("--name", "n1", "--cpu", "2", "--resource", "gpu=1", "--metrics-port", "0")


def scrape(node: Daemon) -> Iterator[tuple[str, str, dict[str, str], float]]:
    """Type, name, labels and value of each sample."""
    with urllib.request.urlopen(node.metrics, timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            yield family.type, sample.name, sample.labels, sample.value


def standing(node: Daemon) -> dict[str, float]:
    """The metrics without labels, and those of cores."""
    samples = list(scrape(node))
    return {name: value for _, name, labels, value in samples if labels.get("resource", "cpu") == "cpu"}


def values(node: Daemon) -> dict[str, float]:
    """The metrics without labels."""
    return {name: value for _, name, labels, value in scrape(node) if not labels}


def test_everything_is_there_and_well_formed(node: Daemon) -> None:
    samples = list(scrape(node))

    assert {name for kind, name, _, _ in samples if kind == "gauge"} == GAUGES | {"handoff_node_info"}
    assert {name for kind, name, _, _ in samples if kind == "counter"} == {
        f"{name}_total" for name in COUNTERS
    }
    offered = {
        labels["resource"]: value for _, name, labels, value in samples if name == "handoff_capability"
    }
    assert (offered["cpu"], offered["gpu"]) == (2.0, 1.0)
    assert [labels["name"] for _, name, labels, _ in samples if name == "handoff_node_info"] == ["n1"]


async def test_counters_count_what_happens(node: Daemon, tmp_path: Path) -> None:
    dag = handoff.new()
    for number in range(10):
        dag.add_function(handoff.Function(number, [], int))
    dag.add_function(handoff.Function("dies", [], die_once, extra_args=[str(tmp_path / "marker")]))
    dag.add_function(handoff.Function("fetched", [], len, extra_args=[bytes(1_000_000)]))
    failing = handoff.new().add_function(handoff.Function("fails", [], fail, max_retries=1))

    async with handoff.Session(seeds=[node.address]) as session:
        await session.execute_distributed(dag)
        with pytest.raises(handoff.FunctionFailed):
            await session.execute_distributed(failing)
        counted = await asyncio.to_thread(values, node)

    assert counted["handoff_functions_done_total"] == 12
    # A function that shared its worker with others is not blamed at once: it is tried again, alone.
    assert counted["handoff_functions_failed_total"] in {2, 3}
    assert counted["handoff_worker_deaths_total"] == 1
    assert counted["handoff_fetched_bytes_total"] > 1_000_000


async def test_gauges_tell_how_it_stands(node: Daemon, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    dag = handoff.new().add_function(handoff.Function("made", [], bytes, extra_args=[1_000_000]))
    reads = handoff.Function("reads", ["made"], lambda _: fifo.read_text(), cost={"cpu": 2})
    dag.add_function(reads)

    async with handoff.Session(seeds=[node.address]) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag))
        with await asyncio.to_thread(fifo.open, "w") as writer:
            # The node publishes this when the function begins, or 0.05 seconds later.
            async with asyncio.timeout(10):
                while (reported := await asyncio.to_thread(standing, node))["handoff_spare"]:
                    assert not running.done()
            writer.write("go on")

    assert reported["handoff_functions_running"] == 1
    assert reported["handoff_stored_bytes"] > 1_000_000


async def test_what_an_operator_asks_for_is_counted(node: Daemon, daemons: Daemons) -> None:
    daemons.start("--name", "n2", "--join", node.address)
    with pytest.raises(handoff.AuthenticationError):
        async with handoff.Session(seeds=[node.address], insecure=True):
            """It is refused."""
    dag = handoff.new()
    for number in range(4):
        dag.add_function(handoff.Function(number, [], bytes, extra_args=[600_000]))

    small = daemons.start("--name", "small", "--metrics-port", "0", "--store-limit", "1")
    async with handoff.Session(seeds=[small.address]) as session:
        await session.execute_distributed(dag, fetch=[])
    counted, spilled = await asyncio.to_thread(values, node), await asyncio.to_thread(values, small)
    refused = {
        labels["kind"]: value
        for _, name, labels, value in await asyncio.to_thread(list, scrape(node))
        if name == "handoff_refusals_total"
    }

    assert (counted["handoff_members"], counted["handoff_suspects"], counted["handoff_runs"]) == (1, 0, 0)
    assert 10 < counted["handoff_open_descriptors"] < counted["handoff_descriptor_limit"]
    assert spilled["handoff_spilled_bytes_total"] > 600_000
    assert refused["stranger refused"] >= 1
    assert refused["member refused"] == refused["malformed message"] == 0


def test_metrics_are_for_this_machine_only_unless_told_otherwise(node: Daemon, daemons: Daemons) -> None:
    assert node.metrics.startswith("http://127.0.0.1:")
    port = int(node.metrics.split(":")[2].split("/")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=10)

    far = daemons.start("--metrics-port", "0", "--metrics-host", "0.0.0.0")

    assert far.metrics.startswith("http://0.0.0.0:")


def test_the_port_is_free_again_after_the_end(node: Daemon) -> None:
    port = int(node.metrics.split(":")[2].split("/")[0])

    assert node.terminate() == 0

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*HANDOFF, "node", "--listen", "tcp://127.0.0.1:0", "--metrics-port", str(port)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=30, env=environment()
        )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: --metrics-port: port {port} of 127.0.0.1 is in use by another process"
    )
