"""Log records of users' functions: sent to the app as records, where no handler is set up in the worker."""

import logging
from typing import Final

from handoff_actors.text import encodable, shortened
from handoff_actors.workers.child.output import OutputCapture
from handoff_actors.workers.output_protocol import pack_logged
from handoff_actors.workers.protocol import JobKey

#: A record is one write, which must fit PIPE_BUF (4096), and a character may have four bytes: so its message, its
#: traceback, and each of its names are shortened to this.
_MOST_CHARACTERS: Final = 300
_MOST_OF_ERROR: Final = 500
_MOST_OF_NAME: Final = 50


def send_records(output: OutputCapture) -> None:
    """Send the records that would end up in logging's handler of last resort to the app.

    A function that sets up logging itself is not affected: its handlers print, and that output goes to the app as well.
    """
    logging.lastResort = _Sender(output, logging.lastResort)


def log_from(level: int) -> None:
    """Lower the level of the root logger to this one, for loggers without a level of their own."""
    root = logging.getLogger()
    if level < root.level:
        root.setLevel(level)


class _Sender(logging.Handler):
    def __init__(self, output: OutputCapture, otherwise: logging.Handler | None) -> None:
        super().__init__()
        self._output = output
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record to the app of the current job, if that wants its output."""
        key = self._output.current()
        if key is None:
            if self._otherwise is not None and record.levelno >= self._otherwise.level:
                self._otherwise.handle(record)
            return
        try:
            self._send(key, record)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - as every handler of `logging`: a wrong call is complained of, and harms nobody
            self.handleError(record)

    def _send(self, key: JobKey, record: logging.LogRecord) -> None:
        error = "" if not record.exc_info else _FORMATTER.formatException(record.exc_info)
        packed = pack_logged(
            key,
            name=_fitting(record.name, _MOST_OF_NAME),
            level=record.levelno,
            message=_fitting(record.getMessage(), _MOST_CHARACTERS),
            path=_fitting(record.pathname, _MOST_OF_NAME),
            line=record.lineno,
            function=_fitting(record.funcName or "", _MOST_OF_NAME),
            created=record.created,
            error=_fitting(error, _MOST_OF_ERROR),
        )
        self._output.send(key, packed, 1)


_FORMATTER: Final = logging.Formatter()


def _fitting(text: str, most: int) -> str:
    """Shorten a text to `most` characters of up to four bytes, with characters that can't be encoded escaped."""
    text = encodable(shortened(text, most * 4 if text.isascii() else most))
    # Escapes are longer.
    return text if len(text.encode()) <= most * 4 else shortened(text, most)
