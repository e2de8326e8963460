"""Warnings that say the same again and again are written ever more rarely, with their number."""

import logging
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from handoff_actors.actors.node.logs.formats import fields_of
from handoff_actors.lru import LruCache
from handoff_actors.text import repr_of

#: Seconds after a line in which the same is not written again; each such pause is twice as long as the one before.
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 3600.0
#: Lines that are remembered.
MOST_LINES: Final = 500


class _WrittenLine(Struct):
    """A line that has been written: until when it is not to be again, after how long a pause, and how often it has come since."""

    quiet_until: float
    pause_s: float
    times: int = 0


class Repetition:
    """The warnings and errors of a process. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines: LruCache[str, _WrittenLine] = LruCache(MOST_LINES)

    def times(self, record: logging.LogRecord) -> int:
        """Return how often a record has come since it was last written; 0: it is not to be written now."""
        if record.levelno < logging.WARNING or record.exc_info or hasattr(record, "times"):
            return 1
        key = repr_of((record.name, record.msg, record.args, fields_of(record)))
        now, line = self._clock(), self._lines.get(key)
        if line is None or now >= line.quiet_until + line.pause_s:
            self._lines.put(key, _WrittenLine(now + FIRST_PAUSE_S, FIRST_PAUSE_S))
            return 1 if line is None else 1 + line.times
        line.times += 1
        if now < line.quiet_until:
            return 0
        times, line.times = line.times, 0
        line.pause_s = min(LONGEST_PAUSE_S, 2 * line.pause_s)
        line.quiet_until = now + line.pause_s
        return times
