"""Forks of a process that has sessions, executors or clusters: what they inherit leads nowhere, and says so."""

import os

from handoff_actors.errors import HandoffError


class Owner:
    """The process in which this object is made. In a fork of it, threads, sockets and children are missing."""

    def __init__(self, what: str, remedy: str) -> None:
        self._process = os.getpid()
        self._what = what
        self._remedy = remedy

    def is_here(self) -> bool:
        """Tell whether this is that process, and no fork of it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raise HandoffError in a fork."""
        if not self.is_here():
            raise HandoffError(
                f"process {os.getpid()} is a fork, and this {self._what} belongs to process {self._process}:"
                f" {self._remedy}"
            )
