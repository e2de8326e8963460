"""The node's end of the pipe that carries the output and the reports of functions on their way to the app."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from handoff_actors.ids import RunId
from handoff_actors.token_bucket import TokenBucket
from handoff_actors.wire.messages.jobs import Dropped, Emitted, Progressed, Said
from handoff_actors.workers.output_protocol import EmittedPiece, emitted_piece, output_part
from handoff_actors.workers.pool.forks import keep_from_forks
from handoff_actors.workers.rows import Row, RowReader

log = logging.getLogger(__name__)

_PIPE_NBYTES: Final = 1024 * 1024
_READ_NBYTES: Final = 64 * 1024
#: Bytes that all workers of a node may print at once, and per second.
BURST_NBYTES: Final = 1024 * 1024
RATE_NBYTES: Final = 1024 * 1024
#: Stop reading for so long when workers have printed more. If the pipe fills up, they drop and count lines.
_PAUSE_S: Final = 0.05


class OutputReader:
    """Read one pipe. `said` gets the output that has arrived, run by run."""

    def __init__(self, said: Callable[[RunId, Sequence[Said]], None]) -> None:
        self._said = said
        self._loop = asyncio.get_running_loop()
        self._read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        #: The end that workers write to, until `hand_over`.
        self.write_end: int | None = write_end
        # There is a limit to what all pipes of a user may hold.
        with suppress(OSError):
            fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, _PIPE_NBYTES)
        self._reader = RowReader()
        #: The pieces so far of values that have not arrived whole, by run and number.
        self._pieces: dict[tuple[RunId, int], list[bytes]] = {}
        self._bucket = TokenBucket(BURST_NBYTES, RATE_NBYTES, self._loop.time())
        self._resuming: asyncio.TimerHandle | None = None
        self._is_open = True
        keep_from_forks(self)
        self._loop.add_reader(self._read_end, self._read)

    def fileno(self) -> int:
        """See Channel."""
        return self._read_end if self._is_open else -1

    def hand_over(self) -> None:
        """Close the other end here, once the zygote has inherited it."""
        if self.write_end is not None:
            os.close(self.write_end)
            self.write_end = None

    def drain(self) -> None:
        """Read everything that has arrived, before a message that comes after it is handled."""
        while self._is_open and self._take():
            pass

    def forget(self, run: RunId) -> None:
        """Drop values of a run that will never arrive whole."""
        self._pieces = {key: pieces for key, pieces in self._pieces.items() if key[0] != run}

    def worker_ended(self, pid: int) -> None:
        """Drop values that a worker has not sent whole."""
        self._pieces = {key: pieces for key, pieces in self._pieces.items() if key[1] >> 32 != pid}

    def close(self) -> None:
        """Stop reading and close the pipe."""
        self.hand_over()
        if self._is_open:
            self._is_open = False
            if self._resuming is not None:
                self._resuming.cancel()
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)

    def _read(self) -> None:
        if self._bucket.tokens(self._loop.time()) > 0:
            self._take()
        else:
            self._loop.remove_reader(self._read_end)
            self._resuming = self._loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._read_end, self._read)

    def _take(self) -> bool:
        try:
            received = os.read(self._read_end, _READ_NBYTES)
        except BlockingIOError:
            return False
        if not received:
            # Every worker has ended, and so has the zygote.
            self._loop.remove_reader(self._read_end)
            return False
        has_room = self._bucket.tokens(self._loop.time()) > 0
        printed_nbytes = len(received)
        by_run: dict[RunId, list[Said]] = {}
        for run, row in map(output_part, self._reader.rows(received)):
            piece = emitted_piece(row)
            if piece is None:
                said = _said(row, has_room=has_room)
            else:
                # Workers limit what they emit themselves.
                printed_nbytes -= len(piece.piece)
                said = self._whole(run, piece)
            if said is not None:
                by_run.setdefault(run, []).append(said)
        self._bucket.overdraw(printed_nbytes)
        for run, of_run in by_run.items():
            self._said(run, of_run)
        return True

    def _whole(self, run: RunId, piece: EmittedPiece) -> Emitted | None:
        """Give an emitted value if this was its last piece."""
        key = (run, piece.number)
        pieces = self._pieces.setdefault(key, [])
        pieces.append(piece.piece)
        if not piece.is_last:
            return None
        del self._pieces[key]
        return Emitted(piece.function, piece.attempt, b"".join(pieces))


def _said(row: Row, *, has_room: bool) -> Said | None:
    try:
        said: Said = msgspec.convert(row, Said)
    except msgspec.ValidationError as error:
        # Output behind it must not be lost for what one line or record has in it.
        log.warning("output of a function can't be read", extra={"reason": str(error)})
        return None
    if has_room or isinstance(said, Dropped | Progressed):
        return said
    lines = 1 if not hasattr(said, "text") else said.text.count("\n") or 1
    return Dropped(said.index, said.attempt, lines)
