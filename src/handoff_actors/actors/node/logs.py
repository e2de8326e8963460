"""Logs of a daemon, for people and for grep."""

import logging
import sys
from collections.abc import Iterator
from typing import Final

from handoff_actors.escaping import escape_name, escape_text

_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def log_to_stderr(level: str) -> None:
    """Write what is at least of this level to stderr, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


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
        return escape_name(" ".join([super().formatMessage(record), *_fields(record)]))


def _fields(record: logging.LogRecord) -> Iterator[str]:
    return (f"{name}={value!r}" for name, value in vars(record).items() if name not in _USUAL)
