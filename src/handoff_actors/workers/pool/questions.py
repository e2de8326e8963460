"""The node's end of the channel over which its workers ask how to reach its cluster.

All workers share one channel: each asks with a byte and takes the next answer, as all answers say the same. The cluster's
key goes this way when a function needs it, and stands in no argument, variable or file.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_MOST_QUESTIONS: Final = 64


class Questions:
    """An open channel; `answer` makes what is answered, at once."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._ours, self._workers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._loop.add_reader(self._ours, self._read)

    def fileno(self) -> int:
        """The descriptor that workers inherit."""
        return self._workers_end.fileno()

    def close(self) -> None:
        """Answer no more."""
        self._loop.remove_reader(self._ours)
        self._ours.close()
        self._workers_end.close()

    def _read(self) -> None:
        # Without room for an answer, too many have asked and not listened.
        with suppress(BlockingIOError):
            for _ in range(_MOST_QUESTIONS):
                self._ours.recv(1)
                self._ours.send(self._answer())
