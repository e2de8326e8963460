"""Lines that a thread writes, so that an event loop never waits for their reader.

A pipe whose reader stands still takes no more lines, and a terminal may be stopped by a key. Lines then wait here, up to a
limit; beyond it they are dropped and counted, and a line with their number is written in their place. So are lines that
can't be written at all, as on a full disk.
"""

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from msgspec import Struct

#: Bytes of lines that may wait to be written: some 20,000 lines.
MOST_WAITING_NBYTES: Final = 4 * 2**20
#: At the end of the process, lines that wait have this many seconds to be written.
CLOSES_WITHIN_S: Final = 0.5
#: Bytes in one write, unless one line has more.
_PIECE_NBYTES: Final = 64 * 1024
_STDERR: Final = 2
_NEWLINE: Final = ord("\n")


class _Line(Struct, frozen=True):
    """A line to write, and how many had been dropped in all when it came."""

    text: bytes
    dropped: int


class _Reopen(Struct, frozen=True):
    """Open the file anew, as another one may have its name now."""


class _Flushed(Struct, frozen=True):
    """Tell somebody that all lines before this one have been written."""

    event: threading.Event


class LogOutput:
    """Writes lines to stderr, or to a file, which is opened anew where it has been renamed or removed.

    `notice` makes the line that says how many were dropped. Lines come from one thread at a time.
    """

    def __init__(
        self,
        notice: Callable[[int], bytes],
        path: Path | None = None,
        most_waiting_nbytes: int = MOST_WAITING_NBYTES,
    ) -> None:
        """Open the file. Raises OSError."""
        self._notice = notice
        self._path = path
        self._descriptor = _STDERR if path is None else _opened(path)
        self._most_waiting_nbytes = most_waiting_nbytes
        # Never blocks those who put, and can be put to by a signal handler amid another put.
        self._waiting: SimpleQueue[_Line | _Reopen | _Flushed | None] = SimpleQueue()
        #: Of all lines so far. Each number is changed by one thread only.
        self._put_nbytes = self._taken_nbytes = 0
        self._dropped = self._unwritten = self._told = 0
        self._is_within_line = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._write_all, name="handoff log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """The number of lines that have been dropped so far."""
        return self._dropped + self._unwritten

    def write(self, line: bytes) -> None:
        """Have a line written, with its end. Returns at once."""
        nbytes = len(line)
        if self._is_closed or self._put_nbytes - self._taken_nbytes + nbytes > self._most_waiting_nbytes:
            self._dropped += 1
            return
        self._put_nbytes += nbytes
        self._waiting.put(_Line(line, self._dropped))

    def reopen(self) -> None:
        """Write what comes from now on to the file that has the name then."""
        if self._path is not None and not self._is_closed:
            self._waiting.put(_Reopen())

    def flush(self, within_s: float) -> bool:
        """Wait until all lines so far have been written. Returns False if that takes longer."""
        event = threading.Event()
        self._waiting.put(_Flushed(event))
        return event.wait(within_s)

    def close(self, within_s: float = CLOSES_WITHIN_S) -> None:
        """Write the lines that wait, for at most so long."""
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting.put(None)
        self._thread.join(within_s)
        if self._descriptor == _STDERR and (self._thread.is_alive() or not _takes_more(_STDERR)):
            # Whatever else is said at the end of the process would wait for the same reader.
            _silence(_STDERR)

    # --- In the thread --------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            if self._waiting.empty():
                self._tell_of_dropped(self._dropped)
            piece, then = self._next_piece()
            if piece:
                self._write(piece)
            match then:
                case None:
                    self._tell_of_dropped(self._dropped)
                    return
                case _Reopen():
                    self._open_again()
                case _Flushed(event):
                    event.set()
                case _Line():
                    """More lines wait."""

    def _next_piece(self) -> tuple[list[_Line], _Line | _Reopen | _Flushed | None]:
        """Wait for lines, and take as many as there are. Also gives what came behind them, or the last one of them."""
        lines: list[_Line] = []
        nbytes = 0
        item = self._waiting.get()
        while isinstance(item, _Line):
            lines.append(item)
            nbytes += len(item.text)
            if nbytes >= _PIECE_NBYTES:
                break
            try:
                item = self._waiting.get_nowait()
            except Empty:
                break
        return lines, item

    def _write(self, lines: list[_Line]) -> None:
        if self._path is not None and _has_moved(self._descriptor, self._path):
            self._open_again()
        text = bytearray()
        count = 0
        for line in lines:
            if line.dropped + self._unwritten > self._told:
                self._write_text(bytes(text), count)
                self._tell_of_dropped(line.dropped)
                text, count = bytearray(), 0
            text += line.text
            count += 1
        self._write_text(bytes(text), count)
        self._taken_nbytes += sum(len(line.text) for line in lines)

    def _tell_of_dropped(self, dropped: int) -> None:
        count = dropped + self._unwritten - self._told
        if count and self._write_text(self._notice(count), 0):
            self._told += count

    def _write_text(self, text: bytes, lines: int) -> bool:
        """Write some lines. Returns False where that is impossible."""
        # A full disk may have taken the beginning of a line.
        rest = memoryview(b"\n" + text if self._is_within_line and text else text)
        while rest:
            try:
                written = os.write(self._descriptor, rest)
            except BlockingIOError:
                # Another process has set what all share not to block.
                _wait_until_writable(self._descriptor, None)
            except OSError:
                self._unwritten += min(lines, bytes(rest).count(b"\n"))
                return False
            else:
                self._is_within_line = rest[written - 1] != _NEWLINE
                rest = rest[written:]
        return True

    def _open_again(self) -> None:
        assert self._path is not None
        # Where that is impossible, the file of before is still there to be written to.
        with suppress(OSError):
            opened = _opened(self._path)
            os.close(self._descriptor)
            self._descriptor = opened


def _wait_until_writable(descriptor: int, within_s: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(None if within_s is None else within_s * 1000))


def _takes_more(descriptor: int) -> bool:
    return _wait_until_writable(descriptor, 0)


def _silence(descriptor: int) -> None:
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _opened(path: Path) -> int:
    # Not blocking: a FIFO without a reader must not hold up the start.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _has_moved(descriptor: int, path: Path) -> bool:
    try:
        named = path.stat()
    except OSError:
        return True
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino)
