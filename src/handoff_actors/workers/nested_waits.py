"""Tells a node that a function waits for a run of its own: packets on the channel over which workers ask for the cluster.

A packet of that channel arrives whole, whichever thread or fork of a worker sends it; on the worker's own data channel, the
worker may be about to send something else.
"""

from typing import Final, NamedTuple

import msgpack

from handoff_actors.workers.protocol import JobKey

#: Asks how to reach the cluster; the only packet that is answered.
QUESTION: Final = b"?"


class WaitChanged(NamedTuple):
    """A run that a job has begun is to be waited for from now on, or is over."""

    key: JobKey
    has_begun: bool
    #: The job is a coroutine, whose event loop may be held up meanwhile.
    may_hold_up_loop: bool

    def packet(self) -> bytes:
        """Encode it."""
        packet: bytes = msgpack.packb(self)
        return packet

    @classmethod
    def parse(cls, packet: bytes) -> "WaitChanged":
        """Undo `packet`."""
        key, has_begun, may_hold_up_loop = msgpack.unpackb(packet, use_list=False)
        return cls(key, has_begun, may_hold_up_loop)
