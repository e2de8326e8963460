"""Messages between the app of a stream and its stages, which are functions that go on for as long as the stream does.

A node passes them on between the app and the worker that runs the stage: it reads neither. `workers.stage_protocol` says what is
in them.
"""

from msgspec import field

from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.wire.messages.base import Count, Message
from handoff_actors.wire.messages.jobs import Ref


class StoredItem(Message, frozen=True):
    """A value that a stage has written to the store of its node."""

    index: Index
    nbytes: Count


class StageInput(Message, frozen=True, tag=27):
    """Rows for a stage, which gets them in the order in which they were sent, once the values that they need are in the store.

    Ignored if that attempt does not run here.
    """

    run: RunId
    index: Index
    attempt: Attempt
    content: bytes
    needs: list[Ref] = field(default_factory=list)


class StageOutput(Message, frozen=True, tag=52):
    """Rows from a stage. The node keeps the `stored` values until they are dropped."""

    run: RunId
    index: Index
    attempt: Attempt
    content: bytes
    stored: list[StoredItem] = field(default_factory=list)


class StageInputLost(Message, frozen=True, tag=53):
    """A value that a `StageInput` needs can't be had here. That message, and all that came behind it, has not been passed on."""

    run: RunId
    index: Index
    attempt: Attempt
    lost: Index
    #: For people.
    reason: str
