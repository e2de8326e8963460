import os
from pathlib import Path

import click
import pytest

from handoff_actors.cli.output.records import Records, functions_by_id
from handoff_actors.report.function_report import FunctionReport


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        (Records("r.xml", None), "'r.xml' ends with neither .txt, for a table, nor .json"),
        (Records("nowhere/r.json", None), "there is no directory 'nowhere'"),
        (Records(None, "nowhere/trace"), "there is no directory 'nowhere'"),
        (Records(None, "."), "it is a directory"),
        pytest.param(
            Records(None, "shut/trace"),
            "permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere"),
        ),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Records, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shut").mkdir(mode=0o500)

    with pytest.raises(click.BadParameter) as raised:
        records.checked()

    assert complaint in raised.value.message


def test_files_that_can_be_written_are_left_alone(tmp_path: Path) -> None:
    Records("-", str(tmp_path / "trace")).checked()
    Records(str(tmp_path / "r.json"), None).checked()

    assert list(tmp_path.iterdir()) == []


def test_parents_are_named_as_the_functions_themselves_are() -> None:
    ids = [1, "1", (1, 0), "1/0"]
    parents = [None, None, 1, "gone"]
    reports = {
        function_id: FunctionReport(function_id, "n1", 17, 1, 0.0, 0.5, 1.25, 0.75, 0, 3, parent=parent)
        for function_id, parent in zip(ids, parents, strict=True)
    }

    found = functions_by_id(reports)

    assert [*found] == ["1", "'1'", "(1, 0)", "1/0"]
    assert [entry["parent"] for entry in found.values()] == [None, None, "1", "gone"]  # type: ignore[index]
