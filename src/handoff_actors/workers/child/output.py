"""What a worker's functions print: sent home to the app that asked for the function, or else written where the node writes.

What goes home leaves at once, over a pipe that all workers of a node share. A write of at most PIPE_BUF bytes arrives
whole or not at all and never waits, so threads and forks of a user's function may print as they like, and nobody who
prints is held up by a node that is busy: what there is no room for is dropped and counted. A function that doesn't print
pays for nothing but a look at a flag.
"""

import io
import os
import sys
from collections import deque
from collections.abc import Callable
from select import PIPE_BUF
from time import monotonic
from typing import Any, Final

from handoff_actors.token_bucket import TokenBucket
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.protocol import JobKey, pack_dropped, pack_printed

#: Whose output it is that is written now; None: it is nobody's, or its app does not want it.
Whose = Callable[[], JobKey | None]

#: What a worker may print beyond its rate, and per second, in bytes.
BURST_NBYTES: Final = 256 * 1024
RATE_NBYTES: Final = 256 * 1024
#: Characters in one write, of one byte or of up to four, so that the write fits PIPE_BUF (4096) with what is around it.
_PIECE_ASCII: Final = 3800
_PIECE: Final = 950
#: A line that is longer is passed on before its end.
_MOST_PENDING: Final = 64 * 1024


class OutputCapture:
    """The output of one worker."""

    def __init__(self, pipe: int, tail: Tail, whose: Whose) -> None:
        self._pipe = pipe
        self._tail = tail
        self._whose = whose
        self._streams: list[_CapturedStream] = []
        self._bucket = TokenBucket(BURST_NBYTES, RATE_NBYTES, monotonic())
        #: Functions that are within a line, by stream.
        self._within: set[tuple[JobKey, bool]] = set()
        #: By function that has printed since it was last asked for: lines that were dropped.
        self._lost: dict[JobKey, int] = {}
        #: Something may have been printed since `end`.
        self.has_news = False

    def follow(self) -> None:
        """From now on, take what this process prints."""
        sys.stdout = self._followed(sys.stdout, is_error=False)
        sys.stderr = self._followed(sys.stderr, is_error=True)

    def end(self, key: JobKey) -> int | None:
        """A function has ended: how many of its lines were dropped; None where it has printed none that go home."""
        for stream in self._streams:
            stream.flush()
        for is_error in (False, True):
            if (key, is_error) in self._within:
                self._within.discard((key, is_error))
                self.send(key, pack_printed(key, "\n", is_error=is_error), 0)
        lost = self._lost.pop(key, None)
        self.has_news = bool(self._lost)
        return lost

    def printed(self, descriptor: int, printed: bytes, *, is_error: bool) -> None:
        """Pass on what has been printed."""
        self._tail.add(memoryview(printed))
        key = self._whose()
        if key is None:
            _write_all(descriptor, printed)
            return
        text = printed.decode(errors="replace")
        if text.endswith("\n"):
            self._within.discard((key, is_error))
        else:
            self._within.add((key, is_error))
        size = _PIECE_ASCII if text.isascii() else _PIECE
        for start in range(0, len(text), size):
            piece = text[start : start + size]
            self.send(key, pack_printed(key, piece, is_error=is_error), piece.count("\n") or 1)

    def send(self, key: JobKey, packed: bytes, lines: int) -> None:
        """Send one part of a message home, or count the lines that it stands for."""
        lost = self._lost.setdefault(key, 0)
        self.has_news = True
        may_send = len(packed) <= PIPE_BUF and self._bucket.take(len(packed), monotonic())
        if may_send and self._is_sent(packed):
            if lost:
                self._tell_lost(key, lost)
        else:
            self._lost[key] = lost + lines

    def current(self) -> JobKey | None:
        """The function whose output goes home now."""
        return self._whose()

    def _tell_lost(self, key: JobKey, lost: int) -> None:
        if self._is_sent(pack_dropped(key, lost)):
            self._lost[key] = 0

    def _is_sent(self, packed: bytes) -> bool:
        try:
            return os.write(self._pipe, packed) == len(packed)
        except OSError:
            # It is full; or this is a fork that has closed what it has inherited.
            return False

    def _followed(self, stream: Any, *, is_error: bool) -> Any:
        if not isinstance(stream, io.TextIOWrapper):
            # There is none, for a process that was started without.
            return stream
        followed = _CapturedStream(self, stream.fileno(), is_error=is_error)
        self._streams.append(followed)
        return io.TextIOWrapper(
            followed,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
            write_through=True,
        )


class _CapturedStream(io.RawIOBase):
    """Takes what the text layer has encoded, and passes it on line by line."""

    def __init__(self, output: OutputCapture, descriptor: int, *, is_error: bool) -> None:
        super().__init__()
        self._output = output
        self._descriptor = descriptor
        self._is_error = is_error
        #: One print is several writes. Threads may add while another thread takes.
        self._parts: deque[bytes] = deque()
        self._nbytes = 0

    def write(self, printed: Any) -> int:
        """Keep it until the end of the line."""
        part = bytes(printed)
        self._parts.append(part)
        self._nbytes += len(part)
        self._output.has_news = True
        if self._nbytes > _MOST_PENDING:
            self.flush()
        return len(part)

    def flush(self) -> None:
        """Pass on what there is."""
        parts = []
        while self._parts:
            parts.append(self._parts.popleft())
        self._nbytes = 0
        if parts:
            self._output.printed(self._descriptor, b"".join(parts), is_error=self._is_error)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor that the node's own output has: what writes there passes us by."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return os.isatty(self._descriptor)


def _write_all(descriptor: int, printed: bytes) -> None:
    rest = memoryview(printed)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
