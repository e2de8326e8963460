"""The events and effects of a node's machine."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from handoff_actors.core.node.stage_events import DiscardItems, PassRows, StageAnswered
from handoff_actors.ids import Attempt, Index, PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.jobs import (
    NO_TRACES,
    Done,
    Job,
    OwnModules,
    Said,
    Template,
    Ticket,
    Traces,
    ValueOf,
)
from handoff_actors.wire.messages.members import WarmCopies
from handoff_actors.wire.messages.runs import FailureKind

# --- Events -----------------------------------------------------------------------------------------------------


class PeerConnected(Struct, frozen=True):
    """A peer has been welcomed. One without a lease lives in this process, and can't vanish unnoticed."""

    peer: PeerId
    has_lease: bool = True
    #: The name in its `Hello`.
    name: str = ""


class MembersCounted(Struct, frozen=True):
    """The number of other members, which all receive the node's adverts, has changed."""

    members: int


class PeerLost(Struct, frozen=True):
    """A peer can't be reached any more."""

    peer: PeerId


class MessageFromPeer(Struct, frozen=True):
    """A message from a peer that has been welcomed."""

    peer: PeerId
    message: ToNode


class WorkerUp(Struct, frozen=True):
    """A worker that was asked for is ready."""

    worker: WorkerId
    pid: int


class WorkerDone(Struct, frozen=True):
    """A worker has finished functions of one run. The `worker` field of each entry is its pid."""

    worker: WorkerId
    run: RunId
    done: Sequence[Done]


class WorkerFailed(Struct, frozen=True):
    """The attempt failed; the worker survives."""

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt
    kind: FailureKind
    error: bytes
    reason: str
    ran_s: float
    traces: Traces = NO_TRACES


class WorkerRecalled(Struct, frozen=True):
    """A worker has given back functions that it had not started."""

    worker: WorkerId
    jobs: Sequence[tuple[RunId, Ticket]]


class WorkerExited(Struct, frozen=True):
    """A worker process has ended; all that it ever said has been handled."""

    worker: WorkerId
    signal: int | None
    exit_code: int | None
    traces: Traces = NO_TRACES


class OutputReceived(Struct, frozen=True):
    """Functions of one run have printed, logged or reported something."""

    run: RunId
    said: Sequence[Said]


class IdAsked(Struct, frozen=True):
    """A function that a worker runs asks for its id; to be answered by `TellId`."""

    run: RunId
    index: Index
    attempt: Attempt


class WorkerUnfit(Struct, frozen=True):
    """A function has left a worker in a state that can't be mended: it must run no further one.

    A sync worker has ended with that; an async worker goes on with the functions that it has.
    """

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt
    #: For people.
    reason: str


class NestedWaitBegan(Struct, frozen=True):
    """A function has begun a run on the cluster, and waits for it."""

    run: RunId
    index: Index
    attempt: Attempt
    #: It is a coroutine that may hold up its event loop meanwhile: a thread of its own has begun the run.
    may_hold_up_loop: bool = False


class NestedWaitEnded(Struct, frozen=True):
    """A run that a function has begun is over, so that the function goes on. Comes once for each `NestedWaitBegan`."""

    run: RunId
    index: Index
    attempt: Attempt
    #: As when it began.
    may_hold_up_loop: bool = False


class ObjectMade(Struct, frozen=True):
    """A worker has made an object that it keeps, for a function that it is running: see `WarmObject`."""

    worker: WorkerId
    key: bytes
    #: Memory that its process has taken up meanwhile.
    nbytes: int


class WorkersSampled(Struct, frozen=True):
    """Memory and CPU time were measured: of each worker with the processes it has started, and memory of the machine."""

    #: When the measurement began.
    began_at: float
    used: Mapping[WorkerId, int]
    available_nbytes: int
    total_nbytes: int
    #: CPU time that each worker has used in its life, or waited for, in seconds.
    cpu_s: Mapping[WorkerId, float] = {}


class InputFetched(Struct, frozen=True):
    """A value has been fetched into the store."""

    run: RunId
    index: Index
    nbytes: int
    #: Nothing was brought, as workers import modules of the same sources by themselves.
    is_importable: bool = False
    #: The value of another run whose file it is, too; None: it has a file of its own.
    shared_with: tuple[RunId, Index] | None = None


class InputMissing(Struct, frozen=True):
    """A value could not be fetched from any of its holders."""

    run: RunId
    index: Index
    reason: str
    #: "input": none of them has it; "unreachable": one may have it, and can't be reached; "store": there is no room for it here.
    kind: Literal["input", "unreachable", "store"] = "input"


class ValueSpilled(Struct, frozen=True):
    """A stored value has been moved to disk."""

    run: RunId
    index: Index


class SpillFailed(Struct, frozen=True):
    """A stored value could not be moved to disk, and is still in memory."""

    run: RunId
    index: Index
    reason: str


class StoreLost(Struct, frozen=True):
    """The store's directory in memory, or only the one for spilled values, was removed. It is there again, empty."""

    in_memory: bool


class ValueMissing(Struct, frozen=True):
    """The file of a value is not in the store."""

    run: RunId
    index: Index


class Leave(Struct, frozen=True):
    """The node is told to leave: accept no more work, finish what there is, then say `LeaveCompleted`."""


NodeEvent = (
    PeerConnected
    | PeerLost
    | MembersCounted
    | MessageFromPeer
    | WorkerUp
    | WorkerDone
    | WorkerFailed
    | WorkerRecalled
    | WorkerExited
    | WorkerUnfit
    | NestedWaitBegan
    | NestedWaitEnded
    | ObjectMade
    | OutputReceived
    | IdAsked
    | StageAnswered
    | WorkersSampled
    | InputFetched
    | InputMissing
    | ValueSpilled
    | SpillFailed
    | StoreLost
    | ValueMissing
    | Leave
)

# --- Effects ----------------------------------------------------------------------------------------------------


class Reply(Struct, frozen=True):
    """Send a message to a peer."""

    peer: PeerId
    message: FromNode


class ReportProtocolError(Struct, frozen=True):
    """Count and log a message that is not in the protocol."""

    peer: PeerId
    reason: str


class SpawnWorker(Struct, frozen=True):
    """Start a worker; answered by `WorkerUp`, or by `WorkerExited` if that fails."""

    worker: WorkerId
    is_async: bool


class RunJobs(Struct, frozen=True):
    """Hand functions to a worker. `devices` are the GPUs it may see; None: no claim on GPUs."""

    worker: WorkerId
    run: RunId
    templates: Mapping[int, Template]
    jobs: Sequence[Job]
    devices: tuple[int, ...] | None


class RecallWorker(Struct, frozen=True):
    """Ask a worker to give back what it has not started."""

    worker: WorkerId


class CancelCoroutine(Struct, frozen=True):
    """Cancel one coroutine on an async worker; answered by `WorkerFailed`, or by `WorkerDone` if it was too late."""

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt


class KillWorker(Struct, frozen=True):
    """End a worker, whatever it does; answered by `WorkerExited`."""

    worker: WorkerId


class TellId(Struct, frozen=True):
    """Tell the id of a function to the worker that asked; None: it can't be had."""

    run: RunId
    index: Index
    attempt: Attempt
    function_id: str | int | None


class LogRetirement(Struct, frozen=True):
    """Log that a worker is retired, and why: the run that is to know has ended."""

    worker: WorkerId
    reason: str


class LogDeath(Struct, frozen=True):
    """Log that a worker has died unasked, or was killed for the memory that it used."""

    end: WorkerExited
    #: Why it was killed, for people; "" if nobody did it on purpose.
    reason: str
    #: The attempts that it held, the one that ran first; and the seconds that this one had run for. None: it was idle.
    held: Sequence[tuple[RunId, Ticket]]
    ran_s: float | None


class LogRunOpened(Struct, frozen=True):
    """Log that a run has begun here."""

    run: RunId
    dag_name: str
    #: The name of the client that asked for it.
    owner: str


class LogSpill(Struct, frozen=True):
    """Log that values have begun to be moved to disk, that this has ended for now, or that the disk takes no more."""

    change: Literal["begun", "ended", "refused"]
    #: Bytes in memory, and the limit.
    held_nbytes: int
    limit_nbytes: int
    #: The values moved since it began, their bytes, and the seconds since then.
    values: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    #: Why the disk takes no more.
    reason: str = ""


class FetchInput(Struct, frozen=True):
    """Bring a value into the store; answered by `InputFetched` or `InputMissing`. `peer` sent the function."""

    peer: PeerId
    run: RunId
    index: Index
    nbytes: int
    holders: Sequence[str]
    #: Where there is a directory of this path, nothing need be brought; b"": in any case.
    directory: bytes = b""
    #: As in `Ref`.
    version: int = 0
    #: Where workers would import the same sources, nothing need be brought; None: in any case.
    modules: OwnModules | None = None
    #: The name by which the holders have it; None: the same.
    source: ValueOf | None = None
    #: It is in the store under that name.
    is_here: bool = False


class KeepValue(Struct, frozen=True):
    """Keep a worker's stored result as the value of its function."""

    run: RunId
    index: Index
    attempt: Attempt


class DiscardValue(Struct, frozen=True):
    """Delete a worker's stored result that does not count."""

    run: RunId
    index: Index
    attempt: Attempt


class SpillValue(Struct, frozen=True):
    """Move a stored value to disk; answered by `ValueSpilled` or `SpillFailed`, or not if its run is forgotten first."""

    run: RunId
    index: Index


class CheckValue(Struct, frozen=True):
    """Look whether a value is in the store; answered by `ValueMissing` if it is not."""

    run: RunId
    index: Index


class ForgetValues(Struct, frozen=True):
    """Drop stored values of a run that goes on, and cancel fetches."""

    run: RunId
    stored: Sequence[Index]
    fetches: Sequence[Index]


class ForgetTemplates(Struct, frozen=True):
    """Drop templates of a run that goes on, on workers too, and sets of modules that no other template of it needs."""

    run: RunId
    numbers: Sequence[int]
    #: Their keys.
    modules: Sequence[bytes]


class ForgetRun(Struct, frozen=True):
    """Drop a run's values, its fetches and its templates on workers."""

    run: RunId


class ForgetPeer(Struct, frozen=True):
    """Forget a peer that is gone, once nothing of it is left here. It has to introduce itself anew."""

    peer: PeerId
    #: It has said so; else its lease has ended, or its connection has broken.
    has_left: bool


class Advertise(Struct, frozen=True):
    """Publish the node's load to all members."""

    capabilities: Resources
    spare: Resources
    workers: int
    running: int
    queued: int
    stored: int
    leaving: bool
    #: Sync functions that run or wait, the sum of the claims of all functions that wait, and the most workers.
    busy: int
    waiting_claims: Resources
    most_workers: int
    #: As in `Advert`.
    out_of_use: str = ""
    #: The time at which the node begins to leave by itself; None: no end is known.
    ends_at: float | None = None
    warm: Sequence[WarmCopies] = ()


class LeaveDue(Struct, frozen=True):
    """The node should be told to leave now, for this reason."""

    reason: str


class LeaveCompleted(Struct, frozen=True):
    """The node was told to leave and has nothing more to do."""


LogEffect = LogRetirement | LogDeath | LogRunOpened | LogSpill

NodeEffect = (
    Reply
    | ReportProtocolError
    | SpawnWorker
    | RunJobs
    | PassRows
    | RecallWorker
    | CancelCoroutine
    | KillWorker
    | TellId
    | LogEffect
    | FetchInput
    | KeepValue
    | DiscardValue
    | DiscardItems
    | SpillValue
    | CheckValue
    | ForgetValues
    | ForgetTemplates
    | ForgetRun
    | ForgetPeer
    | Advertise
    | LeaveCompleted
    | LeaveDue
)
