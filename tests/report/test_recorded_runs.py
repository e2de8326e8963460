"""Reports of runs that grow: functions that were forgotten, functions that were added late, and those that have added others."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from handoff_actors.core.run.events import LetGo
from handoff_actors.core.run.facts import history
from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.graph import Argument, Function
from handoff_actors.report.breakdown import Breakdown
from handoff_actors.report.report import Report
from handoff_actors.report.trace import write_trace
from tests.core.builders import assigned, code, completed, done, failed, hook
from tests.core.run.growing.test_expanding import BOTH, expansion_of, grown, parent_and_dependent
from tests.core.run.growing.test_growth import call, grow, open_run, then
from tests.report.trace_format import check_trace, slices

#: When functions are added: long after the run has begun.
LATE = 3600.0


def report_of(run: RunMachine) -> Report:
    return Report(run.view, 0.0)


def ran(run: RunMachine, *names: str, held: bool = False, now: float = LATE) -> None:
    """Have functions without inputs go through a run, one after the other; each runs for half a second of one."""
    for name in names:
        ((_, [index]),) = assigned(grow(run, call(name), held=[0] if held else [], now=now))
        attempt = run.state.attempt[index]
        then(run, completed("a", replace(done(index, attempt=attempt), ran_s=0.5)), now + 1.0)
        now += 1.0


@pytest.fixture
def _two_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_FORGOTTEN", 2)
    monkeypatch.setattr(history, "SUMMED_AT_ONCE", 1)


def test_functions_that_were_forgotten_are_reported_on_as_those_that_are_there() -> None:
    run = open_run()
    ran(run, "x", "y", held=True)
    before = report_of(run)["x"]

    then(run, LetGo(["x"]), LATE + 3.0)
    report = report_of(run)

    assert list(report) == ["x", "y"]
    assert run.view.plan.index_of.keys() == {"y"}
    assert report["x"] == before
    assert (before.node, before.worker, before.attempts, before.outcome) == ("a", 1001, 1, "done")
    assert (before.queued_at, before.sent_at, before.finished_at) == (LATE, LATE, LATE + 1.0)
    assert str(report).splitlines()[1].split()[:4] == ["x", "a", "1001", "1"]
    assert "2 functions in" in str(report)


def test_a_function_that_has_failed_is_reported_on_once_it_is_forgotten() -> None:
    run = open_run()
    grow(run, call("x"), call("y", "x"), held=[], now=LATE)
    then(run, failed("a", 0), LATE + 1.0)

    report = report_of(run)

    assert {name: entry.outcome for name, entry in report.items()} == {"y": "skipped", "x": "failed"}
    assert [(entry.code, entry.count, entry.failed, entry.attempts) for entry in report.by_code] == [
        ("code", 0, 1, 1)
    ]
    assert report.by_code[0].median_ran_s == report.by_code[0].longest_ran_s == 0.0
    head, row, *_ = report.table("code").splitlines()
    assert (head.split()[-1], row.split()[-1]) == ("failed", "1")


def test_serialize_hooks_are_in_sums_alone() -> None:
    run = open_run()
    grow(run, call("x"), Function("y", [Argument("x", serialize=hook)], code), held=[], now=LATE)
    for index in (0, 2, 1):
        then(run, completed("a", replace(done(index), ran_s=0.5)), LATE + 1.0 + index)

    report = report_of(run)

    assert run.view.plan.index_of == {}
    assert set(report) == {"x", "y"}
    assert sum(entry.count for entry in report.by_code) == 3


@pytest.mark.usefixtures("_two_are_kept")
def test_sums_by_code_are_over_all_functions_that_ever_ran() -> None:
    run = open_run()
    ran(run, *[f"x{number}" for number in range(5)])
    ran(run, "held", held=True, now=LATE + 10.0)

    report = report_of(run)
    (entry,) = report.by_code

    assert list(report) == ["x3", "x4", "held"]
    assert (entry.count, entry.attempts, entry.failed, entry.nodes) == (6, 6, 0, ("a",))
    assert (entry.result_nbytes, entry.longest_ran_s, entry.median_ran_s) == (6, 0.5, 0.5)
    assert entry.time == Breakdown(overhead_s=3.0, ran_s=3.0)
    assert report.time == entry.time
    assert str(report).endswith("\n3 earlier functions in the sums by code alone")
    assert report.table("code").splitlines()[1].split()[:3] == ["code", "6", "6"]


def test_a_report_stays_as_it_is_while_its_run_goes_on() -> None:
    run = open_run()
    ran(run, "x", "y", held=True)
    report = report_of(run)
    before = str(report)

    then(run, LetGo(["x", "y"]), LATE + 3.0)
    ran(run, *[f"z{number}" for number in range(5)], held=True, now=LATE + 4.0)

    assert str(report) == before
    assert len(report) == 2
    assert report["x"].outcome == "done"
    assert len(report_of(run)) == 7


def test_time_before_a_function_was_added_is_none_of_its_own() -> None:
    run = open_run(max_retries=1)
    grow(run, call("x"), call("y", "x"), now=LATE)
    then(run, failed("a", 0), LATE + 1.0)
    then(run, completed("a", replace(done(0, attempt=2), ran_s=1.0)), LATE + 3.0)
    then(run, completed("a", replace(done(1), ran_s=1.0)), LATE + 4.5)
    # Takes what was there long before.
    grow(run, call("z", "x"), outer=["x"], now=LATE + 10.0)
    then(run, completed("a", replace(done(2), ran_s=1.0)), LATE + 11.0)

    report = report_of(run)

    assert report["x"].time == Breakdown(retries_s=1.0, overhead_s=1.0, ran_s=1.0)
    assert report["y"].time == Breakdown(inputs_s=3.0, overhead_s=0.5, ran_s=1.0)
    assert report["z"].time == Breakdown(ran_s=1.0)
    assert report["z"].finished_at == LATE + 11.0


def test_values_of_functions_that_had_one_index_are_told_apart() -> None:
    run = open_run()
    for number, name in enumerate(("x", "y")):
        now = LATE + 10.0 * number
        grow(run, call(name), held=[0], now=now)
        then(run, completed("a", done(0, attempt=number + 1, value=100)), now + 1.0)
        run.state.transfers.append(Transfer(0, "b", 100, now + 1.5, now + 2.0))
        if name == "x":
            then(run, LetGo(["x"]), now + 3.0)
    run.state.transfers += [Transfer(0, "b", 100, 1.0, 2.0), Transfer(1 << 40, "b", 7, 1.0, 2.0)]

    report = report_of(run)

    names = {transfer.index: transfer.ended_at for transfer in report.timeline.transfers}
    plan = report.timeline.plan
    assert {plan.ids[index]: at for index, at in names.items() if index < plan.size} == {
        "x": LATE + 2.0,
        "y": LATE + 12.0,
    }
    assert len(names) == 3


def recursion() -> RunMachine:
    """A run in which f returns a graph, and so does the first function of that; the app then takes the result."""
    run = parent_and_dependent()
    run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both"))), 1.0)
    run.handle(completed("a", grown(2, expansion_of(*BOTH, result="both"))), 2.0)
    run.handle(completed("a", done(3), done(4), done(5)), 3.0)
    run.handle(completed("a", done(2, attempt=2)), 4.0)
    run.handle(completed("a", done(0, attempt=2)), 5.0)
    run.handle(completed("a", done(1)), 6.0)
    return run


def test_the_critical_path_leads_through_functions_that_have_added_others() -> None:
    report = report_of(recursion())

    path = report.critical_path

    assert path.function_ids == ["f", "f/0", "f/0/1", "f/0", "f", "after"]
    assert path.time.all_s == pytest.approx(report.duration_s)


def test_functions_that_have_returned_graphs_are_in_sums_and_in_the_trace(tmp_path: Path) -> None:
    report = report_of(recursion())

    write_trace(report, tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))

    check_trace(trace)
    events = trace["traceEvents"]
    assert {name: report[name].parent for name in report} == {
        "f": None,
        "after": None,
        "f/0": "f",
        "f/1": "f",
        "f/0/0": "f/0",
        "f/0/1": "f/0",
    }
    assert {entry.code: entry.count for entry in report.by_code} == {"grown": 6, "code": 2}
    shown = [(event["name"], event["args"].get("parent")) for event in slices(events, "function")]
    assert sorted(shown, key=str) == sorted(
        [(name, report[name].parent) for name in (*report, "f", "f/0")], key=str
    )
    # Three functions of either graph, of which one has the parent's place.
    assert sum(event["ph"] == "s" and event["cat"] == "parent" for event in events) == 6
    assert sum(event["ph"] == "s" and event["cat"] == "result" for event in events) == 5


def test_a_run_with_too_many_functions_that_were_added_has_no_arrows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handoff_actors.report.trace.MOST_ARROWS", 10)

    write_trace(report_of(recursion()), tmp_path / "trace.json")

    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert not [event for event in trace["traceEvents"] if event["ph"] in "sf"]


def test_waits_of_a_function_begin_when_it_was_added(tmp_path: Path) -> None:
    run = open_run()
    grow(run, call("x"), call("y", "x"), now=LATE)
    then(run, completed("a", replace(done(0), ran_s=0.5)), LATE + 1.0)
    then(run, completed("a", replace(done(1), ran_s=0.5)), LATE + 2.0)

    write_trace(report_of(run), tmp_path / "trace.json")

    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    check_trace(trace)
    assert min(event["ts"] for event in trace["traceEvents"] if event["ph"] == "b") == LATE * 1e6
