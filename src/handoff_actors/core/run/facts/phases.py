"""The phases of a function of a run, and how it gets from one to another.

`TRANSITIONS` is the whole life of a function, and `RunState` consults it at each change: an event that a phase does not
list is a bug of ours and raises. On the normal path a function waits for its inputs, is ready, is sent, and is done:

    WAITING --INPUTS_DONE--> READY --DISPATCHED--> SENT --COMPLETED--> DONE

An attempt may end with a graph (EXPANDED): then its index is that of the function whose result is to be its own, which waits
for its inputs. One that has failed for good, or depends on one that has, is FAILED (GIVEN_UP), and stays so. In a run that
grows, the index of a function that is over and that nobody needs any more is FREE (FORGOTTEN), until another function has it
(ADDED); attempts of the two are never confused, as their numbers go on.

Everything else is a departure. An attempt that ends without a value comes back (RETURNED), rests until the run has decided
about it or its pause is over, and then waits for its inputs anew (RESTED). A function that is to be skipped is done without an
attempt (SKIPPED), and its value is SKIP. A function that is ready waits again if an input is lost (INPUT_LOST); one that has
been sent is left alone, since its node may have the input already. A value that is lost and still needed is made again
(VALUE_LOST). A member of a fused group is sent while it waits, because its inputs are made in the same group; one whose value
a journal has never runs (REUSED).
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

WAITING, READY, SENT, RESTING, DONE, FAILED, FREE = range(7)
PHASE_NAMES: Final = ("WAITING", "READY", "SENT", "RESTING", "DONE", "FAILED", "FREE")


class PhaseEvent(IntEnum):
    """A reason for a function to change its phase."""

    #: All of its inputs can be had.
    INPUTS_DONE = 0
    #: Sent to a node.
    DISPATCHED = 1
    #: An attempt has ended with a value.
    COMPLETED = 2
    #: An attempt has ended without one: it failed, was recalled, or its worker, its node or an input was lost.
    RETURNED = 3
    #: The run has decided to try again, and the pause before that is over.
    RESTED = 4
    #: One of its inputs can't be had any more.
    INPUT_LOST = 5
    #: Lost: no member holds the value any more, and a function or the app needs it.
    VALUE_LOST = 6
    #: A journal has its value from an earlier run.
    REUSED = 7
    #: The run has decided not to try it again, or one that it depends on has failed.
    GIVEN_UP = 8
    #: Nobody needs the function, or its value, any more.
    FORGOTTEN = 9
    #: A function that the run has been given has this index from now on.
    ADDED = 10
    #: Its result is SKIP, since one of its inputs is, or a condition is false.
    SKIPPED = 11
    #: An attempt has ended with a graph: another function, whose result is to be this one's, has its index from now on.
    EXPANDED = 12


#: By phase: the events that may happen in it, and the phase that follows.
TRANSITIONS: Final[Mapping[int, Mapping[PhaseEvent, int]]] = {
    WAITING: {
        PhaseEvent.INPUTS_DONE: READY,
        PhaseEvent.DISPATCHED: SENT,
        PhaseEvent.INPUT_LOST: WAITING,
        PhaseEvent.REUSED: DONE,
        PhaseEvent.SKIPPED: DONE,
        PhaseEvent.GIVEN_UP: FAILED,
    },
    READY: {
        PhaseEvent.DISPATCHED: SENT,
        PhaseEvent.INPUT_LOST: WAITING,
        PhaseEvent.REUSED: DONE,
        PhaseEvent.GIVEN_UP: FAILED,
    },
    SENT: {
        PhaseEvent.COMPLETED: DONE,
        PhaseEvent.RETURNED: RESTING,
        PhaseEvent.EXPANDED: WAITING,
    },
    RESTING: {PhaseEvent.RESTED: WAITING, PhaseEvent.GIVEN_UP: FAILED},
    DONE: {PhaseEvent.VALUE_LOST: WAITING, PhaseEvent.FORGOTTEN: FREE},
    FAILED: {PhaseEvent.FORGOTTEN: FREE},
    FREE: {PhaseEvent.ADDED: WAITING},
}

#: No byte: storing it as a phase raises ValueError, so that a legal change costs no comparison.
_ILLEGAL: Final = 256
#: The same table by event, then by phase: one look-up for each change.
NEXT: Final = tuple(
    tuple(TRANSITIONS[phase].get(event, _ILLEGAL) for phase in range(len(PHASE_NAMES)))
    for event in PhaseEvent
)
ON_INPUTS_DONE = NEXT[PhaseEvent.INPUTS_DONE]
ON_DISPATCHED = NEXT[PhaseEvent.DISPATCHED]
ON_COMPLETED = NEXT[PhaseEvent.COMPLETED]
