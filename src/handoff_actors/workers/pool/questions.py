"""The node's end of the channel over which its workers ask for its cluster and for ids, and tell which functions wait.

All workers share one channel. Each that asks for the cluster does so with a byte and takes the next answer, as all answers
say the same. The cluster's key goes this way when a function needs it, and stands in no argument, variable or file. Along with
the question for an id comes a socket for the answer, as that is for one worker only, and has to be asked for in turn. What else
comes is a `WaitChanged`.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from handoff_actors.ids import RunId
from handoff_actors.workers.nested_waits import QUESTION, WaitChanged
from handoff_actors.workers.protocol import JobKey
from handoff_actors.workers.question_protocol import from_id_question, id_answer

_MOST_QUESTIONS: Final = 64
_MOST_NBYTES: Final = 64


class Questions:
    """An open channel; `answer` makes what is answered, at once. `id_asked` is to lead to `tell_id`, and `told` takes what workers tell."""

    def __init__(
        self,
        answer: Callable[[], bytes],
        id_asked: Callable[[JobKey], None],
        told: Callable[[WaitChanged], None],
    ) -> None:
        self._answer = answer
        self._id_asked = id_asked
        self._told = told
        #: The sockets of those who wait for an id.
        self._askers: dict[JobKey, list[socket.socket]] = {}
        self._loop = asyncio.get_running_loop()
        self._ours, self._workers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._loop.add_reader(self._ours, self._read)

    def fileno(self) -> int:
        """The descriptor that workers inherit."""
        return self._workers_end.fileno()

    def tell_id(self, key: JobKey, function_id: str | int | None) -> None:
        """Tell the id of a function to all who have asked for it; None: it can't be had."""
        for asker in self._askers.pop(key, ()):
            # An asker may be gone. One that gets no answer sees the socket closed.
            with asker, suppress(OSError):
                if function_id is not None:
                    asker.send(id_answer(function_id))

    def forget(self, run: RunId) -> None:
        """Answer no more questions about a run."""
        for key in [key for key in self._askers if key[0] == run]:
            self.tell_id(key, None)

    def close(self) -> None:
        """Answer no more."""
        self._loop.remove_reader(self._ours)
        for key in list(self._askers):
            self.tell_id(key, None)
        self._ours.close()
        self._workers_end.close()

    def _read(self) -> None:
        # Without room for an answer, too many have asked and not listened.
        with suppress(BlockingIOError):
            for _ in range(_MOST_QUESTIONS):
                question, descriptors, _, _ = socket.recv_fds(
                    self._ours, _MOST_NBYTES, 1, socket.MSG_CMSG_CLOEXEC
                )
                if descriptors:
                    key = from_id_question(question)
                    self._askers.setdefault(key, []).append(socket.socket(fileno=descriptors[0]))
                    self._id_asked(key)
                elif question == QUESTION:
                    self._ours.send(self._answer())
                else:
                    self._told(WaitChanged.parse(question))
