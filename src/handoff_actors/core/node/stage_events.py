"""The events and effects of a node's machine about stages of streams, beside messages."""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.ids import Attempt, Index, RunId, WorkerId
from handoff_actors.wire.messages.stages import StoredItem


class StageAnswered(Struct, frozen=True):
    """A stage answers with rows, and has stored values for them under its attempt."""

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt
    content: bytes
    stored: Sequence[StoredItem]


class DiscardItems(Struct, frozen=True):
    """Delete what a worker has stored as this attempt at a stage, and has not told of."""

    run: RunId
    index: Index
    attempt: Attempt


class PassRows(Struct, frozen=True):
    """Pass rows on to the stage that a worker runs as this attempt."""

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt
    content: bytes
