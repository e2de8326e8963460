"""Events that the machine of a run takes, and effects that it returns."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.facts.grown_graph import GrownGraph
from handoff_actors.core.run.facts.resumption import FoundResults
from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Attempt, FunctionId, Index, Resources
from handoff_actors.wire.messages.directions import AboutRun
from handoff_actors.wire.messages.jobs import Done
from handoff_actors.wire.messages.nested import Identified, Probe
from handoff_actors.wire.messages.runs import Assign, CancelJobs, Close, Copy, Drop, Recall, Stop

# --- Events -----------------------------------------------------------------------------------------------------


class MessageFromNode(Struct, frozen=True):
    """A node has sent a message about this run."""

    name: str
    message: AboutRun


class ResultFetched(Struct, frozen=True):
    """A stored value has arrived in the app."""

    index: Index
    #: None where the app has mapped the value of a node of its own, which takes no time.
    transfer: Transfer | None = None


class ResultFetchFailed(Struct, frozen=True):
    """None of its holders could give a stored value."""

    index: Index
    reason: str
    #: One may have it, and can't be reached.
    is_unreachable: bool = False


class RelayBegun(Struct, frozen=True):
    """A value is on its way through this process, from a node that has it to one that can't reach that."""

    index: Index
    holder: str
    #: The destination.
    name: str


class Cancel(Struct, frozen=True):
    """The caller wants no result any more; or, with an error, the shell can't go on."""

    error: HandoffError | None = None


class FunctionsRefused(Struct, frozen=True):
    """Some functions can't be sent to a node, or their environments can't: the error of each, which names it."""

    errors: Mapping[Index, HandoffError]


class Release(Struct, frozen=True):
    """After the end: the app needs no stored values any more."""


class RoomFreed(Struct, frozen=True):
    """Nodes may have room for functions of this run, or for some that wait elsewhere. See `SessionLoad.runs_to_tell`."""


class LetGo(Struct, frozen=True):
    """The app has no handles of these functions any more."""

    ids: Sequence[FunctionId]


class WantResults(Struct, frozen=True):
    """The app wants the values of these functions, now or as soon as they are done. Answered as for `FetchResult`."""

    ids: Sequence[FunctionId]


class CancelFunctions(Struct, frozen=True):
    """The app wants these functions not to run, or to stop, and with them all that depend on them."""

    ids: Sequence[FunctionId]


class EndGrowth(Struct, frozen=True):
    """Nothing will be added to the run any more: it is over once all of its functions are."""


class ResultsFound(Struct, frozen=True):
    """The answer to `FindResults`, with what it says."""

    name: str
    entry: Done
    graph: GrownGraph
    found: FoundResults


#: All but `Grow`: see `core.run.grow`.
PlainRunEvent = (
    NodeUp
    | NodeDown
    | MessageFromNode
    | ResultFetched
    | ResultFetchFailed
    | RelayBegun
    | FunctionsRefused
    | Cancel
    | Release
    | RoomFreed
    | LetGo
    | WantResults
    | CancelFunctions
    | EndGrowth
    | ResultsFound
)

# --- Effects ----------------------------------------------------------------------------------------------------


class SendToNode(Struct, frozen=True):
    """Say something to a node."""

    name: str
    message: Assign | Recall | CancelJobs | Copy | Drop | Stop | Close | Probe | Identified


class FetchResult(Struct, frozen=True):
    """Fetch a stored value into the app; answered by `ResultFetched` or `ResultFetchFailed`."""

    index: Index
    nbytes: int
    #: Names of nodes.
    holders: Sequence[str]


#: The `kind` of the public event that tells of it: "failed" is for good, "skipped" has not run, "lost" is
#: with its worker, its node or an input.
FunctionChange = Literal[
    "assigned",
    "started",
    "completed",
    "failed",
    "skipped",
    "retried",
    "recalled",
    "reused",
    "lost",
    "worker_retired",
]


class FunctionObserved(Struct, frozen=True):
    """For observers: a function has changed."""

    kind: FunctionChange
    index: Index
    node: str
    attempt: Attempt
    reason: str = ""


class TransferObserved(Struct, frozen=True):
    """For observers: a node has brought a value, or a large constant, into its store, or the app a value home."""

    index: Index
    #: `APP` for the app.
    name: str
    nbytes: int
    took_s: float


class RelayObserved(Struct, frozen=True):
    """For observers: a value is on its way to a node through the app."""

    index: Index
    holder: str
    name: str
    nbytes: int


class NodeJoinObserved(Struct, frozen=True):
    """For observers: a node takes part."""

    name: str
    capabilities: Resources


class NodeLeaveObserved(Struct, frozen=True):
    """For observers: a node is gone."""

    name: str
    reason: str


class FindResults(Struct, frozen=True):
    """An attempt at a node has ended with a graph: find out which of its functions were done before; see `ResultsFound`."""

    name: str
    entry: Done
    graph: GrownGraph


class ResultsTakenOver(Struct, frozen=True):
    """Encoded values of functions that need not run, which are not inline: the app has them from now on."""

    values: Mapping[Index, bytes | memoryview]


class RecordResults(Struct, frozen=True):
    """These functions are done, and their values are inline, in the app, or not wanted there: a journal may record them."""

    indices: Sequence[Index]


class FunctionsEnded(Struct, frozen=True):
    """These functions, which the app has handles of, have ended, well or not."""

    indices: Sequence[Index]


class FunctionsForgotten(Struct, frozen=True):
    """These functions are needed no more: other functions may have their indices from now on."""

    indices: Sequence[Index]
    #: Indices of values that the app itself has, and that no function takes any more.
    app_values: Sequence[Index]
    #: Functions that are kept as part of others' lineage, of which nobody needs the stored values.
    values: Sequence[Index] = ()
    #: The errors of those that functions have added, where no other function has failed for them.
    unseen: Sequence[HandoffError] = ()


class RunEnded(Struct, frozen=True):
    """The run is over. `cause` is the user's own exception, encoded, or b""."""

    error: HandoffError | None
    cause: bytes = b""
    cancelled: bool = False


class RunForgotten(Struct, frozen=True):
    """No node holds anything of the run any more."""


class TellOfRoom(Struct, frozen=True):
    """Give `RoomFreed` to each of `SessionLoad.runs_to_tell`, as soon as no machine is at work."""


class StartNode(Struct, frozen=True):
    """Have a node in this process: the run would wait for what its own ancestors hold for ever."""


#: Effects that only observers of the run need.
Observation = FunctionObserved | TransferObserved | RelayObserved | NodeJoinObserved | NodeLeaveObserved
RunEffect = (
    SendToNode
    | FetchResult
    | Observation
    | FindResults
    | ResultsTakenOver
    | RecordResults
    | FunctionsEnded
    | FunctionsForgotten
    | TellOfRoom
    | StartNode
    | RunEnded
    | RunForgotten
)
