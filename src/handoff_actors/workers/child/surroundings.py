"""Asks the node of this worker how to reach the cluster around it, for the ids of functions, and tells it which ones wait.

A question goes over a channel that all workers of the node share. The answer to how the cluster is reached is the same for
all, and comes back on that channel; the id of a function comes over a socket of the asker's own, sent along with the question.
"""

import os
import select
import socket
from contextlib import suppress
from typing import Final

from handoff_actors.workers.nested_waits import QUESTION, WaitChanged
from handoff_actors.workers.protocol import JobKey
from handoff_actors.workers.question_protocol import Surroundings, from_answer, from_id_answer, id_question

#: A node answers at once, unless the app that it is in holds up its loop.
_WITHIN_MS: Final = 10_000
_MOST_NBYTES: Final = 4096
#: Of an id: four bytes for each character, and its envelope.
_MOST_OF_ID_NBYTES: Final = 64 * 1024


class _Channel:
    """The worker's end of the channel, see `workers.pool.questions`."""

    descriptor: int | None = None
    node = ""


def ask_over(descriptor: int, node: str) -> None:
    """Use this channel to the node of that name, in this process and in its forks."""
    os.set_inheritable(descriptor, False)
    _Channel.descriptor, _Channel.node = descriptor, node


def node_name() -> str:
    """The name of this worker's node."""
    return _Channel.node


def surroundings() -> Surroundings | None:
    """Ask, and wait for the answer. None: the node can't be reached, or does not answer."""
    if _Channel.descriptor is None:
        return None
    # Not with a socket object: it may be set to a default time limit, and then the descriptor of all workers is changed.
    try:
        os.write(_Channel.descriptor, QUESTION)
        answer = os.read(_Channel.descriptor, _MOST_NBYTES) if _is_readable(_Channel.descriptor) else b""
    except OSError:
        return None
    return from_answer(answer) if answer else None


def tell_of_wait(change: WaitChanged) -> None:
    """Tell the node that a function waits for a run of its own, or goes on. Nothing happens where the node is gone."""
    if _Channel.descriptor is not None:
        with suppress(OSError):
            os.write(_Channel.descriptor, change.packet())


def function_id_of(key: JobKey) -> str | int | None:
    """Ask for the id of a function, and wait. None: the node or the app does not answer, or the function has ended."""
    if _Channel.descriptor is None:
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        try:
            with theirs, socket.socket(fileno=os.dup(_Channel.descriptor)) as channel:
                # The program may have set a default time limit; see above.
                channel.setblocking(True)
                socket.send_fds(channel, [id_question(key)], [theirs.fileno()])
            answer = ours.recv(_MOST_OF_ID_NBYTES) if _is_readable(ours.fileno()) else b""
        except OSError:
            return None
    return from_id_answer(answer) if answer else None


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(_WITHIN_MS))
