"""Reports of functions, as events and as what displays show of them."""

import io
from typing import Any

import pytest
from rich.console import Console

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.view import FunctionCounts
from handoff_actors.display import reports
from handoff_actors.display.bars import _row
from handoff_actors.display.canvases import _line_about
from handoff_actors.display.function_progress import FunctionProgress, progress_text
from handoff_actors.display.options import DisplayOptions
from handoff_actors.display.reports import ReportListener
from handoff_actors.display.snapshot import NodeSnapshot, ProgressView, RunSnapshot
from handoff_actors.graph import Function
from handoff_actors.wire.messages.jobs import Emitted, Printed, Progressed
from handoff_actors.wire.payload import encode
from tests.core.builders import code, completed, done, failed, node_up, started

HOSTILE = "\x1b[2J\n"


def running(*function_ids: str) -> RunMachine:
    """A run whose functions are all out at node a."""
    run = started(*(Function(function_id, [], code) for function_id in function_ids))
    run.handle(node_up("a"), 1.0)
    return run


def listening(run: RunMachine) -> tuple[ReportListener, list[Any]]:
    seen: list[Any] = []
    return ReportListener(run.view, seen.append, None), seen


def test_reports_are_events_with_the_users_ids() -> None:
    listener, seen = listening(running("fit"))

    listener.output_received("a", [Progressed(0, 1, 3, 10), Emitted(0, 1, encode({"loss": 0.5}).to_bytes())])
    listener.output_received("a", [Printed(0, 1, False, "not wanted\n")])

    progressed, emitted = seen
    assert isinstance(progressed, events.FunctionProgressed)
    assert (progressed.kind, progressed.function_id, progressed.node, progressed.attempt) == (
        "progressed",
        "fit",
        "a",
        1,
    )
    assert (progressed.done, progressed.total, progressed.dag_id) == (3, 10, "dag")
    assert isinstance(emitted, events.ValueEmitted)
    assert (emitted.kind, emitted.function_id, emitted.value, emitted.reason) == (
        "emitted",
        "fit",
        {"loss": 0.5},
        "",
    )


def test_a_value_that_cannot_be_decoded_is_told_with_the_reason() -> None:
    listener, seen = listening(running("fit"))

    listener.output_received("a", [Emitted(0, 1, b"\x80\x05nonsense"), Emitted(7, 1, encode(1).to_bytes())])

    assert [(event.value, bool(event.reason), event.function_id) for event in seen] == [
        (None, True, "fit"),
        (1, False, None),
    ]
    assert "unpickled" in seen[0].reason


def test_without_on_event_values_are_ignored() -> None:
    listener = ReportListener(running("fit").view, None, None)

    listener.output_received("a", [Emitted(0, 1, b"nonsense"), Progressed(0, 1, 1, 2)])

    assert listener.running() == [FunctionProgress("fit", 1, 2)]


def test_displays_see_the_latest_progress_of_attempts_that_are_out() -> None:
    run = running("fit", "load", "save")
    listener, _ = listening(run)
    listener.output_received("a", [Progressed(index, 1, 1, 2) for index in (0, 1, 2)])
    listener.output_received("a", [Progressed(0, 1, 2, 2), Progressed(1, 2, 9, 9)])
    before = listener.running()

    run.handle(completed("a", done(0)), 1.1)
    run.handle(failed("a", 1), 1.2)
    listener.output_received("a", [Progressed(0, 1, 1, 2)])

    assert before == [
        FunctionProgress("fit", 2, 2),
        FunctionProgress("load", 1, 2),
        FunctionProgress("save", 1, 2),
    ]
    assert listener.running() == [FunctionProgress("save", 1, 2)]
    listener.end()
    assert listener.running() == []


def test_progress_of_functions_that_have_ended_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_MANY", 2)
    run = running(*map(str, range(9)))
    listener, _ = listening(run)

    for index in range(9):
        listener.output_received("a", [Progressed(index, 1, 1, 2)])
        run.handle(completed("a", done(index)), 1.1)

    assert len(listener._progress) <= 3


@pytest.mark.parametrize(
    ("progress", "fraction", "text"),
    [
        ((412, 1000), 0.412, "412/1000 (41 %)"),
        ((3, None), 0.0, "3"),
        ((0.5, 1.0), 0.5, "0.5/1 (50 %)"),
        ((3, 2), 1.0, "3/2 (150 %)"),
        ((0, 0), 0.0, "0/0"),
        ((float("nan"), 1), 0.0, "nan/1 (nan %)"),
    ],
)
def test_progress_is_a_share_and_a_text(
    progress: tuple[float, float | None], fraction: float, text: str
) -> None:
    assert FunctionProgress("fit", *progress).fraction == fraction
    assert progress_text(*progress) == text


async def test_bars_and_lines_show_functions_and_count_parts_of_them() -> None:
    dag = handoff.DAG("training").add_function(handoff.Function("f", [], int))
    async with handoff.Session(seeds=(), local_node={"cpu": 1}) as session:
        run = await session.execute_distributed(dag)
    view = ProgressView(run._holdings.runner, list, list, 0.0, 0)
    shown = [FunctionProgress(f"fit{HOSTILE}", 1, 4), *(FunctionProgress(n, n, None) for n in range(5))]
    view.latest = RunSnapshot(FunctionCounts(8, 2, 0), [NodeSnapshot("n1", 6, 0)], shown)
    file = io.StringIO()

    Console(file=file, width=100, color_system=None).print(_row(view))
    line = _line_about(view, 4)

    assert view.latest.ended == 2.25
    _, _, *functions = (text.strip() for text in file.getvalue().splitlines())
    assert functions == [r"fit\x1b[2J\n: 1/4 (25 %)", "0: 0", "1: 1", "2: 2", "2 more functions"]
    assert line.endswith(r"n1: 6 running; fit\x1b[2J\n: 1/4 (25 %); 0: 0; 1: 1; 2: 2; 2 more functions")


@pytest.mark.parametrize(
    ("progress", "variable", "is_observed", "wanted"),
    [
        (None, "", False, True),
        (None, "0", False, False),
        (False, "1", False, False),
        (True, "0", False, True),
        (False, "", True, True),
    ],
)
def test_progress_is_asked_for_where_it_may_be_shown(
    monkeypatch: pytest.MonkeyPatch, progress: bool | None, variable: str, is_observed: bool, wanted: bool
) -> None:
    monkeypatch.setenv("HANDOFF_PROGRESS", variable)

    listening = DisplayOptions(progress=progress, output=False).listening(is_observed=is_observed)

    assert (listening.progress, listening.values, listening.log_level) == (wanted, False, None)


def test_values_are_asked_for_by_an_on_event_alone() -> None:
    assert DisplayOptions(on_event=print).listening(is_observed=True).values
    assert not DisplayOptions().listening(is_observed=True).values
