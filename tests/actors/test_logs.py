import logging

from handoff_actors.actors.logs import FieldsFormatter


def record(*, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    trace = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("name", logging.INFO, __file__, 1, "member up", None, trace)
    vars(made).update(fields)
    return made


def test_fields_end_the_line() -> None:
    line = FieldsFormatter("%(levelname)s %(message)s").format(record(member="n2", count=3))

    assert line == "INFO member up member='n2' count=3"


def test_traceback_comes_after_the_fields() -> None:
    lines = FieldsFormatter("%(message)s").format(record(error=ValueError("no"), member="n2")).splitlines()

    assert lines[0] == "member up member='n2'"
    assert lines[-1] == "ValueError: no"
