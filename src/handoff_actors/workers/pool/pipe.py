"""The node's end of a worker's data channel: never blocks, and sends all that waits in one system call."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from handoff_actors.workers.pool.forks import keep_from_forks
from handoff_actors.workers.protocol import READ_NBYTES, FromWorker, JobKey, from_worker
from handoff_actors.workers.rows import RowReader

#: Chunks in one system call (IOV_MAX is 1024).
_CHUNKS_PER_SEND: Final = 512


class Pipe:
    """Write chunks in order, read messages.

    `received` gets the messages of one read, `closed` is called at the end, and `unsent` when a flush is needed.
    """

    def __init__(
        self,
        end: socket.socket,
        received: Callable[[list[FromWorker]], None],
        closed: Callable[[], None],
        unsent: Callable[["Pipe"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._end.setblocking(False)
        keep_from_forks(end)
        self._received = received
        self._closed = closed
        self._has_unsent = unsent
        self._reader = RowReader()
        #: Chunks, each with the jobs that it gives to the worker.
        self._unsent: deque[tuple[bytes | memoryview, Sequence[JobKey]]] = deque()
        #: A flush has been asked for, or waits for room.
        self._is_flush_due = False
        self._waits_for_room = False
        self._is_open = True
        self._loop.add_reader(end, self._read)

    def write(self, chunk: bytes, jobs: Sequence[JobKey] = ()) -> None:
        """Queue a chunk for the next flush."""
        self._unsent.append((chunk, jobs))
        if not self._is_flush_due:
            self._is_flush_due = True
            self._has_unsent(self)

    def flush(self) -> None:
        """Send as much as the channel has room for now, the rest later."""
        if not self._is_open:
            return
        while self._unsent:
            chunks = [chunk for chunk, _ in islice(self._unsent, _CHUNKS_PER_SEND)]
            try:
                sent = self._end.sendmsg(chunks)
            except BlockingIOError:
                self._waits_for_room = True
                self._loop.add_writer(self._end, self.flush)
                return
            except ConnectionError:
                # The reader will see the end.
                self._unsent.clear()
                break
            self._drop_sent(sent)
        self._is_flush_due = False
        if self._waits_for_room:
            self._waits_for_room = False
            self._loop.remove_writer(self._end)

    def take_back(self) -> list[JobKey]:
        """Drop the chunks with jobs that have not been sent even in part; gives their jobs."""
        taken = [job for _, jobs in self._unsent for job in jobs]
        self._unsent = deque(entry for entry in self._unsent if not entry[1])
        return taken

    def drain(self) -> None:
        """Read everything that has arrived."""
        while self._is_open and self._read():
            pass

    def close(self) -> None:
        """Close the channel and drop unsent chunks; `closed` is not called."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()
            self._unsent.clear()

    def _drop_sent(self, nbytes: int) -> None:
        while self._unsent and nbytes >= len(self._unsent[0][0]):
            nbytes -= len(self._unsent.popleft()[0])
        if nbytes:
            # Its jobs cannot be taken back any more.
            self._unsent[0] = (memoryview(self._unsent[0][0])[nbytes:], ())

    def _read(self) -> bool:
        try:
            received = self._end.recv(READ_NBYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            received = b""
        if received:
            self._received(list(map(from_worker, self._reader.rows(received))))
            return True
        self.close()
        self._closed()
        return False
