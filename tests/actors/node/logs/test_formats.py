import json
import logging
from pathlib import Path

import pytest

from handoff_actors.actors.node.logs.formats import FieldsFormatter, JsonFormatter


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


def as_json(made: logging.LogRecord) -> dict[str, object]:
    line = JsonFormatter().format(made)
    assert line.isascii()
    assert "\n" not in line
    read: dict[str, object] = json.loads(line, parse_constant=pytest.fail)
    return read


def test_json_line_has_its_own_names_and_the_fields_beside_them() -> None:
    made = record(member="n2", count=3, share=0.5, is_new=True, nothing=None, parts=["a", 1])
    made.created = 1_700_000_000.25

    assert as_json(made) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "name",
        "message": "member up",
        "member": "n2",
        "count": 3,
        "share": 0.5,
        "is_new": True,
        "nothing": None,
        "parts": ["a", 1],
    }


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1 << 80, hex(1 << 80)),
        (b"\xff", "b'\\xff'"),
        ("\udcff", "\\udcff"),
        ("\x1b[2J\n\u202e\x00", "\x1b[2J\n\u202e\x00"),
        ({1: {2: {3: {4: 5}}}}, {"1": {"2": {"3": {"4": 5}}}}),
        ((1, (2, (3, (4, (5,))))), [1, [2, [3, [4, "(5,)"]]]]),
        (Awkward(), "<Awkward whose repr raises RuntimeError>"),
        (Path("/tmp/x"), "PosixPath('/tmp/x')"),
    ],
)
def test_any_value_can_be_a_field(value: object, expected: object) -> None:
    assert as_json(record(field=value))["field"] == expected
    assert "\n" not in FieldsFormatter("%(message)s").format(record(field=value))


def test_a_value_that_contains_itself_has_an_end() -> None:
    own: list[object] = []
    own.append(own)

    assert as_json(record(field=own))["field"] == [[[["[[...]]"]]]]


def test_fields_do_not_take_the_place_of_the_lines_own() -> None:
    made = as_json(record(time=1, level="high", exception="x", message_="y"))

    assert (made["level"], made["level_"], made["time_"], made["exception_"]) == ("info", "high", 1, "x")


def test_json_line_has_the_traceback_as_text() -> None:
    text = as_json(record(error=ValueError("first\nsecond \x1b[2J")))["exception"]

    assert isinstance(text, str)
    assert text.splitlines()[-2:] == ["ValueError: first", "second \x1b[2J"]
