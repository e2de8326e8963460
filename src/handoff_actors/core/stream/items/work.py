"""One call of a stage's code: an item with the values that it takes there, until it has ended. For a chunk, a call for each item."""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.core.stream.events import ItemOutcome, Stored, Vertex
from handoff_actors.core.stream.items.keys import Key
from handoff_actors.core.stream.items.scope import Scope
from handoff_actors.ids import Index


class Work(Struct, eq=False):
    """An item at a stage, for which the code is to be called."""

    number: int
    stage: Vertex
    key: Key
    values: list[ItemOutcome]
    scope: Scope
    #: The hash by which its worker is chosen; None: any may do it.
    lane_hash: int | None = None
    #: None of its values is in a store.
    is_inline: bool = False
    #: The number of its items: more than one where its only value is a chunk.
    size: int = 1
    #: How often the code has raised, or was stopped at its time limit.
    failures: int = 0
    #: How often it was alone on a worker that died.
    deaths: int = 0
    #: It was on a worker that died: until it has ended, it is on a worker alone.
    is_suspect: bool = False
    #: The stored value that it has made; and whether it is to make that again, as it is lost.
    result: Stored | None = None
    is_made_again: bool = False
    #: How often that could not be had, though its node was there.
    losses: int = 0
    #: Of a generator: what has come of its results; the number of those that have come, and of those that may still.
    results: Scope | None = None
    given: int = 0
    credit: int = 0
    #: The number of the message, to the worker that has it, that it was sent with.
    message: int = 0
    #: That of the last `GenerateMore`, which is sent only when no credit is left.
    credit_message: int = -1
    #: The stored values that it was sent with.
    needs: Sequence[Index] = ()
    #: The time at which it began to wait at its stage, and at which it was given to a worker.
    queued_at: float = 0.0
    given_at: float = 0.0
    #: `finish` is called, and not the code.
    is_finish: bool = False

    def is_of(self, number: int) -> bool:
        """True if it is a part of this item. Calls of `finish` are parts of none."""
        return bool(self.key) and self.key[0] <= number < self.key[0] + self.size

    def offset_of(self, number: int) -> int:
        """The number of items before one that it is about."""
        return number - self.key[0]

    @property
    def results_alive(self) -> int:
        """The results of a generator that goes on of which something is alive."""
        return 0 if self.results is None else self.results.alive - 1
