"""Logs of a daemon, for people and for grep."""

import logging
import sys
from collections.abc import Iterator
from typing import Final

_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def log_to_stderr(level: str) -> None:
    """Write what is at least of this level to stderr, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class FieldsFormatter(logging.Formatter):
    """Ends the line with the fields that came as `extra`, as name=value."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See logging.Formatter."""
        return " ".join([super().formatMessage(record), *_fields(record)])


def _fields(record: logging.LogRecord) -> Iterator[str]:
    return (f"{name}={value!r}" for name, value in vars(record).items() if name not in _USUAL)
