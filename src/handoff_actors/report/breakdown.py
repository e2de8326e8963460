"""The parts of a function's time: waiting, moving, overhead, running."""

from collections.abc import Iterable
from typing import Self

from msgspec import Struct


class Breakdown(Struct, frozen=True):
    """Seconds from the beginning of a run until the end of a function, by what they went into.

    Each but `ran_s` is time that the function lost. Sums over functions count what they waited for at once as often as
    there are functions.
    """

    #: Until its inputs were made.
    inputs_s: float = 0.0
    #: From then on, until the beginning of its last attempt: earlier ones, and pauses between them.
    retries_s: float = 0.0
    #: Until a node had room for it, and a worker time.
    resources_s: float = 0.0
    #: While stored inputs were brought to its node.
    moving_s: float = 0.0
    #: Messages on their way, those of its inputs' ends too, and results that waited for those of other functions.
    overhead_s: float = 0.0
    #: On its worker: decoding its arguments, the user's code, encoding its result.
    ran_s: float = 0.0

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add up any number of breakdowns."""
        inputs_s = retries_s = resources_s = moving_s = overhead_s = ran_s = 0.0
        for part in parts:
            inputs_s += part.inputs_s
            retries_s += part.retries_s
            resources_s += part.resources_s
            moving_s += part.moving_s
            overhead_s += part.overhead_s
            ran_s += part.ran_s
        return cls(inputs_s, retries_s, resources_s, moving_s, overhead_s, ran_s)

    @property
    def all_s(self) -> float:
        """The sum of all parts."""
        return sum((self.inputs_s, self.retries_s, self.lost_s, self.ran_s))

    @property
    def lost_s(self) -> float:
        """Time lost after the inputs were there: to waiting for room, to moving data and to overhead."""
        return self.resources_s + self.moving_s + self.overhead_s


NOTHING = Breakdown()
