"""Formats of a daemon's log lines: for people and grep, or JSON for programs."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Final, Literal

from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.text import repr_of, shortened

LogFormat = Literal["text", "json"]

_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Names of a JSON line's own; a field of such a name gets an underscore behind it.
_RESERVED: Final = frozenset({"time", "level", "logger", "message", "exception", "stack"})
#: Characters of a field, of which the rest is left out.
_MOST_OF_FIELD: Final = 10_000
#: Containers within containers of a field are written out to this depth.
_DEPTH: Final = 4
#: A larger integer is written as text: readers of JSON take numbers as floats.
_MOST_BITS: Final = 53


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Make the formatter for a format."""
    return (
        JsonFormatter() if log_format == "json" else FieldsFormatter("%(asctime)s %(levelname)s %(message)s")
    )


class FieldsFormatter(logging.Formatter):
    """Ends the line with the fields that came as `extra`, as name=value.

    The line stays one line, and a terminal is safe from it and from the traceback below it, whatever a peer or a function
    has put into them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        # The traceback as text may be that of another formatter, so that it is escaped here and not as it is made.
        return escape_text(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See logging.Formatter."""
        shown = (f"{name}={repr_of(value, _MOST_OF_FIELD)}" for name, value in fields_of(record))
        return escape_name(" ".join([super().formatMessage(record), *shown]))


class JsonFormatter(logging.Formatter):
    """Makes one JSON object a line, in ASCII: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and the fields beside them.

    `exception` and `stack` are text. Any value can be a field: what JSON lacks is written as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record):
            line[f"{name}_" if name in _RESERVED else _plain_name(name)] = _plain(value, _DEPTH)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line)


def fields_of(record: logging.LogRecord) -> list[tuple[str, object]]:
    """Return the fields that came as `extra`."""
    return [(name, value) for name, value in vars(record).items() if name not in _USUAL]


def _plain(value: object, depth: int) -> object:
    """Turn a value into one that every reader of JSON takes."""
    match value:
        case None | bool():
            return value
        case str():
            # Half a surrogate pair is no text for most readers.
            return str.encode(shortened(value, _MOST_OF_FIELD), errors="backslashreplace").decode()
        case int() if value.bit_length() <= _MOST_BITS:
            return int(value)
        case float():
            return float(value) if isfinite(value) else str(float(value))
        case int():
            return hex(value)
        case Mapping() if depth:
            return {_plain_name(name): _plain(part, depth - 1) for name, part in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_plain(part, depth - 1) for part in value]
        case _:
            return _plain(repr_of(value, _MOST_OF_FIELD), depth)


def _plain_name(name: object) -> str:
    return str(_plain(name if isinstance(name, str) else repr_of(name), 0))
