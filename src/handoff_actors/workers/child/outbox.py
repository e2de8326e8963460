"""Messages that a worker has not sent yet; one system call sends them all."""

import os
import resource
import select
import socket
from collections.abc import Iterable, Sequence
from typing import Final

import msgpack

from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.workers.child.evaluation import JobFailure
from handoff_actors.workers.child.outcome import Grown, JobOutcome
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.protocol import (
    DoneRow,
    FromWorker,
    JobFailed,
    JobKey,
    JobsDone,
    JobsGivenBack,
    JobsPrinted,
    ObjectKept,
    StageAnswers,
    WorkerReady,
    WorkerSpoiled,
    done_row,
)

#: The unit of ru_maxrss.
_KIBIBYTE: Final = 1024


class WorkerOutbox:
    """Collect a worker's messages; results of one run that follow one another share a message."""

    def __init__(self, channel: socket.socket, tail: Tail) -> None:
        self._channel = channel
        self._has_room = select.poll()
        self._has_room.register(channel, select.POLLOUT)
        self._tail = tail
        self._packer = msgpack.Packer()
        self._pid = os.getpid()
        self._messages: list[FromWorker] = []
        #: Functions that have printed, with the number of lines that were dropped.
        self._printed: list[tuple[JobKey, int]] = []
        self._run: RunId | None = None
        self._rows: list[DoneRow] = []

    def __bool__(self) -> bool:
        return bool(self._messages)

    def up(self) -> None:
        """Report that this process has started."""
        self._add(WorkerReady(self._pid))
        self.flush()

    def done(self, run: RunId, index: Index, attempt: Attempt, value: JobOutcome, seconds: float) -> None:
        """Add an attempt that succeeded."""
        if run != self._run:
            self._run, self._rows = run, []
            self._messages.append(JobsDone(run, self._rows))
        plain, growth = value if isinstance(value, Grown) else (value, b"")
        self._rows.append(done_row(index, attempt, plain, self._pid, seconds, growth))

    def failed(self, key: JobKey, failure: JobFailure, seconds: float) -> None:
        """Add an attempt that failed."""
        peak_nbytes = peak_nbytes_of(resource.getrusage(resource.RUSAGE_SELF))
        kind, error, reason, not_retried = failure
        self._add(JobFailed(key, kind, error, reason, seconds, peak_nbytes, self._tail.text(), not_retried))

    def printed(self, key: JobKey, dropped: int) -> None:
        """Add that a function has printed, and how many lines were dropped; its end must follow."""
        self._printed.append((key, dropped))

    def recalled(self, jobs: Iterable[JobKey]) -> None:
        """Add the answer to a recall."""
        self._add(JobsGivenBack(list(jobs)))

    def spoiled(self, key: JobKey, reason: str) -> None:
        """Add that a job has left this worker in a state that can't be mended."""
        self._add(WorkerSpoiled(key, reason))

    def made(self, key: bytes, nbytes: int) -> None:
        """Add that this worker has made an object that it keeps."""
        self._add(ObjectKept(key, nbytes))

    def answered(self, key: JobKey, content: bytes, stored: Sequence[tuple[Index, int]]) -> None:
        """Add rows of a stage, with the values that it has stored for them."""
        self._add(StageAnswers(key, content, stored))

    def flush(self) -> None:
        """Send everything; waits while the node does not read. Ends the process if the node is gone."""
        if not self._messages:
            return
        if self._printed:
            # First: the node looks at its pipe before it learns that these have ended.
            self._messages.insert(0, JobsPrinted(self._printed))
            self._printed = []
        messages, self._messages, self._run = self._messages, [], None
        try:
            chunk = b"".join(map(self._packer.pack, messages))
        except (ValueError, TypeError, OverflowError):
            chunk = b"".join(map(self._packed_alone, messages))
        try:
            self._send(chunk)
        except OSError:
            # The node is gone.
            os._exit(0)

    def _send(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except BlockingIOError:
                # An async worker's loop makes its end non-blocking.
                self._has_room.poll()

    def _packed_alone(self, message: FromWorker) -> bytes:
        """Pack one message. What can't be sent is the failure of its function, and of no other."""
        try:
            packed: bytes = self._packer.pack(message)
        except (ValueError, TypeError, OverflowError) as error:
            if not isinstance(message, JobFailed):
                raise
            reason = f"{message.reason!a} (it can't be reported as it is: {error!a})"
            failed = JobFailed(
                message.key, message.kind, b"", reason, message.ran_s, message.peak_nbytes, "", ""
            )
            packed = self._packer.pack(failed)
        return packed

    def _add(self, message: FromWorker) -> None:
        self._messages.append(message)
        self._run = None


def peak_nbytes_of(usage: resource.struct_rusage) -> int:
    """Give the most memory that a process has ever had."""
    return usage.ru_maxrss * _KIBIBYTE
