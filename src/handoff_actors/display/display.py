"""The one thread of this process that shows runs, and writes what functions have printed.

A terminal may be slow, and a pipe may block for as long as its reader likes: no event loop is to wait for either. What
does not fit while that lasts is dropped, and counted by its writer. The thread begins with the first thing to
write or to show, and ends when there is nothing left of either.
"""

import atexit
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Final, Protocol, TextIO

from handoff_actors.display.live_progress import LiveProgress
from handoff_actors.token_bucket import TokenBucket

#: The most bytes that may wait to be written.
MOST_WAITING_NBYTES: Final = 1024 * 1024
#: Seconds that the end of the process waits for text that is still to be written.
ENDS_WITHIN_S: Final = 2.0
#: The most bytes that a character takes.
_MOST_BYTES: Final = 4
#: Seconds between two frames.
LOOKS_EVERY_S: Final = 0.25
#: Errors of the app's own streams and handlers that are shown at once, and per second.
_COMPLAINTS: Final = 10


class Canvas(Protocol):
    """A surface that shows runs, one below the other."""

    def draw(self, views: Sequence[LiveProgress]) -> None:
        """Show these runs as they are now, and no others."""

    def end(self, view: LiveProgress) -> None:
        """Replace a run that has ended by a last line about it."""

    def close(self) -> None:
        """Remove all but the last lines."""


class Display:
    """The display of one process. Its methods may be called in any thread, and return at once."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Reset to an empty display: a fork has none of its parent's threads."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._waiting_nbytes = 0
        self._views: dict[LiveProgress, Canvas] = {}
        self._draws_at = 0.0
        #: Prints above the bars, while there are any.
        self.above: Callable[[str], None] | None = None
        #: A caller has waited in vain for text to be written, and none has been written since.
        self.is_stuck = False

    def write(self, write: Callable[[], object], nbytes: int) -> bool:
        """Queue a write behind those that wait already. False if there is no room for it."""
        with self._changed:
            if nbytes and self._waiting_nbytes + nbytes > MOST_WAITING_NBYTES:
                return False
            self._waiting_nbytes += nbytes
            self._waiting.append((write, nbytes))
            self._wake()
        return True

    def may_write_at_once(self, stream: TextIO | None, text: str) -> bool:
        """True if a caller may write the text itself: no other text waits, and the stream takes it without blocking."""
        with self._changed:
            if self._waiting_nbytes:
                return False
        is_short = len(text) * _MOST_BYTES <= select.PIPE_BUF
        return stream is None or (is_short and not _is_proxy(stream) and _takes_now(stream))

    @property
    def is_idle(self) -> bool:
        """True if no text waits and no run is shown."""
        with self._changed:
            return self._thread is None

    def show(self, view: LiveProgress, canvas: Canvas) -> None:
        """Show a run from now on."""
        with self._changed:
            self._views[view] = canvas
            self._draws_at = 0.0
            self._wake()

    def hide(self, view: LiveProgress, canvas: Canvas) -> None:
        """Stop showing a run, and leave its last line."""

        def end() -> None:
            with self._changed:
                self._views.pop(view, None)
                is_last = canvas not in self._views.values()
            canvas.end(view)
            if is_last:
                canvas.close()

        self.write(end, 0)

    def finish(self) -> None:
        """Wait for a limited time until all has been written, at the end of the process."""
        with self._changed:
            canvases = set(self._views.values())
            self._views.clear()
        for canvas in canvases:
            # A bar hides the cursor.
            self.write(canvas.close, 0)
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None, 0.0 if self.is_stuck else ENDS_WITHIN_S)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="handoff display", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._views:
                    self._thread = None
                    self._changed.notify_all()
                    return
                if not self._waiting:
                    self._changed.wait(max(0.0, self._draws_at - time.monotonic()))
                due, self._waiting = self._waiting, deque()
            for write, nbytes in due:
                _carefully(write)
                with self._changed:
                    self._waiting_nbytes -= nbytes
            if self._views and time.monotonic() >= self._draws_at:
                self._draw()

    def _draw(self) -> None:
        self._draws_at = time.monotonic() + LOOKS_EVERY_S
        with self._changed:
            views = dict(self._views)
        by_canvas: dict[Canvas, list[LiveProgress]] = {}
        for view, canvas in views.items():
            by_canvas.setdefault(canvas, []).append(view)
        for canvas, shown in by_canvas.items():
            for view in shown:
                view.ask()
            _carefully(lambda canvas=canvas, shown=shown: canvas.draw(shown))  # type: ignore[misc]


def _carefully(write: Callable[[], object]) -> None:
    """Write, and show errors of the app's own streams and log handlers, as `logging` does. They end neither run nor thread."""
    try:
        write()
    except (OSError, ValueError):
        # The reader has gone, or the app has closed the stream: the text is not wanted.
        pass
    except BaseException as error:
        # A user's stream raises what it likes, and may even exit.
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        # The streams of the app are not to be trusted now.
        if sys.__stderr__ is not None and _complaints.take(1, time.monotonic()):
            with suppress(Exception):
                traceback.print_exc(file=sys.__stderr__)


_complaints: Final = TokenBucket(_COMPLAINTS, _COMPLAINTS, time.monotonic())


def write_lines(lines: Sequence[str], context: Context, *, is_error: bool) -> int:
    """Write to the app's stdout or stderr as they are now; the answer is how many of the lines there was room for.

    As far as that can't block, it happens here, in the thread that the app prints in, too: else lines of the two might tear
    one another apart. A bar, a long line, and what has to wait are left to the thread of the display.
    """
    stream = sys.stderr if is_error else sys.stdout
    written = 0
    while written < len(lines) and display.may_write_at_once(stream, lines[written]):
        _carefully(partial(write_text, lines[written], context, is_error=is_error))
        written += 1
    rest = "".join(lines[written:])
    if rest and not display.write(partial(write_text, rest, context, is_error=is_error), len(rest)):
        return written
    return len(lines)


def write_text(text: str, context: Context, *, is_error: bool) -> None:
    """Write to the app's stdout or stderr as they are now. Raises OSError, ValueError, and what the app's own stream raises."""
    stream = sys.stderr if is_error else sys.stdout
    if stream is None:
        return
    if display.above is not None and _is_proxy(stream):
        display.above(text)
        return
    # A notebook puts it below the cell that the context belongs to. A context runs in one thread at a time: hence copies.
    try:
        context.copy().run(stream.write, text)
    except UnicodeEncodeError as error:
        # The node's output has characters that the app's has not.
        shown = text.encode(error.encoding, errors="backslashreplace").decode(error.encoding)
        context.copy().run(stream.write, shown)
    # `print` needs none either.
    flush = getattr(stream, "flush", None)
    if flush is not None:
        context.copy().run(flush)


def _takes_now(stream: TextIO) -> bool:
    """True if a stream takes PIPE_BUF bytes without having to wait."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except Exception:  # noqa: BLE001 - a user's stream raises what it likes
        # A stream in memory never blocks.
        return True
    return bool(poll.poll(0))


def _is_proxy(stream: object) -> bool:
    """True if rich has replaced the stream, to print above its bars."""
    try:
        return hasattr(type(stream), "rich_proxied_file")
    except Exception:  # noqa: BLE001 - as above
        return False


def write_record(record: logging.LogRecord) -> None:
    """Hand a record to its logger in this process, as far as that wants it."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


#: Of this process.
display: Final = Display()
# The end of the process doesn't wait for the thread itself, because a pipe may never be read.
atexit.register(display.finish)
os.register_at_fork(after_in_child=display.begin)
