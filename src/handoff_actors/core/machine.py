"""The one shape of everything that decides: events and a time in, effects out."""

from typing import Protocol, TypeVar

EventT_contra = TypeVar("EventT_contra", contravariant=True)
EffectT = TypeVar("EffectT")


class Machine(Protocol[EventT_contra, EffectT]):
    """A plain object that is told what happened and answers what to do.

    It has no clock: `now` is in monotonic seconds and never goes back. It does nothing itself: the caller carries
    the effects out, in order. The same events at the same times give the same effects.
    """

    @property
    def wake_at(self) -> float | None:
        """When to call `wake`; None while there is nothing to wait for."""
        ...

    def handle(self, event: EventT_contra, now: float) -> list[EffectT]:
        """Take one event."""
        ...

    def wake(self, now: float) -> list[EffectT]:
        """Let the time pass, once `now >= wake_at`."""
        ...

    def check(self) -> None:
        """Assert every invariant. For tests, and for production under HANDOFF_CHECK=1."""
        ...
