"""Reports and traces of runs on real daemons."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.daemons import Daemons
from tests.report.functions import burn, large, length, nothing, pause, second_time
from tests.report.trace_format import check_trace, slices

#: Functions that keep a core busy, and coroutines.
SOME = 8

pytestmark = pytest.mark.processes


@pytest.fixture
async def session(daemons: Daemons, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[handoff.Session]:
    """An app with two nodes, n1 and n2."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    _, n2 = daemons.cluster(2, "--cpu", "2", "--workers", "2")
    # n2 has joined n1, and knows both.
    async with handoff.Session(seeds=[n2.address]) as app:
        assert len(await app.discover_nodes()) == 2
        yield app


def mixed() -> handoff.DAG:
    """Values that move, functions that wait for room, coroutines, and many that take next to nothing."""
    dag = handoff.new()
    dag.add_function(handoff.Function("made", [], large, node="n1"))
    dag.add_function(handoff.Function("moved", ["made"], length, node="n2"))
    dag.add_function(handoff.Function("home", ["moved"], large, node="n2"))
    for number in range(SOME):
        dag.add_function(handoff.Function(f"burn{number}", [], burn, extra_args=[0.05], cost={"cpu": 2}))
        dag.add_function(handoff.Function(f"pause{number}", [], pause))
    for number in range(200):
        dag.add_function(handoff.Function(f"nothing{number}", [], nothing))
    dag.add_function(handoff.Function("last", [f"nothing{number}" for number in range(200)], nothing))
    return dag


def trace_of(run: handoff.Run, tmp_path: Path) -> dict[str, Any]:
    run.to_trace(tmp_path / "trace.json")
    trace: dict[str, Any] = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    return trace


async def test_a_trace_is_sound_and_shows_everything(session: handoff.Session, tmp_path: Path) -> None:
    run = await session.execute_distributed(mixed())

    trace = trace_of(run, tmp_path)

    check_trace(trace)
    events = trace["traceEvents"]
    assert {event["name"] for event in slices(events, "function")} == set(run.report)
    assert {event["name"] for event in slices(events, "transfer")} == {"brings made", "brings home"}
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {
        "app",
        "node n1",
        "node n2",
    }
    assert sum(event["ph"] == "s" for event in events) == 1 + 1 + 200


async def test_all_time_of_every_function_is_accounted_for(session: handoff.Session) -> None:
    run = await session.execute_distributed(mixed())

    for entry in run.report.values():
        assert entry.time.all_s == pytest.approx(entry.finished_at, abs=1e-6)
        assert 0.0 <= entry.queued_at <= entry.sent_at <= entry.started_at <= entry.finished_at


async def test_time_is_lost_to_what_the_run_was_made_to_lose_it_to(session: handoff.Session) -> None:
    report = (await session.execute_distributed(mixed())).report

    # Of functions on two nodes of which each has room for one at a time, all but two waited for others.
    assert sum(report[f"burn{number}"].time.resources_s for number in range(SOME)) > 0.04
    assert report["moved"].time.moving_s > 0.0
    assert report["moved"].moved_nbytes > 1_000_000
    assert report["burn0"].time.moving_s == 0.0
    assert report["last"].time.inputs_s > 0.0
    assert report.critical_path.time.all_s <= report.duration_s


async def test_functions_that_travel_as_a_fused_group_are_shown_one_after_the_other(
    session: handoff.Session, tmp_path: Path
) -> None:
    dag = handoff.new()
    for number in range(100):
        dag.add_function(handoff.Function(number, [number - 1] if number else [], nothing))
    # Only now it is known that they are quick enough to go together.
    await session.execute_distributed(dag)

    run = await session.execute_distributed(dag)

    check_trace(trace_of(run, tmp_path))
    path = run.report.critical_path
    assert path.function_ids == list(range(100))
    assert path.time.all_s == pytest.approx(run.report.duration_s)
    assert all(entry.time.all_s == pytest.approx(entry.finished_at) for entry in run.report.values())


async def test_a_failed_attempt_is_time_to_try_again(session: handoff.Session, tmp_path: Path) -> None:
    dag = handoff.new().add_function(
        handoff.Function(
            "flaky", [], second_time, extra_args=[str(tmp_path / "marker")], retry_backoff=(0.1, 1.0, 0.1)
        )
    )

    report = (await session.execute_distributed(dag)).report

    assert report["flaky"].attempts == 2
    assert report["flaky"].time.retries_s > 0.04


async def test_a_large_run_has_no_arrows_and_counts_who_waits(
    session: handoff.Session, tmp_path: Path
) -> None:
    dag = handoff.new()
    for number in range(3000):
        dag.add_function(handoff.Function(number, [], nothing))
    run = await session.execute_distributed(dag)

    trace = trace_of(run, tmp_path)

    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X", "C"}
    assert len(slices(trace["traceEvents"])) == 3000
    counts = [event["args"] for event in trace["traceEvents"] if event["ph"] == "C"]
    assert counts[-1] == {"waiting": 0, "running": 0}
    assert max(count["waiting"] for count in counts) > 0


async def test_a_plot_has_a_row_for_each_track(session: handoff.Session, tmp_path: Path) -> None:
    run = await session.execute_distributed(mixed())

    axes = run.plot()
    figure = axes.get_figure()
    assert figure is not None
    figure.savefig(tmp_path / "run.png")  # type: ignore[union-attr]  # axes of ours are on no sub-figure

    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert {row.split(":")[0] for row in rows} == {"n1", "n2", "app"}
    assert "n2: brought in" in rows
    assert axes.get_legend() is not None
    assert (tmp_path / "run.png").stat().st_size > 1000
