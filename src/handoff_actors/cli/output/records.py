"""Records of a run that `handoff run` writes: a report and a trace."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import click
from msgspec import Struct

from handoff_actors.cli.output.json_values import json_fields, json_keys, to_json
from handoff_actors.ids import FunctionId
from handoff_actors.text import str_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handoff_actors.report.function_report import FunctionReport
    from handoff_actors.report.report import Report

#: In place of a file: the table goes to stderr.
ON_STDERR: Final = "-"
#: Endings of files for reports.
REPORT_SUFFIXES: Final = (".txt", ".json")


class Records(Struct, frozen=True):
    """The records to write. Use `checked` before the run, which may be long."""

    report: str | None
    trace: str | None

    def checked(self) -> Self:
        """Return this. Raises click.BadParameter for a file that can't be written, or whose name does not say what to write."""
        if self.report not in {None, ON_STDERR}:
            if not str(self.report).endswith(REPORT_SUFFIXES):
                raise click.BadParameter(
                    f"{self.report!r} ends with neither .txt, for a table, nor .json", param_hint="--report"
                )
            _check_writable(str(self.report), "--report")
        if self.trace is not None:
            _check_writable(self.trace, "--trace")
        return self

    def write(self, dag_id: FunctionId, report: "Report") -> None:
        """Write all of them. Raises click.ClickException."""
        if self.report == ON_STDERR:
            click.echo(report.table(), err=True)
        elif self.report is not None:
            is_json = self.report.endswith(".json")
            text = report_json(dag_id, report) if is_json else report.table()
            with _writing(self.report):
                Path(self.report).write_text(f"{text}\n", encoding="utf-8")
        if self.trace is not None:
            # Few runs are traced, and a trace needs more than a run does.
            from handoff_actors.report.trace import write_trace  # noqa: PLC0415

            with _writing(self.trace):
                write_trace(report, self.trace)


def report_json(dag_id: FunctionId, report: "Report") -> str:
    """Write a report as JSON: times in seconds, sizes in bytes."""
    path = report.critical_path
    return to_json(
        {
            "dag": str_of(dag_id),
            "duration_s": report.duration_s,
            "time": report.time,
            "critical_path": {"functions": list(map(str_of, path.function_ids)), "time": path.time},
            "codes": report.by_code,
            "functions": functions_by_id(report),
        },
        indent=2,
    )


def functions_by_id(reports: "Mapping[FunctionId, FunctionReport]") -> dict[str, object]:
    """Return the fields of each function's report by the text of its id."""
    key_of = dict(zip(reports, json_keys(reports), strict=True))

    def text(parent: FunctionId | None) -> str | None:
        return None if parent is None else key_of.get(parent) or str_of(parent)

    return {
        key_of[function_id]: json_fields(entry)
        | {"function_id": key_of[function_id], "parent": text(entry.parent)}
        for function_id, entry in reports.items()
    }


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path!r} can't be written: {error.strerror}") from error


def _check_writable(path: str, option: str) -> None:
    directory = Path(path).parent
    reason = None
    if not directory.is_dir():
        reason = f"there is no directory {str(directory)!r}"
    elif Path(path).is_dir():
        reason = "it is a directory"
    elif not os.access(path if Path(path).exists() else directory, os.W_OK):
        reason = "permission denied"
    if reason is not None:
        raise click.BadParameter(f"{path!r} can't be written: {reason}", param_hint=option)
