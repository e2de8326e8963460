"""What happens to a node beside the messages that it gets, and what it may decide to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handoff_actors.ids import Attempt, Index, PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages import NO_TRACES, Done, FromNode, Job, Template, Ticket, ToNode, Traces

# --- Events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """Somebody has been welcomed. A peer without a lease lives in this process: it can't vanish unnoticed."""

    peer: PeerId
    has_lease: bool = True
    #: What it calls itself.
    name: str = ""


@dataclass(frozen=True, slots=True)
class PeerLost:
    """Nothing reaches it any more."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Received:
    """A message from a peer that has been welcomed."""

    peer: PeerId
    message: ToNode


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker that was asked for is there."""

    worker: WorkerId
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerDone:
    """A worker has finished functions of one run. The `worker` field of each entry is its pid."""

    worker: WorkerId
    run: RunId
    done: Sequence[Done]


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker is through with a function, without a value. `kind` as in `Failed`, or "cancelled"."""

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt
    kind: str
    error: bytes
    reason: str
    ran_s: float
    traces: Traces = NO_TRACES


@dataclass(frozen=True, slots=True)
class WorkerRecalled:
    """A worker gives back functions that it has not started."""

    worker: WorkerId
    jobs: Sequence[tuple[RunId, Ticket]]


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker process has ended; all that it ever said has been handled."""

    worker: WorkerId
    signal: int | None
    exit_code: int | None
    traces: Traces = NO_TRACES


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """How much memory each worker has, with what it has started, and how much of the machine's is left."""

    #: When the look began.
    began_at: float
    used: Mapping[WorkerId, int]
    available_nbytes: int
    total_nbytes: int


@dataclass(frozen=True, slots=True)
class InputFetched:
    """A value that was elsewhere is in the store now."""

    run: RunId
    index: Index
    nbytes: int


@dataclass(frozen=True, slots=True)
class InputMissing:
    """None of its holders could give a value."""

    run: RunId
    index: Index
    reason: str
    #: It could be had, but there is no room for it here.
    has_no_room: bool = False


@dataclass(frozen=True, slots=True)
class ValueSpilled:
    """A stored value is on disk now, and takes no memory."""

    run: RunId
    index: Index


@dataclass(frozen=True, slots=True)
class SpillFailed:
    """The disk did not take a stored value, which is where it was."""

    run: RunId
    index: Index
    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Take no more work, finish what there is, then say `Left`."""


NodeEvent = (
    PeerConnected
    | PeerLost
    | Received
    | WorkerUp
    | WorkerDone
    | WorkerFailed
    | WorkerRecalled
    | WorkerExited
    | MemorySampled
    | InputFetched
    | InputMissing
    | ValueSpilled
    | SpillFailed
    | Leave
)

# --- Effects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """Say something to a peer."""

    peer: PeerId
    message: FromNode


@dataclass(frozen=True, slots=True)
class SpawnWorker:
    """Start a worker; answered by `WorkerUp`, or by `WorkerExited` if that fails."""

    worker: WorkerId
    is_async: bool


@dataclass(frozen=True, slots=True)
class Give:
    """Hand functions to a worker. `devices` are the GPUs it may see; None: no claim on GPUs."""

    worker: WorkerId
    run: RunId
    templates: Mapping[int, Template]
    jobs: Sequence[Job]
    devices: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class RecallWorker:
    """Ask a worker to give back what it has not started."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class CancelCoroutine:
    """Cancel one coroutine on an async worker; answered by `WorkerFailed`, or by `WorkerDone` if it was too late."""

    worker: WorkerId
    run: RunId
    index: Index
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End a worker, whatever it does; answered by `WorkerExited`."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class FetchInput:
    """Bring a value into the store; answered by `InputFetched` or `InputMissing`. `peer` sent the function."""

    peer: PeerId
    run: RunId
    index: Index
    nbytes: int
    holders: Sequence[str]


@dataclass(frozen=True, slots=True)
class KeepValue:
    """A worker's stored result counts from now on."""

    run: RunId
    index: Index
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DiscardValue:
    """A worker's stored result came too late to count."""

    run: RunId
    index: Index
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class SpillValue:
    """Move a stored value to disk; answered by `ValueSpilled` or `SpillFailed`, or not if its run is forgotten first."""

    run: RunId
    index: Index


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """Drop its values, its fetches and whatever workers know of it."""

    run: RunId


@dataclass(frozen=True, slots=True)
class ForgetPeer:
    """A peer has left, or its lease has ended, and nothing of it is left here: it has to introduce itself anew."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Advertise:
    """Tell everybody how it stands."""

    capabilities: Resources
    spare: Resources
    workers: int
    running: int
    queued: int
    stored: int
    leaving: bool


@dataclass(frozen=True, slots=True)
class Left:
    """The node that was told to leave has nothing more to do."""


NodeEffect = (
    Reply
    | SpawnWorker
    | Give
    | RecallWorker
    | CancelCoroutine
    | KillWorker
    | FetchInput
    | KeepValue
    | DiscardValue
    | SpillValue
    | ForgetRun
    | ForgetPeer
    | Advertise
    | Left
)
