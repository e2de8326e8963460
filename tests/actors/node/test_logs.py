import logging

from handoff_actors.actors.node.logs import FieldsFormatter


def record(*, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    trace = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("name", logging.INFO, __file__, 1, "member up", None, trace)
    vars(made).update(fields)
    return made


def test_fields_end_the_line() -> None:
    line = FieldsFormatter("%(levelname)s %(message)s").format(record(member="n2", count=3))

    assert line == "INFO member up member='n2' count=3"


def test_a_line_stays_one_line_whatever_is_in_it() -> None:
    made = record(member="n\x1b[2J", address="\n")
    made.msg = "said\x1b]0;title\x07\n2026-01-01 INFO forged \u202e"

    line = FieldsFormatter("%(message)s").format(made)

    assert line == (r"said\x1b]0;title\x07\n2026-01-01 INFO forged \u202e member='n\x1b[2J' address='\n'")


def test_a_traceback_keeps_its_lines_and_does_nothing_to_a_terminal() -> None:
    made = record(error=ValueError("first\nsecond \x1b[2J\r"))
    # As another formatter would have left it.
    cached = record()
    cached.exc_text = "ValueError: \x1b[2J"

    assert FieldsFormatter("%(message)s").format(made).splitlines()[-2:] == [
        "ValueError: first",
        r"second \x1b[2J\r",
    ]
    assert (
        FieldsFormatter("%(message)s").format(cached).endswith(r"\nValueError: \x1b[2J".replace(r"\n", "\n"))
    )


def test_traceback_comes_after_the_fields() -> None:
    lines = FieldsFormatter("%(message)s").format(record(error=ValueError("no"), member="n2")).splitlines()

    assert lines[0] == "member up member='n2'"
    assert lines[-1] == "ValueError: no"
