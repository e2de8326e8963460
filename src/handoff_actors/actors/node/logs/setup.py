"""Sets up the log of a process that is a daemon."""

import logging
import signal
from pathlib import Path
from typing import Final

from handoff_actors.actors.driver import clock
from handoff_actors.actors.node.logs.formats import LogFormat, formatter
from handoff_actors.actors.node.logs.output import LogOutput
from handoff_actors.actors.node.logs.repetition import Repetition

_NAME: Final = __name__


def set_up_log(level: str, log_format: LogFormat = "text", path: Path | None = None) -> LogOutput:
    """Write what is at least of this level to stderr or to a file, one line each; SIGHUP has the file opened anew.

    The output is closed at the end of the process, if not before. Raises OSError for the file.
    """
    lines = formatter(log_format)

    def notice(count: int) -> bytes:
        text = "log lines dropped"
        record = logging.LogRecord(_NAME, logging.WARNING, __file__, 0, text, None, None)
        record.count = count
        return _encoded(lines.format(record))

    output = LogOutput(notice, path)
    handler = LogHandler(output)
    handler.setFormatter(lines)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # It would end a process whose log is rotated, or whose terminal is gone.
    signal.signal(signal.SIGHUP, lambda _number, _frame: output.reopen())
    # Python writes them to stderr, and waits.
    logging.captureWarnings(capture=True)
    return output


def dropped_lines() -> int:
    """Return the number of lines of this process's log that have been dropped so far."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogHandler))


class LogHandler(logging.Handler):
    """Gives lines to an output. It never waits, and no record makes it raise."""

    def __init__(self, output: LogOutput) -> None:
        super().__init__()
        self._output = output
        self._repetition = Repetition(clock)

    @property
    def dropped(self) -> int:
        """The number of lines that have been dropped so far."""
        return self._output.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            times = self._repetition.times(record)
            if not times:
                return
            if times > 1:
                record.times = times
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a record of any library, with any objects in it
            where, line_number = record.pathname, record.lineno
            text = f"a log record made at {where}:{line_number} can't be formatted: {type(error).__name__}"
            line = self.format(
                logging.LogRecord(record.name, record.levelno, where, line_number, text, None, None)
            )
        self._output.write(_encoded(line))

    def close(self) -> None:
        """See logging.Handler."""
        self._output.close()
        super().close()


def _encoded(line: str) -> bytes:
    return f"{line}\n".encode(errors="backslashreplace")
