import json
from dataclasses import replace
from typing import Any

import click
import pytest

from handoff_actors.cli.output.failures import TracedFailure, one_line_errors, remote_traceback
from handoff_actors.cli.output.json_errors import error_json
from handoff_actors.cli.output.outcome import Outcome
from handoff_actors.cli.output.progress import print_failures
from handoff_actors.errors import FunctionFailed, RemoteTraceback
from handoff_actors.events import Retried
from handoff_actors.report.function_report import FunctionReport

REPORT = FunctionReport("a", "n1", 17, 1, 0.0, 0.5, 1.25, 0.75, 0, 3)


def test_large_result_is_cut_short() -> None:
    lines = Outcome("dag", {"a": "x" * 10_000_000}, {"a": REPORT}).lines()

    assert len(lines) < 2000


def test_summary_counts_functions_by_node() -> None:
    outcome = Outcome("dag", {}, {"a": REPORT, "b": REPORT})

    assert outcome.summary() == "2 function(s) in 1.250 s on n1 (2)"


def test_summary_counts_what_was_reused_and_skipped_and_names_no_node_for_it() -> None:
    reused = replace(REPORT, attempts=0, outcome="reused")
    skipped = replace(REPORT, node="", attempts=0, outcome="skipped")

    summary = Outcome("dag", {}, {"a": REPORT, "b": reused, "c": skipped, "d": skipped}).summary()

    assert summary == "4 function(s), 1 of them reused, 2 of them skipped, in 1.250 s on n1 (2)"


#: Clears the screen, begins a line of its own and turns what follows around.
HOSTILE = "\x1b[2J\n\u202e"
NAME, TEXT = r"\x1b[2J\n\u202e", "\\x1b[2J\n\\u202e"


class Drawn:
    """A value whose repr has lines and a colour, as those of tables do."""

    def __repr__(self) -> str:
        return f"\x1b[1mhead\x1b[0m{HOSTILE}"


def test_ids_nodes_and_results_do_nothing_to_a_terminal() -> None:
    report = FunctionReport("a", HOSTILE, 17, 1, 0.0, 0.5, 1.25, 0.75, 0, 3)
    outcome = Outcome(HOSTILE, {HOSTILE: Drawn()}, {HOSTILE: report})

    assert outcome.lines() == f"{NAME} = \x1b[1mhead\x1b[0m{TEXT}"
    assert outcome.summary() == f"1 function(s) in 1.250 s on {NAME} (1)"
    assert list(json.loads(outcome.json())["functions"]) == [HOSTILE]


def test_a_failed_attempt_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_failures(
        Retried(dag_id="dag", time=0.0, function_id=Drawn(), node=HOSTILE, attempt=1, reason=HOSTILE)
    )

    # click leaves colours to terminals.
    assert capsys.readouterr().err == f"head{TEXT} failed on {NAME}, attempt 1: {TEXT}\n"


@pytest.mark.parametrize("error", [OSError(1, HOSTILE), OSError(HOSTILE)])
def test_an_error_of_the_system_does_nothing_to_a_terminal(error: OSError) -> None:
    with pytest.raises(click.ClickException) as raised, one_line_errors():
        raise error

    assert raised.value.message == TEXT


def test_json_has_results_and_reports_all_the_way_down() -> None:
    results: dict[Any, object] = {("m", 1): {1, 2}, 7: float("nan"), "7": "text"}

    ended = json.loads(Outcome("dag", results, {"a": REPORT}).json())

    assert ended["results"] == {"('m', 1)": [1, 2], "7": "NaN", "'7'": "text"}
    assert ended["functions"]["a"]["node"] == "n1"
    assert ended["functions"]["a"]["time"]["ran_s"] == 0.0


def failed() -> FunctionFailed:
    error = FunctionFailed("a", "n1", 2, "ValueError: no")
    error.__cause__ = ValueError("no")
    error.__cause__.__cause__ = RemoteTraceback("Traceback: ...")
    return error


def test_remote_traceback_is_found_behind_the_users_exception() -> None:
    assert remote_traceback(failed()) == "Traceback: ..."
    assert remote_traceback(ValueError("no")) is None


def test_an_error_as_json_has_the_fields_of_the_error_behind_it() -> None:
    failure = TracedFailure("failed", "Traceback: ...")
    failure.__cause__ = failed()

    assert json.loads(error_json(failure))["error"] == {
        "type": "FunctionFailed",
        "message": str(failed()),
        "function": "a",
        "node": "n1",
        "attempts": 2,
        "cause": {"type": "ValueError", "message": "no"},
        "traceback": "Traceback: ...",
    }


def test_wrong_use_as_json_has_what_is_wrong() -> None:
    error = click.UsageError("no such thing")
    error.__cause__ = KeyError("thing")

    assert json.loads(error_json(error)) == {"error": {"type": "UsageError", "message": "no such thing"}}
