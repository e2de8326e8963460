"""Carries events into a machine and its effects out, and wakes it in time."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar, TypeVarTuple

from handoff_actors.core.machine import Machine

EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")
_Events = TypeVarTuple("_Events")

#: When it wants to be woken, the machine is asked at once after this many events, and then once after so many seconds:
#: to ask after each would cost more than the event itself where there are many, and to be woken just to ask would cost
#: more than all else where they are few. Nothing that a machine waits for needs to be known sooner.
LOOKS = 2
LOOK_S = 0.005
#: A timer that would ring so much too early is moved.
EARLY_S = 0.02
#: Timers are set so much later than a machine wants, because those of uvloop may ring a millisecond and a half too early.
COARSE_S = 0.0015
#: The clock of every machine, and of all times that are compared with a machine's. An event loop's own may be coarse: that
#: of uvloop has whole milliseconds, with which functions would seem to begin before those have ended whose results they take.
clock: Final = time.monotonic

#: HANDOFF_CHECK=1 asserts every invariant of every machine after each event.
CHECK = os.environ.get("HANDOFF_CHECK") == "1"


class Driver(Generic[EventT, EffectT]):
    """One machine, driven by the running loop.

    Effects are performed in order. An event that comes while effects are being performed waits until they all are.
    What the machine raises, or what performing its effects does, reaches `crashed`: a bug of ours, or of a user's policy
    object. The machine may have done half of what it was to do, so it is never asked again: `crashed` returns another
    machine for the events to come, which is woken at once, or None, which closes the driver.
    """

    def __init__(
        self,
        machine: Machine[EventT, EffectT],
        perform: Callable[[EffectT], None],
        crashed: Callable[[Exception], Machine[EventT, EffectT] | None],
    ) -> None:
        self._machine = machine
        self._perform = perform
        self._crashed = crashed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0
        self._look: asyncio.Handle | None = None
        #: Events left, before `_looks_until`, after which the machine is asked for its timer at once.
        self._looks = LOOKS
        self._looks_until = 0.0
        self._events: deque[EventT] = deque()
        self._is_busy = False
        self._is_closed = False
        #: For `crashed`: the event that the machine was handling; None where it was woken or started.
        self.broken_by: EventT | None = None

    def start(self, start: Callable[[float], list[EffectT]]) -> None:
        """Perform the machine's first effects. `start` calls that method of it, with the time."""
        self._run(start)
        self._handle_waiting()

    def feed(self, event: EventT) -> None:
        """Have the machine handle an event."""
        if self._is_closed:
            return
        if self._is_busy:
            self._events.append(event)
            return
        self._run(self._machine.handle, event)
        if self._events:
            self._handle_waiting()

    def _handle_waiting(self) -> None:
        while self._events:
            self._run(self._machine.handle, self._events.popleft())

    def close(self) -> None:
        """Feed and wake the machine no more."""
        self._is_closed = True
        self._events.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if not self._is_busy:
            self._let_go()

    def _let_go(self) -> None:
        """Drop the callbacks, so that the owner of this driver is freed as soon as no one else refers to it."""
        self._perform = self._crashed = _ignore

    def _run(self, decide: Callable[[*_Events, float], list[EffectT]], *events: *_Events) -> None:
        now = clock()
        self._is_busy = True
        try:
            for effect in decide(*events, now):
                self._perform(effect)
            if CHECK:
                self._machine.check()
        except Exception as error:  # noqa: BLE001 - the one place where a machine may break
            self._broke(error, *events)
        except BaseException as error:
            # A user's callback within an effect may raise these, too. No task is cancelled by it: this is no coroutine.
            escaped = RuntimeError(f"{type(error).__name__} was raised by a callback")
            escaped.__cause__ = error
            self._broke(escaped, *events)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
        finally:
            self._is_busy = False
        if self._is_closed:
            self._let_go()
        elif self._look is None:
            self._look_at_timer(now)

    def _broke(self, error: Exception, *events: object) -> None:
        self.broken_by = events[0] if events else None  # type: ignore[assignment] # `handle` has one, others none
        self._is_busy = True
        successor: Machine[EventT, EffectT] | None = None
        try:
            successor = self._crashed(error)
        finally:
            self._is_busy = False
            if successor is None:
                self.close()
        if successor is not None:
            self._machine = successor
            self._run(successor.wake)

    def _wake_at(self) -> float | None:
        try:
            return None if self._is_closed else self._machine.wake_at
        except Exception as error:  # noqa: BLE001 - as above
            self._broke(error)
            return self._wake_at()

    def _look_at_timer(self, now: float) -> None:
        if now >= self._looks_until:
            self._looks, self._looks_until = LOOKS, now + LOOK_S
        if self._looks:
            self._looks -= 1
            self._set_timer()
        else:
            self._look = self._loop.call_later(self._looks_until - now, self._set_timer)

    def _set_timer(self) -> None:
        self._look = None
        wake_at = self._wake_at()
        if self._timer is not None:
            # A timer that rings too early does no harm, and is set anew then: cheaper than to move it with every look.
            if wake_at is not None and self._rings_at <= wake_at < self._rings_at + EARLY_S:
                return
            self._timer.cancel()
            self._timer = None
        if wake_at is not None:
            # Not `call_at`: a loop may have a clock of its own.
            self._timer = self._loop.call_later(wake_at - clock() + COARSE_S, self._ring)
            self._rings_at = wake_at

    def _ring(self) -> None:
        self._timer = None
        wake_at = self._wake_at()
        if wake_at is not None and clock() >= wake_at:
            self._run(self._machine.wake)
            while self._events:
                self.feed(self._events.popleft())
        else:
            self._set_timer()


def _ignore(_: object) -> None:
    """Stand in for the callbacks of a closed driver."""
