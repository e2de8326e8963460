"""Forks of a node's process inherit its channels to workers, and must not use them: their messages would mix with the node's.

A fork that unwinds what it has inherited, or goes on with the event loop, closes, reads and writes without knowing. So in
forks the descriptors of the channels lead nowhere: nothing arrives there, and what is written is lost.
"""

import os
import socket
import weakref
from typing import Protocol


class Channel(Protocol):
    """Something with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor; -1: it is closed."""


class _Forks:
    """The channels that forks must not use, and in a fork both ends of nowhere."""

    def __init__(self) -> None:
        self.channels: weakref.WeakSet[Channel] = weakref.WeakSet()
        self.nowhere: list[socket.socket] = []

    def cut_off(self) -> None:
        """Let the descriptors lead nowhere."""
        if not self.channels:
            return
        end, other_end = socket.socketpair()
        end.setblocking(False)
        for channel in list(self.channels):
            if channel.fileno() >= 0:
                os.dup2(end.fileno(), channel.fileno(), inheritable=False)
        self.nowhere += (end, other_end)
        self.channels.clear()


_forks = _Forks()
os.register_at_fork(after_in_child=_forks.cut_off)


def keep_from_forks(channel: Channel) -> None:
    """Have a channel lead nowhere in forks of this process."""
    _forks.channels.add(channel)
