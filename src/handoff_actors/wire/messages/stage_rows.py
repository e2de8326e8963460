"""The rows between the app of a stream and the workers of its stages; `workers.stage_protocol` has their form.

The last field of a row is a tag that says which one it is among those of its direction. Items have numbers of their own, unique
in their stream: an answer names the item that it is about. Workers import this module, so it needs no other package.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from handoff_actors.ids import Index  # noqa: TC001 - workers read the fields of NamedTuples

#: A value: encoded, or the index and the size in bytes of one that is in the store of the node.
ValueRow: TypeAlias = "bytes | tuple[Index, int]"
#: Kind (see `WorkerFailureKind`), encoded exception, reason for people, and why `retry_on` allows no further try ("": it does).
FailureRow: TypeAlias = tuple[str, bytes, str, str]
#: A value, None for SKIP, or a failure.
OutcomeRow: TypeAlias = "ValueRow | FailureRow | None"

# --- App to stage -----------------------------------------------------------------------------------------------------


class RunItem(NamedTuple):
    """Call the code with the values of one item; answered by an entry of `ItemsEnded`."""

    number: int
    #: One for each producer of the stage, in the order of its plan.
    values: Sequence[ValueRow]
    tag: int = 1


class RunChunk(NamedTuple):
    """Call the code with the only value of each of several items, a chunk; answered by one or more `ChunkEnded`."""

    number: int
    values: Sequence[bytes]
    tag: int = 7


class RunBatch(NamedTuple):
    """Call the code once with a list of items; answered by an entry of `ItemsEnded` for each, and `ChunkEnded` for each chunk."""

    #: Each with its number and its values.
    items: "Sequence[tuple[int, Sequence[ValueRow]]]"
    #: The numbers of those among them that are chunks.
    chunks: Sequence[int] = ()
    tag: int = 2

    @property
    def values(self) -> "list[Sequence[ValueRow]]":
        """The values of each item, also of those in chunks."""
        flat: list[Sequence[ValueRow]] = []
        for number, values in self.items:
            flat += [(value,) for value in values] if number in self.chunks else [values]
        return flat


class Generate(NamedTuple):
    """Call the code, a generator function, with the values of one item; answered by `Generated`.

    The first `skipped` results are not sent, as they have been before; then so many are as `credit` says.
    """

    number: int
    values: Sequence[ValueRow]
    skipped: int
    credit: int
    tag: int = 3


class GenerateMore(NamedTuple):
    """Allow a generator so many more results; answered by `Generated`. A credit of 0 closes it, unanswered."""

    number: int
    credit: int
    tag: int = 4


class FinishStage(NamedTuple):
    """Call `finish` with the state, as no item follows; what it gives is answered by `Generated` under this number."""

    number: int
    credit: int
    tag: int = 5


class CloseStage(NamedTuple):
    """Call `close` with the state, and end the function well."""

    tag: int = 6


ToStage = RunItem | RunChunk | RunBatch | Generate | GenerateMore | FinishStage | CloseStage

# --- Stage to app -----------------------------------------------------------------------------------------------------


class StageReady(NamedTuple):
    """The worker has made its state, and takes items."""

    stage: int
    lane: int
    tag: int = 1


class ItemEnd(NamedTuple):
    """An item has ended at a stage with this outcome."""

    number: int
    outcome: OutcomeRow
    #: The hash of the key of the result for each stage that takes it by key.
    keys: Sequence[int] = ()


class ItemsEnded(NamedTuple):
    """Items have ended, in this order."""

    #: As `ItemEnd`.
    ends: "Sequence[tuple[int, OutcomeRow, Sequence[int]]]"
    #: The time that the code took, over all of them.
    seconds: float
    #: The code has returned another object as its state than it was given.
    has_replaced_state: bool
    tag: int = 2


class ChunkEnded(NamedTuple):
    """The next items of a chunk have ended, in this order."""

    number: int
    outcomes: "Sequence[OutcomeRow]"
    #: As in `ItemsEnded`.
    seconds: float
    has_replaced_state: bool
    tag: int = 4


class Generated(NamedTuple):
    """Results of a generator, in order. The first behind those that were skipped or sent before."""

    number: int
    #: Each with the keys of `ItemEnd`.
    results: "Sequence[tuple[OutcomeRow, Sequence[int]]]"
    #: True: no more follow.
    is_end: bool
    #: Why it has ended early.
    failure: "FailureRow | None"
    seconds: float
    has_replaced_state: bool
    tag: int = 3


FromStage = StageReady | ItemsEnded | ChunkEnded | Generated
