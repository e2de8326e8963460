import json
from typing import Any

import click
import pytest

from handoff_actors.cli.failures import one_line_errors
from handoff_actors.cli.outcome import Outcome, failure_json, remote_traceback
from handoff_actors.cli.progress import print_failures
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


def test_result_that_json_does_not_know_is_its_repr() -> None:
    results: dict[Any, object] = {
        ("m", 1): {1, 2},
        "by_tuple": {(1, 2): 3},
        "nested": [{"at": 1 + 2j}],
    }

    ended = json.loads(Outcome("dag", results, {"a": REPORT}).json())

    assert ended["results"] == {"('m', 1)": "{1, 2}", "by_tuple": "{(1, 2): 3}", "nested": [{"at": "(1+2j)"}]}
    assert ended["functions"]["a"]["node"] == "n1"


def test_remote_traceback_is_found_behind_the_users_exception() -> None:
    error = FunctionFailed("a", "n1", 2, "ValueError: no")
    error.__cause__ = ValueError("no")
    error.__cause__.__cause__ = RemoteTraceback("Traceback: ...")

    assert remote_traceback(error) == "Traceback: ..."
    assert json.loads(failure_json(error))["error"] == {
        "type": "FunctionFailed",
        "message": str(error),
        "function": "a",
        "node": "n1",
        "attempts": 2,
        "traceback": "Traceback: ...",
    }


def test_error_without_remote_traceback_has_none() -> None:
    assert remote_traceback(ValueError("no")) is None
