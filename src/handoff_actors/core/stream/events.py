"""The events and effects of a stream's machine."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from handoff_actors.errors import HandoffError
from handoff_actors.ids import Attempt, Index
from handoff_actors.wire.messages.stage_rows import ToStage

#: The number of a vertex in the stream's plan.
Vertex: TypeAlias = int


class Stored(Struct, frozen=True):
    """A value that is in the store of a node; node "": in the app."""

    index: Index
    nbytes: int
    node: str


class ItemChunk(Struct, frozen=True):
    """The values of several items that follow one another, which go on as one for as long as all goes well."""

    values: Sequence[bytes]

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(map(len, self.values))


#: Who gets the results of plain pushes, and of `finish`: whoever iterates over the stream itself.
FINISH_OWNER = 0


class ItemFailure(Struct, frozen=True):
    """Why an item has no value. See `FailureRow`."""

    kind: str
    #: The encoded exception, or b"" where there is none.
    error: bytes
    #: For people.
    reason: str
    #: Why `retry_on` allows no further try; "": it allows one.
    not_retried: str = ""
    #: The stage at which it failed; None: the stream itself, at a join or the output.
    stage: Vertex | None = None
    #: How often it was tried.
    attempts: int = 1
    #: The node on which it failed last; "": none, or it is not known.
    node: str = ""


class ItemSkipped(Struct, frozen=True):
    """The item ends here without a value, as its code has returned SKIP."""


SKIPPED = ItemSkipped()
ItemOutcome: TypeAlias = bytes | Stored | ItemChunk | ItemFailure | ItemSkipped


class LanePlace(Struct, frozen=True):
    """The worker of a stage: one attempt at the function that it runs."""

    node: str
    index: Index
    attempt: Attempt


# --- Events -----------------------------------------------------------------------------------------------------


class LaneUp(Struct, frozen=True):
    """A worker of a stage has made its state, and takes items. It replaces any earlier one of the same lane."""

    stage: Vertex
    lane: int
    place: LanePlace


class LaneLost(Struct, frozen=True):
    """The function of a lane has ended for good with an error. Nothing of it comes any more."""

    stage: Vertex
    lane: int
    error: HandoffError
    #: True: its process or its node was lost; False: its code has raised, or can't be had, before it took items.
    is_loss: bool


class LaneClosed(Struct, frozen=True):
    """The function of a lane has ended well, after `CloseStage`, or because it was stopped."""

    stage: Vertex
    lane: int


class StageEnd(Struct, frozen=True):
    """An item has ended at a stage with this outcome."""

    number: int
    outcome: ItemOutcome
    #: The hash of the key of the result for each stage that takes it by key, in the order of the plan.
    keys: Sequence[int] = ()


class StageEnded(Struct, frozen=True):
    """Items have ended on a lane, in this order."""

    place: LanePlace
    ends: Sequence[StageEnd]
    seconds: float
    has_replaced_state: bool = False


class StageChunkEnded(Struct, frozen=True):
    """The next items of a chunk have ended on a lane, in this order."""

    place: LanePlace
    number: int
    outcomes: Sequence[ItemOutcome]
    seconds: float
    has_replaced_state: bool = False


class StageGenerated(Struct, frozen=True):
    """A generator, or `finish`, has given results, in order."""

    place: LanePlace
    number: int
    results: Sequence[StageEnd]
    is_end: bool
    failure: ItemFailure | None
    seconds: float
    has_replaced_state: bool = False


class InputLost(Struct, frozen=True):
    """A value could not be brought to a lane; it has not got what it was sent last, and what was sent behind that."""

    place: LanePlace
    index: Index
    reason: str


class ResultLost(Struct, frozen=True):
    """A result that was handed out, or what has come in its place since, could not be brought into the app."""

    value: Stored
    reason: str


class NewItem(Struct, frozen=True, gc=False):
    """An item that the app pushes. There are many, and nothing in them leads back to one: the garbage collector need not look."""

    #: The machine's `next_number` for the first one, then one more for each.
    number: int
    #: Who gets its results.
    owner: int
    #: By input, in the order of the plan: the value, and the hash of its key for each stage that takes it by key.
    values: Sequence[tuple[bytes | Stored, Sequence[int]]]


class Pushed(Struct, frozen=True):
    """The app has pushed items, for which there is room."""

    items: Sequence[NewItem]


class Taken(Struct, frozen=True):
    """The app has taken so many results of an owner: there is room for others."""

    owner: int
    results: int


class OwnerGone(Struct, frozen=True):
    """An owner takes no more results: drop those that it has not taken, also those to come."""

    owner: int


class NodeGone(Struct, frozen=True):
    """A node is gone, and with it the values in its store."""

    name: str


class NodeLeaving(Struct, frozen=True):
    """A node drains, and there are others: workers of stages had better be elsewhere."""

    name: str


class ModulesAdded(Struct, frozen=True):
    """Items that are pushed from now on are of modules that the workers do not have, but those that start now do."""


class DrainStream(Struct, frozen=True):
    """Nothing more is pushed: finish what there is, then say `StreamDrained`."""


class AbortStream(Struct, frozen=True):
    """Drop everything. Answered by no effect."""


StreamEvent = (
    LaneUp
    | LaneLost
    | LaneClosed
    | StageEnded
    | StageChunkEnded
    | StageGenerated
    | InputLost
    | ResultLost
    | Pushed
    | Taken
    | OwnerGone
    | NodeGone
    | NodeLeaving
    | ModulesAdded
    | DrainStream
    | AbortStream
)

# --- Effects ----------------------------------------------------------------------------------------------------


class SendToStage(Struct, frozen=True):
    """Send rows to the worker of a stage, behind all that were sent before."""

    place: LanePlace
    rows: Sequence[ToStage]
    #: The stored values among them, wherever they are.
    needs: Sequence[Stored]


class StartLane(Struct, frozen=True):
    """Start a worker of a stage; answered by `LaneUp` or `LaneLost`."""

    stage: Vertex
    lane: int


class StopLane(Struct, frozen=True):
    """Stop a worker at once, whatever it does; answered by `LaneClosed` or `LaneLost`."""

    stage: Vertex
    lane: int


class DropValues(Struct, frozen=True):
    """Nothing needs these values any more, on their nodes or in the app."""

    values: Sequence[Stored]


class StreamResult(Struct, frozen=True):
    """One result of one item, or of each item of a chunk."""

    #: The number of the push that it comes from, or the first of those.
    number: int
    #: By sink; or the failure of the item.
    outcome: Mapping[Vertex, bytes | Stored | ItemChunk | ItemSkipped] | ItemFailure

    @property
    def size(self) -> int:
        """The number of items that it is of."""
        values = () if isinstance(self.outcome, ItemFailure) else self.outcome.values()
        return max((len(value.values) for value in values if isinstance(value, ItemChunk)), default=1)


class ResultsReady(Struct, frozen=True):
    """Results for an owner, in order. Each counts as in flight until it is `Taken`."""

    owner: int
    results: Sequence[StreamResult]


class ItemOut(Struct, frozen=True):
    """All results of an item have been taken: no more of it come. With a count, so for all items that it has from there on."""

    owner: int
    number: int
    count: int = 1


class PushRoomFreed(Struct, frozen=True):
    """The machine `has_room` for another item again."""


class StreamFailed(Struct, frozen=True):
    """The stream can't go on; nothing more is decided."""

    error: HandoffError


class StreamDrained(Struct, frozen=True):
    """All results have been taken, and all stages are closed."""


#: An item is tried again, or has failed for good.
ItemChange: TypeAlias = Literal["retried", "failed"]


class ItemObserved(Struct, frozen=True):
    """For `on_event`: an attempt at an item has failed."""

    change: ItemChange
    number: int
    #: None: the stream itself, where the results are joined.
    stage: Vertex | None
    #: "": none, or it is not known.
    node: str
    attempt: int
    #: As of `ItemFailure`.
    failure_kind: str
    reason: str


class WorkerObserved(Struct, frozen=True):
    """For `on_event`: a worker of a stage takes items, or no more of them, for this reason."""

    stage: Vertex
    lane: int
    node: str
    is_up: bool
    reason: str = ""


StreamEffect = (
    SendToStage
    | StartLane
    | StopLane
    | DropValues
    | ResultsReady
    | ItemOut
    | PushRoomFreed
    | StreamFailed
    | StreamDrained
    | ItemObserved
    | WorkerObserved
)
