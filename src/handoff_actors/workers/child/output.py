"""Output of a worker's functions: sent to the app that asked for the function, or else written where the node writes.

Output for the app leaves at once, over a pipe that all workers of a node share. A write of at most PIPE_BUF bytes arrives
whole or not at all and never waits, so threads and forks of a user's function may print as they like, and a busy node
holds up no function that prints: lines that there is no room for are dropped and counted. A function that doesn't print
costs one look at a flag.
"""

import io
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from select import PIPE_BUF, POLLOUT, poll
from time import monotonic
from typing import Any, Final

from handoff_actors.token_bucket import TokenBucket
from handoff_actors.workers.child.reports import CallLater, JobReports
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.output_protocol import pack_dropped, pack_printed
from handoff_actors.workers.protocol import JobKey

#: Gives the job that owns the output written now; None: no job does, or its app does not want it.
CurrentJob = Callable[[], JobKey | None]

#: Bytes that a worker may print at once, and per second.
BURST_NBYTES: Final = 256 * 1024
RATE_NBYTES: Final = 256 * 1024
#: Characters in one write, of one byte or of up to four, so that the write fits PIPE_BUF (4096) with its envelope.
_PIECE_ASCII: Final = 3800
_PIECE: Final = 950
#: A longer line is passed on before its end.
_MOST_PENDING: Final = 64 * 1024
#: Milliseconds that a function waits for a reader of the node's own output.
_PATIENCE_MS: Final = 1000


class OutputCapture:
    """The output of one worker."""

    def __init__(
        self, pipe: int, tail: Tail, current_job: CurrentJob, later: CallLater | None = None
    ) -> None:
        self._pipe = pipe
        self._tail = tail
        self._current_job = current_job
        self._streams: list[_CapturedStream] = []
        self._nodes_output = _NodesOutput()
        self._bucket = TokenBucket(BURST_NBYTES, RATE_NBYTES, monotonic())
        #: Functions that have begun a line and not ended it, by stream.
        self._within: set[tuple[JobKey, bool]] = set()
        #: Dropped lines of each function that has printed since its last `end`.
        self._dropped: dict[JobKey, int] = {}
        #: Something may have been printed or reported since `end`.
        self.has_news = False
        self.reports = JobReports(pipe, self._announce, later)

    def follow(self) -> None:
        """Capture the output of this process from now on."""
        sys.stdout = self._followed(sys.stdout, is_error=False)
        sys.stderr = self._followed(sys.stderr, is_error=True)

    def end(self, key: JobKey) -> int | None:
        """End a function's output; gives how many of its lines were dropped, or None where nothing was sent."""
        self.reports.end(key)
        for stream in self._streams:
            stream.flush()
        for is_error in (False, True):
            if (key, is_error) in self._within:
                self._within.discard((key, is_error))
                self.send(key, pack_printed(key, "\n", is_error=is_error), 0)
        dropped = self._dropped.pop(key, None)
        self.has_news = bool(self._dropped)
        return dropped

    def printed(self, descriptor: int, printed: bytes, *, is_error: bool) -> None:
        """Pass on printed bytes."""
        self._tail.add(memoryview(printed))
        key = self._current_job()
        if key is None:
            self._nodes_output.write(descriptor, printed)
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
        """Send one encoded part of the output to the app, or count its lines as dropped."""
        dropped = self._announce(key)
        may_send = len(packed) <= PIPE_BUF and self._bucket.take(len(packed), monotonic())
        if may_send and self._is_sent(packed):
            if dropped:
                self._report_dropped(key, dropped)
        else:
            self._dropped[key] = dropped + lines

    def current(self) -> JobKey | None:
        """Give the job that owns the output written now, if its app wants it."""
        return self._current_job()

    def _announce(self, key: JobKey) -> int:
        """Note that something of a job is on the pipe, for its end; gives how many of its lines have been dropped."""
        self.has_news = True
        return self._dropped.setdefault(key, 0)

    def _report_dropped(self, key: JobKey, dropped: int) -> None:
        if self._is_sent(pack_dropped(key, dropped)):
            self._dropped[key] = 0

    def _is_sent(self, packed: bytes) -> bool:
        try:
            return os.write(self._pipe, packed) == len(packed)
        except OSError:
            # The pipe is full; or this is a fork that has closed its inherited descriptors.
            return False

    def _followed(self, stream: Any, *, is_error: bool) -> Any:
        if not isinstance(stream, io.TextIOWrapper):
            # The process was started without this stream.
            return stream
        followed = _CapturedStream(self, stream.fileno(), is_error=is_error)
        self._streams.append(followed)
        return _CapturedText(
            followed,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
            write_through=True,
        )


class _CapturedText(io.TextIOWrapper):
    """The text layer of a stream that all functions of a worker share: none of them can close it or take it apart."""

    def detach(self) -> io.RawIOBase:  # type: ignore[override]  # there is no buffer below
        """Give the layer below, and go on."""
        self.flush()
        assert isinstance(self.buffer, io.RawIOBase)
        return self.buffer


class _CapturedStream(io.RawIOBase):
    """Take what the text layer has encoded, and pass it on line by line."""

    def __init__(self, output: OutputCapture, descriptor: int, *, is_error: bool) -> None:
        super().__init__()
        self.name = "<stderr>" if is_error else "<stdout>"
        self._output = output
        self._descriptor = descriptor
        self._is_error = is_error
        #: One print is several writes. Threads may add while another thread takes.
        self._parts: deque[bytes] = deque()
        self._nbytes = 0

    def write(self, printed: Any) -> int:
        """Keep a part until the end of its line."""
        part = bytes(printed)
        self._parts.append(part)
        self._nbytes += len(part)
        self._output.has_news = True
        if self._nbytes > _MOST_PENDING:
            self.flush()
        return len(part)

    def flush(self) -> None:
        """Pass on the parts so far."""
        parts = []
        while self._parts:
            parts.append(self._parts.popleft())
        self._nbytes = 0
        if parts:
            self._output.printed(self._descriptor, b"".join(parts), is_error=self._is_error)

    def close(self) -> None:
        """Pass on the parts so far, and go on: functions that follow print here, too."""
        self.flush()

    def writable(self) -> bool:
        """Tell the text layer that writing is possible."""
        return True

    def fileno(self) -> int:
        """Give the descriptor of the node's own output; bytes written there are not captured."""
        return self._descriptor

    def isatty(self) -> bool:
        """Tell whether the node's own output is a terminal."""
        return os.isatty(self._descriptor)


class _NodesOutput:
    """The node's own output. A full disk, or a pipe that nobody reads, fails no function and holds up none for long."""

    def __init__(self) -> None:
        #: Descriptors that took nothing the last time.
        self._stuck: set[int] = set()

    def write(self, descriptor: int, printed: bytes) -> None:
        """Write as much as is taken; drop the rest."""
        rest = memoryview(printed)
        with suppress(OSError):
            # A pipe that is ready takes that much without waiting.
            while rest and self._is_ready(descriptor):
                rest = rest[os.write(descriptor, rest[:PIPE_BUF]) :]

    def _is_ready(self, descriptor: int) -> bool:
        polling = poll()
        polling.register(descriptor, POLLOUT)
        if polling.poll(0 if descriptor in self._stuck else _PATIENCE_MS):
            self._stuck.discard(descriptor)
            return True
        self._stuck.add(descriptor)
        return False
