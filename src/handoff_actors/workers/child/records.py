"""Log records of users' functions: sent home as such, where nobody in the worker has set up any logging."""

import logging
from typing import Final

from handoff_actors.workers.child.output import OutputCapture
from handoff_actors.workers.protocol import pack_logged

#: A record is one write, which must fit PIPE_BUF (4096), and a character may have four bytes: so much of its message, of
#: its traceback, and of each of the names in it gets home.
_MOST_CHARACTERS: Final = 300
_MOST_OF_ERROR: Final = 500
_MOST_OF_NAME: Final = 50


def send_records(output: OutputCapture) -> None:
    """Send home what would end up in logging's handler of last resort.

    It stays out of the way of a function that sets up logging itself: its handlers print, and that goes home as well.
    """
    logging.lastResort = _Sender(output, logging.lastResort)


def log_from(level: int) -> None:
    """Have loggers that say nothing else let through what is at least at this level."""
    root = logging.getLogger()
    if level < root.level:
        root.setLevel(level)


class _Sender(logging.Handler):
    def __init__(self, output: OutputCapture, otherwise: logging.Handler | None) -> None:
        super().__init__()
        self._output = output
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record to the app of the function that runs, if there is one that wants it."""
        key = self._output.current()
        if key is None:
            if self._otherwise is not None and record.levelno >= self._otherwise.level:
                self._otherwise.handle(record)
            return
        error = "" if not record.exc_info else _FORMATTER.formatException(record.exc_info)
        packed = pack_logged(
            key,
            name=_shortened(record.name, _MOST_OF_NAME),
            level=record.levelno,
            message=_shortened(record.getMessage(), _MOST_CHARACTERS),
            path=_shortened(record.pathname, _MOST_OF_NAME),
            line=record.lineno,
            function=_shortened(record.funcName or "", _MOST_OF_NAME),
            created=record.created,
            error=_shortened(error, _MOST_OF_ERROR),
        )
        self._output.send(key, packed, 1)


_FORMATTER: Final = logging.Formatter()


def _shortened(text: str, most: int) -> str:
    """The text, or its beginning and its end, as what can be encoded."""
    room = most * 4 if text.isascii() else most
    if len(text) > room:
        text = f"{text[: room // 2]} ... {text[-room // 2 :]}"
    return text.encode(errors="replace").decode()
