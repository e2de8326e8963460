from typing import Any

import pytest

from handoff_actors import events
from handoff_actors.cli.progress import Lines, Tally
from handoff_actors.events import RunEvent


def event(kind: str, function_id: str, reason: str = "") -> RunEvent:
    common: Any = {"dag_id": "dag", "time": 0.0, "function_id": function_id, "node": "n1", "attempt": 1}
    if kind == "completed":
        return events.Finished(**common, ran_s=0.0, worker=1, nbytes=1)
    types = {made.kind: made for made in (events.Sent, events.Recalled, events.Retried, events.Lost)}
    return types[kind](**common, reason=reason)


def tally_after(*events: RunEvent) -> str:
    tally = Tally(3)
    for each in events:
        tally.take(each)
    return str(tally)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], "0/3 done, 0 running"),
        ([event("assigned", "a"), event("assigned", "b")], "0/3 done, 2 running"),
        ([event("assigned", "a"), event("completed", "a")], "1/3 done, 0 running"),
        ([event("assigned", "a"), event("recalled", "a")], "0/3 done, 0 running"),
        (
            [event("assigned", "a"), event("retried", "a")],
            "0/3 done, 0 running, 1 failed",
        ),
        ([event("assigned", "a"), event("completed", "a"), event("lost", "a")], "0/3 done, 0 running"),
    ],
)
def test_tally_counts_where_functions_are(events: list[RunEvent], told: str) -> None:
    assert tally_after(*events) == told


def test_small_run_has_a_line_for_each_function(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Tally(2))

    for function_id in ("a", "b"):
        lines.take(event("completed", function_id))

    assert capsys.readouterr().err == "1/2 done, 0 running: 'a' on n1\n2/2 done, 0 running: 'b' on n1\n"


def test_large_run_has_few_lines_and_one_for_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Tally(1009))

    for number in range(1009):
        lines.take(event("completed", str(number)))

    told = capsys.readouterr().err.splitlines()
    assert len(told) == 21
    assert told[-1].startswith("1009/1009 done")


def test_each_failure_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Tally(1009))

    lines.take(event("retried", "a", "ValueError: no"))

    assert capsys.readouterr().err == "'a' failed on n1, attempt 1: ValueError: no\n"
