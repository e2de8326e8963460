"""The interface of all state machines in the core: events and a time in, effects out."""

from typing import Protocol, TypeVar

EventT_contra = TypeVar("EventT_contra", contravariant=True)
EffectT = TypeVar("EffectT")


class Machine(Protocol[EventT_contra, EffectT]):
    """A state machine without I/O, which returns the effects of each event for its caller to carry out, in order.

    A machine has no clock: `now` is in monotonic seconds and never goes back. The same events at the same times give the
    same effects.
    """

    @property
    def wake_at(self) -> float | None:
        """The time at which to call `wake`; None while there is nothing to wait for."""
        ...

    def handle(self, event: EventT_contra, now: float) -> list[EffectT]:
        """Handle one event, and return its effects."""
        ...

    def wake(self, now: float) -> list[EffectT]:
        """Act on the passing of time, once `now >= wake_at`."""
        ...

    def check(self) -> None:
        """Assert every invariant. For tests, and for production under HANDOFF_CHECK=1."""
        ...
