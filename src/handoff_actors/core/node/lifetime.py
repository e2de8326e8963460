"""The end of a node that is to end by itself: once it has been idle for so long, or when its machine is taken back.

A machine that a batch system has lent is killed at a known time. The node begins to drain early enough to have left by then, and
says in its adverts when that will be, so that runs send it nothing that could not end before. A node is idle while it serves
no run, whether or not apps are connected.
"""

from typing import Final

from msgspec import Struct

from handoff_actors.text import exact


class Lifetime(Struct, frozen=True):
    """The limits on the life of one node."""

    #: Leave after so many seconds without a run; None: never for that reason.
    idle_s: float | None = None
    #: Begin to leave after so many seconds; None: no end is known.
    drains_after_s: float | None = None

    @classmethod
    def of(cls, idle_s: float | None, lifetime_s: float | None, drain_s: float) -> "Lifetime":
        """Have a node leave within `lifetime_s` that takes up to `drain_s` to do so; no more than half of a short life."""
        if lifetime_s is None:
            return cls(idle_s)
        return cls(idle_s, max(lifetime_s / 2, lifetime_s - drain_s))


FOREVER: Final = Lifetime()


class NodeEnd:
    """The time at which one node begins to leave by itself."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        self._idle_since: float | None = None
        #: The time at which its lifetime is over; None: no end is known, or it has not started.
        self.ends_at: float | None = None
        #: There is nothing more to say. Most nodes never leave by themselves, and all are asked after each event.
        self._is_settled = lifetime == FOREVER

    def start(self, now: float) -> None:
        """Let the time begin."""
        if self._lifetime.drains_after_s is not None:
            self.ends_at = now + self._lifetime.drains_after_s

    @property
    def wake_at(self) -> float | None:
        """The next time at which it may have to leave."""
        if self._is_settled:
            return None
        times = (self._idle_until, self.ends_at)
        return min((time for time in times if time is not None), default=None)

    @property
    def _idle_until(self) -> float | None:
        idle_s = self._lifetime.idle_s
        return None if idle_s is None or self._idle_since is None else self._idle_since + idle_s

    def reason(self, now: float, *, runs: int) -> str:
        """Return why the node should begin to leave now, once; "" as long as it need not. Called after each event."""
        if self._is_settled:
            return ""
        if runs:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        if self.wake_at is None or now < self.wake_at:
            return ""
        self._is_settled = True
        if self.ends_at is not None and now >= self.ends_at:
            return "its lifetime is over"
        return f"it has served no run for {exact(self._lifetime.idle_s or 0.0)} s"
