"""Asks the node of this worker how to reach the cluster around it, for runs that its functions begin."""

import os
import select
from typing import Final

from handoff_actors.workers.protocol import Surroundings, from_answer

#: A node answers at once, unless the app that it is in holds up its loop.
_WITHIN_MS: Final = 10_000
_MOST_NBYTES: Final = 4096


class _Channel:
    """The worker's end of the channel, see `workers.pool.questions`."""

    descriptor: int | None = None


def ask_over(descriptor: int) -> None:
    """Use this channel, in this process and in its forks."""
    os.set_inheritable(descriptor, False)
    _Channel.descriptor = descriptor


def surroundings() -> Surroundings | None:
    """Ask, and wait for the answer. None: the node can't be reached, or does not answer."""
    if _Channel.descriptor is None:
        return None
    # Not with a socket object: it may be set to a default time limit, and then the descriptor of all workers is changed.
    try:
        os.write(_Channel.descriptor, b"?")
        poll = select.poll()
        poll.register(_Channel.descriptor, select.POLLIN)
        answer = os.read(_Channel.descriptor, _MOST_NBYTES) if poll.poll(_WITHIN_MS) else b""
    except OSError:
        return None
    return from_answer(answer) if answer else None
