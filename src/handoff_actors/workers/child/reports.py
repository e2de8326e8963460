"""Progress and values that functions report while they run, on the pipe that carries their output.

Reports reach the node before the end of their function does. Unlike output they are never dropped: a function that emits
more than the node reads waits. Progress may be told as often as a function likes; only the latest is sent, now and then.
"""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from select import POLLOUT, poll
from typing import Any, Final

from handoff_actors.errors import HandoffError
from handoff_actors.token_bucket import TokenBucket
from handoff_actors.wire.payload import encode
from handoff_actors.workers.output_protocol import pack_emitted, pack_progressed
from handoff_actors.workers.protocol import JobKey

CallLater = Callable[[float, Callable[[], None]], object]

#: Reports of progress that a function sends at once, and per second. The last one is kept for the report that all is done.
PROGRESS_BURST: Final = 3
PROGRESS_RATE: Final = 10
#: Bytes of one emitted value.
MOST_EMITTED_NBYTES: Final = 2**20
#: Bytes of values that a worker emits at once, and per second.
BURST_NBYTES: Final = 4 * 2**20
RATE_NBYTES: Final = 2**20
#: Bytes of a value in one write, so that the write fits PIPE_BUF (4096) with its envelope and arrives whole.
_PIECE_NBYTES: Final = 3800


class _Progress:
    """The progress of one job."""

    def __init__(self) -> None:
        self.bucket = TokenBucket(PROGRESS_BURST, PROGRESS_RATE, time.monotonic())
        #: What has not been sent, encoded; b"": nothing.
        self.unsent = b""
        #: It will be sent after a while, unless that happens before.
        self.is_due = False

    def may_send(self, *, is_complete: bool) -> bool:
        """Tell whether it is time for another report, and count it."""
        needed = 1 if is_complete else 2
        if self.bucket.tokens(time.monotonic()) < needed:
            return False
        self.bucket.overdraw(1)
        return True


class JobReports:
    """The reports of one worker's functions. `announce` is called before the first one of a job.

    `later` calls a function after so many seconds, in any thread; None: this worker can't, as it has no event loop.
    """

    def __init__(
        self, pipe: int, announce: Callable[[JobKey], object], later: CallLater | None = None
    ) -> None:
        self._pipe = pipe
        self._announce = announce
        self._later = later
        self._progress: dict[JobKey, _Progress] = {}
        self._bucket = TokenBucket(BURST_NBYTES, RATE_NBYTES, time.monotonic())
        self._numbers = itertools.count()

    def set_progress(self, key: JobKey, done: float, total: float | None) -> None:
        """Report how far a job is: at once, after a while, or at last with its end, unless a later report comes before that."""
        progress = self._progress.get(key)
        if progress is None:
            progress = self._progress[key] = _Progress()
            self._announce(key)
        progress.unsent = pack_progressed(key, done, total)
        is_complete = total is not None and done >= total
        if progress.may_send(is_complete=is_complete) and self._is_sent(progress.unsent):
            progress.unsent = b""
        elif self._later is not None and not progress.is_due:
            progress.is_due = True
            self._later(2 / PROGRESS_RATE, partial(self._send_due, key))

    def emit(self, key: JobKey, value: Any) -> None:
        """Send a value; waits while there is no room. Raises SerializationError, ValueError, HandoffError."""
        payload = encode(value)
        if payload.nbytes > MOST_EMITTED_NBYTES:
            raise ValueError(
                f"emit() was given a value of {payload.nbytes:,} bytes, and takes at most {MOST_EMITTED_NBYTES:,}: emit a part or "
                "a summary of it, or return it as the function's result"
            )
        encoded = payload.to_bytes()
        self._announce(key)
        self._wait_for_turn(len(encoded))
        # Threads and forks may emit at the same time: a number that none of the others uses tells whose a piece is.
        number = os.getpid() << 32 | next(self._numbers) & 0xFFFFFFFF
        for start in range(0, len(encoded), _PIECE_NBYTES):
            end = start + _PIECE_NBYTES
            self._write(pack_emitted(key, number, encoded[start:end], is_last=end >= len(encoded)))

    def end(self, key: JobKey) -> None:
        """Send the latest progress of a job that ends."""
        progress = self._progress.pop(key, None)
        if progress is not None and progress.unsent:
            # A worker whose node is gone ends next.
            with suppress(HandoffError):
                self._write(progress.unsent)

    def _send_due(self, key: JobKey) -> None:
        progress = self._progress.get(key)
        if progress is not None:
            progress.is_due = False
            if progress.unsent and self._is_sent(progress.unsent):
                progress.bucket.overdraw(1)
                progress.unsent = b""

    def _wait_for_turn(self, nbytes: int) -> None:
        missing = -self._bucket.tokens(time.monotonic())
        if missing > 0:
            time.sleep(missing / RATE_NBYTES)
        self._bucket.overdraw(nbytes)

    def _write(self, packed: bytes) -> None:
        while not self._is_sent(packed):
            has_room = poll()
            has_room.register(self._pipe, POLLOUT)
            has_room.poll()

    def _is_sent(self, packed: bytes) -> bool:
        """Write, unless the pipe is full. A write of at most PIPE_BUF bytes is never cut."""
        try:
            os.write(self._pipe, packed)
        except BlockingIOError:
            return False
        except OSError as error:
            raise HandoffError(
                "a report can't be sent: the function's node is gone, or this process has closed its files"
            ) from error
        return True
