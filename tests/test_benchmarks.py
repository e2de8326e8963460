"""The benchmarks themselves: who is measured, how, and what the table says of it."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from benchmarks import (
    bare,
    growing,
    growing_ours,
    growing_shapes,
    peers,
    soak,
    stream,
    stream_ours,
    stream_shapes,
    workloads,
)
from benchmarks.__main__ import parse, turns
from benchmarks.bursts import Case, connected_apps, measure
from benchmarks.contender import Cluster
from benchmarks.ideal_queue import ends_of
from benchmarks.measures import METRICS, check
from benchmarks.peers import PEERS, ROOT
from benchmarks.table import Samples, cell, table_row
from benchmarks.where import purpose_of
from benchmarks.workloads import Workload

WORKLOADS = {
    "chain": workloads.chain(20),
    "branching": workloads.branching(),
    "layered": workloads.layered(5),
    "fan-out": workloads.fan_out(300),
}


@pytest.mark.processes
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
@pytest.mark.parametrize("open_cluster", [bare.embedded, bare.daemons])
async def test_the_bare_wire_computes_what_the_functions_do(
    open_cluster: Callable[[], AbstractAsyncContextManager[Cluster]], workload: Workload
) -> None:
    async with open_cluster() as cluster:
        for _ in range(2):
            check(workload, await (await cluster.prepare(workload))())


@pytest.mark.processes
@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.package is not None])
def test_an_installed_peer_computes_what_the_functions_do(name: str) -> None:
    if not peers.is_installed(name):
        pytest.skip(f"scripts/peers {name} installs it")
    command = [str(peers.interpreter(name)), "-m", f"benchmarks.cold_{name}"]

    subprocess.run(command, cwd=ROOT, env=peers.environment(name), check=True, timeout=50)


def test_every_peer_can_be_installed() -> None:
    script = (ROOT / "scripts" / "peers").read_text(encoding="utf-8")

    for name, peer in PEERS.items():
        if peer.package is not None:
            requirements = (ROOT / "benchmarks" / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
            assert requirements.startswith(f"{peer.package}==")
            assert f" {name}" in script


def test_a_missing_peer_is_named_with_the_command_that_installs_it(
    tmp_path: Path,
) -> None:
    program = (
        "import pathlib, sys; from benchmarks import peers, __main__ as command; "
        f"peers.ROOT = pathlib.Path({str(tmp_path)!r}); sys.argv = ['', '--repeat', '0']; sys.exit(command.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    )

    for name in ("dask", "ray", "parsl", "ipyparallel"):
        assert f"{name} is left out: `scripts/peers {name}` installs it." in done.stdout
        assert f"{name} is left out: `scripts/peers {name}` installs it." in done.stderr


def test_contenders_take_turns() -> None:
    options = parse(["chain", "memory", "--repeat", "2", "--peers", "bare,pool"])

    assert list(turns(options, options.peers)) == [
        *[("chain", "ours"), ("chain", "bare"), ("chain", "pool")] * 2,
        *[("memory", "ours")] * 2,
    ]


def test_a_ratio_above_one_says_that_ours_is_better() -> None:
    assert cell(METRICS["fanout"], 50_000.0, 10_000.0) == "10,000 (5 x)"
    assert cell(METRICS["chain"], 50.0, 10.0) == "10 (0.2 x)"


def test_what_was_not_measured_is_blank() -> None:
    samples = Samples()
    samples.add("bare", {"chain": 60.0})

    assert table_row(samples, "chain", ["bare", "pool"]) == ["chain, per hop", "µs", "", "60", ""]


@pytest.mark.parametrize(
    ("innermost", "purpose"),
    [
        (
            "run_worker (handoff_actors/workers/child/main.py);decode (handoff_actors/wire/payload.py)",
            "worker",
        ),
        (
            "handle (handoff_actors/core/run/machine.py);push (handoff_actors/core/run/scheduling/ready_queue.py)",
            "the run decides",
        ),
        (
            "handle (handoff_actors/core/node/machine.py);fill (handoff_actors/core/node/scheduling/worker_scheduler.py)",
            "the node decides",
        ),
        ("_read (handoff_actors/workers/pool/pipe.py)", "messages to and from workers"),
        ("_go (handoff_actors/transport/lane.py)", "actors and messages between them"),
        ("select (selectors.py)", "asyncio's loop"),
        ("compile (handoff_actors/graph/plan.py)", "compiled"),
        ("copy (copy.py)", "the rest"),
    ],
)
def test_a_sample_counts_for_what_its_stack_is_for(innermost: str, purpose: str) -> None:
    assert purpose in purpose_of(f"main (app.py);_run_once (asyncio/base_events.py);{innermost}")


def test_the_ideal_queue_takes_what_comes_first_as_soon_as_a_server_is_free() -> None:
    assert ends_of([(0.0, 2.0), (0.0, 1.0), (0.5, 1.0), (5.0, 1.0)], 2) == [2.0, 1.0, 2.0, 6.0]


def test_the_best_of_a_burst_counts_arrivals_and_what_runs_already() -> None:
    at_once = Case(1, "burst", 12, 0.0, 0.3, has_cost=False)

    assert at_once.best() == pytest.approx((1.2, 0.9))
    assert at_once._replace(apart_s=1.0).best() == pytest.approx((11.3, 0.0))
    assert at_once._replace(kind="behind", sleep_s=0.03).best() == pytest.approx((0.18, 0.15))


@pytest.mark.processes
def test_every_app_sends_its_share_of_a_burst() -> None:
    with connected_apps(2) as apps:
        measured = measure(Case(2, "behind", 5, 0.0, 0.0, has_cost=True), apps)

    assert sum(measured.by_node.values()) == 5


TINY = growing_shapes.Sizes(calls=3, gathered=20, mapped=30, numbers=500, spawned=21)


@pytest.mark.processes
@pytest.mark.parametrize("open_calls", [growing_ours.embedded, growing_ours.daemon])
async def test_calls_in_each_shape_return_what_they_should(
    open_calls: Callable[[], AbstractAsyncContextManager[growing_ours.OurCalls]],
) -> None:
    async with open_calls() as calls:
        for figure in growing_shapes.FIGURES:
            # It raises for a wrong result.
            assert await growing_shapes.measure(figure, calls, TINY) > 0


@pytest.mark.processes
def test_a_pool_sorts_and_counts_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ",".join(map(str, TINY))

    growing.main(["quicksort", "tree", "--rounds", "1", "--peers", "pool", "--sizes", sizes])

    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == (
        "| what | unit | ours | daemon | pool | ours against pool | daemon against pool | at least, against pool |"
    )
    assert [row.count("|") for row in rows] == [header.count("|")] * 2
    assert "|  |" not in "".join(rows)


def test_a_ratio_of_calls_above_one_says_that_ours_is_better() -> None:
    medians = {("call", "ours"): 0.2, ("call", "pool"): 0.4, ("map", "ours"): 90.0, ("map", "pool"): 10.0}

    shown = growing.table(medians, ["call", "map"], ["ours", "pool"])

    assert "| 0.2 | 0.4 | 2 | 1 |" in shown
    assert "| 90 | 10 | 9 | 6 |" in shown


TINY_STREAM = stream_shapes.StreamSizes(items=100, ones=5, arrays=5, array_nbytes=100_000)


@pytest.mark.processes
@pytest.mark.parametrize("opened", [stream_ours.embedded, stream_ours.daemon])
@pytest.mark.parametrize("figure", stream_shapes.FIGURES)
async def test_streams_of_each_kind_give_what_they_should(
    figure: str, opened: stream_shapes.OpenFlow
) -> None:
    # It raises for a wrong result.
    assert await stream_shapes.measure(figure, opened, TINY_STREAM) > 0


@pytest.mark.processes
def test_stages_by_hand_give_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ",".join(map(str, TINY_STREAM))

    stream.main(["--only-peers", "--rounds", "1", "--peers", "queues,bare,local", "--sizes", sizes])

    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| what | unit | queues | bare | local | at least |"
    assert [row.count("|") for row in rows] == [header.count("|")] * len(stream_shapes.FIGURES)
    blank = [place for place, row in enumerate(rows) if not all(row.split("|")[3:5])]
    assert blank == []


def test_a_ratio_of_streams_above_one_says_that_ours_is_better() -> None:
    medians = {("one", "ours"): 0.2, ("one", "compiled"): 0.4, ("items", "ours"): 90.0}

    shown = stream.table(medians, ["one", "items"], ["ours", "compiled"])

    assert "| 0.2 | 0.4 | 2 | 0.5 against compiled |" in shown
    assert "| 90 |  |  | 3 against queues |" in shown


@pytest.mark.processes
def test_a_service_under_load_is_watched(capsys: pytest.CaptureFixture[str]) -> None:
    soak.main(["--minutes", "0.02", "--clients", "3", "--every", "0.5"])

    *_, last, _, summary, grown = capsys.readouterr().out.splitlines()
    assert all(float(cell.replace(",", "")) > 0 for cell in last.strip("| ").split("|"))
    assert " 0 failed" in summary
    assert grown.startswith("growth over the last 80 %: app ")


def test_memory_that_grows_only_at_the_beginning_is_flat() -> None:
    readings = [soak.Reading(second, 0, min(second, 15.0), 7.0, second) for second in range(101)]

    assert soak.growth(readings) == {"app_mb": 0.0, "node_mb": 0.0, "workers_mb": 73.0}
