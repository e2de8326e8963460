import json
from typing import Any

from handoff_actors.cli.outcome import Outcome, failure_json, remote_traceback
from handoff_actors.errors import FunctionFailed, RemoteTraceback
from handoff_actors.runs import FunctionReport

REPORT = FunctionReport("a", "n1", 17, 1, 0.0, 0.5, 1.25, 0.75, 0, 3)


def test_large_result_is_cut_short() -> None:
    lines = Outcome("dag", {"a": "x" * 10_000_000}, {"a": REPORT}).lines()

    assert len(lines) < 2000


def test_summary_counts_functions_by_node() -> None:
    outcome = Outcome("dag", {}, {"a": REPORT, "b": REPORT})

    assert outcome.summary() == "2 function(s) in 1.250 s on n1 (2)"


def test_result_that_json_does_not_know_is_its_repr() -> None:
    results: dict[Any, object] = {
        ("m", 1): {1, 2},
        "by_tuple": {(1, 2): 3},
        "nested": [{"at": 1 + 2j}],
    }

    told = json.loads(Outcome("dag", results, {"a": REPORT}).json())

    assert told["results"] == {"('m', 1)": "{1, 2}", "by_tuple": "{(1, 2): 3}", "nested": [{"at": "(1+2j)"}]}
    assert told["functions"]["a"]["node"] == "n1"


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
