"""What a worker has to say and has not said yet; one system call says all of it."""

import os
import resource
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgpack

from handoff_actors.workers.child.evaluation import Failure
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.protocol import KIBIBYTE, FromWorker

_DONE: Final = int(FromWorker.DONE)


class WorkerOutbox:
    """Collects a worker's messages; rows of one run that follow one another share a message."""

    def __init__(self, channel: socket.socket, tail: Tail) -> None:
        self._channel = channel
        self._tail = tail
        self._packer = msgpack.Packer()
        self._messages: list[list[Any]] = []
        #: Of functions that have printed.
        self._printed: list[tuple[int, int, int, int]] = []
        self._run: int | None = None
        self._rows: list[tuple[int, int, bytes | int, float]] = []

    def __bool__(self) -> bool:
        return bool(self._messages)

    def up(self) -> None:
        """Say that this process is there."""
        self._add([int(FromWorker.UP), os.getpid()])
        self.flush()

    def done(self, run: int, index: int, attempt: int, value: bytes | int, seconds: float) -> None:
        """Add the good end of an attempt."""
        if run != self._run:
            self._run, self._rows = run, []
            self._messages.append([_DONE, run, self._rows])
        self._rows.append((index, attempt, value, seconds))

    def failed(self, run: int, index: int, attempt: int, failure: Failure, seconds: float) -> None:
        """Add another end of an attempt."""
        peak_nbytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE
        printed = self._tail.text()
        self._add([int(FromWorker.FAILED), run, index, attempt, *failure, seconds, peak_nbytes, printed])

    def printed(self, run: int, index: int, attempt: int, lost: int) -> None:
        """Add that a function has printed, and how many lines were dropped; its end is to follow."""
        self._printed.append((run, index, attempt, lost))

    def recalled(self, jobs: Iterable[tuple[int, int, int]]) -> None:
        """Add the answer to a recall: rows of (run, index, attempt)."""
        self._add([int(FromWorker.RECALLED), list(jobs)])

    def flush(self) -> None:
        """Say everything; waits while the node does not read. Ends the process if there is no node any more."""
        if not self._messages:
            return
        if self._printed:
            # First: the node looks at its pipe before it learns that these have ended.
            self._messages.insert(0, [int(FromWorker.PRINTED), self._printed])
            self._printed = []
        packed = b"".join(map(self._packer.pack, self._messages))
        self._messages, self._run = [], None
        try:
            self._channel.sendall(packed)
        except OSError:
            # Nobody is left to work for; or this is a fork that a user's function made and forgot to end.
            os._exit(0)

    def _add(self, message: Sequence[Any]) -> None:
        self._messages.append(list(message))
        self._run = None
